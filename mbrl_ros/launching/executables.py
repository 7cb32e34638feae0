"""How a node of a package is started, and what its process needs to find the ROS 2 libraries."""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from mbrl_ros.config import suggestion
from mbrl_ros.errors import LaunchError
from mbrl_ros.resources import PACKAGE, share_directory

#: The nodes of this package by executable name, and the module whose `main` runs each.
NODES = {
    'arm_simulator': 'mbrl_sim.arm_simulator_node',
    'state_estimator': 'mbrl_ros.nodes.state_estimator_node',
    'experience_logger': 'mbrl_ros.nodes.experience_logger_node',
    'model_trainer': 'mbrl_ros.nodes.model_trainer_node',
    'mpc_controller': 'mbrl_ros.nodes.mpc_controller_node',
    'episode_manager': 'mbrl_ros.nodes.episode_manager_node',
    'scripted_demonstrator': 'mbrl_ros.nodes.scripted_demonstrator_node',
    'keyboard_teleop': 'mbrl_ros.nodes.keyboard_teleop_node',
}

#: Names the process whose end ends a node, too; set by the supervisor, read by `mbrl_ros.cli.node`.
SUPERVISOR_VARIABLE = 'MBRL_SUPERVISOR_PID'
#: Says that whatever has started a node or command ends it, too; set by the launch files, as ROS 2's own launch names no process.
END_WITH_PARENT_VARIABLE = 'MBRL_END_WITH_PARENT'
_PR_SET_PDEATHSIG = 1


def command(package: str, executable: str, environment: Mapping[str, str]) -> list[str]:
    """Words that start `executable` of `package`; nodes of this package run in this very interpreter's environment.

    Raises:
        LaunchError: There is no such executable; the text names those that exist.
    """
    if package == PACKAGE:
        if executable not in NODES:
            raise LaunchError(f'{PACKAGE} has no executable {executable!r}{suggestion(executable, NODES)}')
        return [sys.executable, '-m', 'mbrl_ros.cli.node', executable]
    for prefix in filter(None, environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        folder = Path(prefix) / 'lib' / package
        if os.access(folder / executable, os.X_OK):
            return [str(folder / executable)]
        if folder.is_dir():
            known = sorted(path.name for path in folder.iterdir() if os.access(path, os.X_OK))
            raise LaunchError(f'{package} has no executable {executable!r}{suggestion(executable, known)}')
    raise LaunchError(f'there is no ROS package {package!r} with executables')


def ros_environment(base: Mapping[str, str], prefix: Path = Path(sys.prefix)) -> dict[str, str]:
    """Environment for ROS processes: `base`, completed by what an installation of the ROS 2 wheels needs.

    Args:
        base: Environment so far; what it sets stays.
        prefix: Root of the Python environment that the wheels may be in.
    """
    found = dict(base)
    if (prefix / 'share' / 'ament_index').is_dir():
        found['AMENT_PREFIX_PATH'] = _with(found.get('AMENT_PREFIX_PATH', ''), prefix)
        found['LD_LIBRARY_PATH'] = _with(found.get('LD_LIBRARY_PATH', ''), prefix / 'lib')
    # A stack that commands an arm is for this machine alone unless its user says otherwise.
    found.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if found['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST' and _uses_stock_fast_dds(found):
        # The same range, but with a transport that a killed process leaves intact; the file says why.
        found['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SYSTEM_DEFAULT'
        found['FASTDDS_DEFAULT_PROFILES_FILE'] = str(share_directory() / 'config' / 'dds' / 'this_machine.xml')
    found.setdefault('PYTHONUNBUFFERED', '1')
    return found


def end_with_parent() -> None:
    """Ask the kernel for SIGINT when whatever started this process ends, where one of the two variables above says so."""
    if sys.platform.startswith('linux') and not os.environ.keys().isdisjoint({SUPERVISOR_VARIABLE, END_WITH_PARENT_VARIABLE}):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _uses_stock_fast_dds(environment: Mapping[str, str]) -> bool:
    """Whether nobody has arranged the network otherwise."""
    arranged = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE', 'ROS_DISCOVERY_SERVER', 'ROS_STATIC_PEERS')
    return environment.get('RMW_IMPLEMENTATION') in (None, '', 'rmw_fastrtps_cpp') and not any(map(environment.get, arranged))


def _with(paths: str, entry: Path) -> str:
    entries = [path for path in paths.split(os.pathsep) if path]
    return os.pathsep.join(entries if str(entry) in entries else [*entries, str(entry)])
