"""What this installation can do: its packages, compiled code, ROS 2 messages and real-time priority."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator

from mbrl_ros.errors import ConfigError
from mbrl_ros.resources import share_directory

#: What each extra is for, and a module that comes with it.
EXTRAS = {
    'ros': ('rclpy', 'nodes and launch files'),
    'solver': ('casadi', 'the agent solver_mpc'),
    'gym': ('mujoco', 'the MuJoCo simulator and environments of robotics'),
    'compare': ('stable_baselines3', 'curves of model-free methods beside ours'),
    'minari': ('minari', 'demonstrations from Minari'),
    'gpu': ('cuda', 'compiled predictions on a GPU'),
    'test': ('pytest', 'the tests'),
}
_MESSAGES_WITHIN_S = 20.0
#: A node that hears its own message, as two processes would, through the middleware; ends with 0 if it does.
_HEAR_YOURSELF = f'''
import sys, time, rclpy
from std_msgs.msg import String
rclpy.init()
node, heard = rclpy.create_node('mbrl_doctor'), []
node.create_subscription(String, '~/heard', heard.append, 1)
publisher, until = node.create_publisher(String, '~/heard', 1), time.monotonic() + {_MESSAGES_WITHIN_S / 2}
while not heard and time.monotonic() < until:
    publisher.publish(String(data='.'))
    rclpy.spin_once(node, timeout_sec=0.1)
sys.exit(not heard)
'''


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes:
        name: What.
        text: What was found, and what to do about it if it is missing.
        is_there: Whether it can be used.
        is_needed: Whether the package needs it.
    """

    name: str
    text: str
    is_there: bool = True
    is_needed: bool = True


def findings() -> Iterator[Finding]:
    """Look at everything, the quickest first; takes some seconds."""
    yield Finding('mbrl_ros', f'{importlib.metadata.version("mbrl_ros")}, Python {platform.python_version()}')
    yield _data()
    yield _torch()
    yield _compiled()
    yield from map(_extra, EXTRAS)
    if importlib.util.find_spec('rclpy'):
        yield _messages()
    yield _priority()


def _data() -> Finding:
    try:
        return Finding('data', f'launch files, settings and models in {share_directory()}')
    except ConfigError as error:
        return Finding('data', str(error), is_there=False)


def _torch() -> Finding:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU that it can use'
    processor = f'{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads'
    return Finding('torch', f'{torch.__version__}, {processor}, {gpu}')


def _compiled() -> Finding:
    from mbrl_ros.models.ensemble.kernels.native import fastest

    kind = fastest('float32')
    text = f'predictions and gradients are compiled ({kind})' if kind else (
        'none for this processor, so torch predicts, which takes longer; it needs AVX2, and a C compiler during the installation')
    return Finding('compiled code', text, is_there=kind is not None, is_needed=False)


def _extra(name: str) -> Finding:
    module, what = EXTRAS[name]
    is_there = importlib.util.find_spec(module) is not None
    return Finding(f'extra {name}', what if is_there else f"not installed: {what}; pip install '.[{name}]'", is_there=is_there,
                   is_needed=False)


def _messages() -> Finding:
    from mbrl_ros.launching.domain import OwnDomain
    from mbrl_ros.launching.executables import ros_environment

    domain = OwnDomain()
    environment = ros_environment({**os.environ, 'ROS_DOMAIN_ID': str(domain.number)})
    try:
        node = subprocess.run([sys.executable, '-c', _HEAR_YOURSELF], env=environment, timeout=_MESSAGES_WITHIN_S,
                              capture_output=True, text=True, check=False)
        if node.returncode == 0:
            return Finding('messages', 'a node hears what it publishes')
        return Finding('messages', node.stderr.strip().rpartition('\n')[2] or 'a node does not hear itself', is_there=False)
    except subprocess.TimeoutExpired:
        return Finding('messages', f'no answer of the middleware within {_MESSAGES_WITHIN_S:g} s', is_there=False)
    finally:
        domain.release()


def _priority() -> Finding:
    allowed = 99 if os.geteuid() == 0 else resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    text = f'SCHED_FIFO up to {allowed}' if allowed else (
        'not permitted, so other work on the machine delays the loop; see rtprio in limits.conf(5)')
    return Finding('real-time priority', text, is_there=allowed > 0, is_needed=False)
