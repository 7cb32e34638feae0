"""The launch files under ROS 2's own launch, where it is installed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from support.asserts import some

launch_pytest = pytest.importorskip('launch_pytest', reason="ROS 2's own launch (launch_pytest) is not installed")
plugin = pytest.importorskip('launch_pytest.plugin')
if pytest.version_tuple >= (8, 4) and not hasattr(plugin, 'get_launch_test_fixture_scope'):
    pytest.skip('this launch_pytest does not know the fixtures of pytest 8.4 and later', allow_module_level=True)

from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import AnyLaunchDescriptionSource  # noqa: E402

import launch  # noqa: E402
from mbrl_ros.launching import description, executables  # noqa: E402
from mbrl_ros.resources import share_directory  # noqa: E402

_FOLDER = share_directory() / 'launch'


def describe(name: str, **arguments: str) -> launch.LaunchDescription:
    source = AnyLaunchDescriptionSource(str(_FOLDER / name))
    return launch.LaunchDescription([
        IncludeLaunchDescription(source, launch_arguments=arguments.items()),
        launch_pytest.actions.ReadyToTest(),
    ])


@launch_pytest.fixture
def simulator():
    return describe('sim.launch.yaml', namespace='/own_launch', seed='3')


@launch_pytest.fixture
def demo(tmp_path_factory):
    return describe('demo.launch.yaml', namespace='/own_demo', episodes='2', output_dir=str(tmp_path_factory.mktemp('demo')))


@pytest.mark.launch(fixture=simulator)
def test_the_simulated_arm_runs_under_ros_2_launch(simulator):
    names = []
    hear('/own_launch/joint_states', 'sensor_msgs/JointState', lambda message: names.append(message.name), lambda: names)
    assert 'panda_joint1' in names[0]


@pytest.mark.launch(fixture=demo)
def test_the_whole_demo_runs_under_ros_2_launch(demo):
    steps = []

    def keep(message):
        values = {entry.key: entry.value for entry in message.status[0].values}
        steps.append(int(values['total_steps']))

    hear('/own_demo/episode', 'diagnostic_msgs/DiagnosticArray', keep, lambda: steps and steps[-1] > 10)
    assert steps == sorted(steps)


def hear(topic, kind, callback, done, timeout_s=90.0):
    """Listen to a topic until `done`; ROS is imported here, once its environment is set."""
    import importlib

    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor

    package, _, name = kind.partition('/')
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node('listener', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(getattr(importlib.import_module(f'{package}.msg'), name), topic, callback, 10)
    end_s = time.monotonic() + timeout_s
    while not done() and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    assert done(), f'nothing of it on {topic}'


@pytest.mark.parametrize('name', sorted(path.name for path in _FOLDER.glob('*.launch.yaml')))
def test_ros_2_launch_reads_the_same_arguments(name):
    theirs = AnyLaunchDescriptionSource(str(_FOLDER / name)).get_launch_description(launch.LaunchContext())
    ours = {argument.name: argument for argument in description.declared_arguments(_FOLDER / name, os.environ)}
    for argument in some(theirs.get_launch_arguments()):
        if argument.name in ours:
            assert argument.description.startswith(ours[argument.name].description)
            assert tuple(argument.choices or ()) == ours[argument.name].choices
    assert set(ours) <= {argument.name for argument in theirs.get_launch_arguments()}


#: In place of each node: keeps what it was given, and waits.
_STAND_IN = """#!{python}
import json, pathlib, signal, sys
import yaml

signal.signal(signal.SIGINT, lambda *_: sys.exit())
files = [name for word, name in zip(sys.argv, sys.argv[1:]) if word == '--params-file']
parts = [yaml.safe_load(pathlib.Path(name).read_text())['/**']['ros__parameters'] for name in files]
given = {{name: value for part in parts for name, value in part.items()}}
namespaces = [word for word in sys.argv if word.startswith('__ns:=')]
path = pathlib.Path(__file__).with_suffix('.json')
path.with_suffix('.part').write_text(json.dumps([given, namespaces]))
path.with_suffix('.part').rename(path)
signal.pause()
"""
_RUN = """
import sys
import launch
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

given = [tuple(word.split(':=', 1)) for word in sys.argv[2:]]
included = IncludeLaunchDescription(AnyLaunchDescriptionSource(sys.argv[1]), launch_arguments=given)
service = launch.LaunchService(noninteractive=True)
service.include_launch_description(launch.LaunchDescription([included]))
sys.exit(service.run())
"""


@pytest.mark.parametrize('words', [
    'sim.launch.yaml tabletop:=true rate_of:=push rate_hz:=0.0 video_path:=none seed:=1 gui:=true',
    'stack.launch.yaml driver:=franka task:=push actions:=joints learning:=false episodes:=2 seed:=1 namespace:=/left',
    'stack.launch.yaml driver:=simulated model:=lift rate_hz:=5 device:=cpu exit_when_finished:=true wait_for_operator:=true',
    'demo.launch.yaml robot:=iiwa episodes:=2 seed:=1 lockstep:=false namespace:=/right log_level:=debug',
    'demo_grasp.launch.yaml task:=push model:=none video_path:=none changed_mass:=[1.0,2.0]',
    'demonstrate.launch.yaml task:=push episodes:=2',
    'demonstrate.launch.yaml demonstrator:=keyboard seed:=7'])
def test_ros_2_launch_gives_every_node_the_same_parameters(tmp_path, words):
    name, *given = words.split()
    specs = description.resolve(_FOLDER / name, description.parse_given(given), os.environ, tmp_path)
    ours = {}
    for spec in specs:
        pairs = [word.split(':=', 1) for flag, word in zip(spec.command, spec.command[1:]) if flag == '-p']
        namespaces = [word for word in spec.command if word.startswith('__ns:=')]
        ours[spec.name.rpartition('-')[0]] = [{key: yaml.safe_load(value) for key, value in pairs}, namespaces]
    places = [tmp_path / 'lib' / 'mbrl_ros', tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages']
    for place in places:
        place.mkdir(parents=True)
    (places[1] / 'mbrl_ros').touch()
    (tmp_path / 'share' / 'mbrl_ros').symlink_to(share_directory())
    for node in executables.NODES:
        (places[0] / node).write_text(_STAND_IN.format(python=sys.executable))
        (places[0] / node).chmod(0o755)
    prefixes = f"{tmp_path}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}"
    process = subprocess.Popen([sys.executable, '-c', _RUN, str(_FOLDER / name), *given],
                               env={**os.environ, 'AMENT_PREFIX_PATH': prefixes})
    try:
        end_s = time.monotonic() + 90.0
        while {path.stem for path in places[0].glob('*.json')} != set(ours):
            assert process.poll() is None and time.monotonic() < end_s, 'waited in vain'
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    theirs = {path.stem: json.loads(path.read_text()) for path in places[0].glob('*.json')}
    # As text, which tells 1, 1.0 and true apart.
    assert json.dumps(theirs, indent=1, sort_keys=True) == json.dumps(ours, indent=1, sort_keys=True)
