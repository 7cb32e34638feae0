"""Tests of launch_pytest, where it is installed: what the launch files start runs."""

import os
import time

import pytest
from support import ros_prefix

launch_pytest = pytest.importorskip('launch_pytest', reason="ROS 2's own launch (launch_pytest) is not installed")
plugin = pytest.importorskip('launch_pytest.plugin')
if pytest.version_tuple >= (8, 4) and not hasattr(plugin, 'get_launch_test_fixture_scope'):
    pytest.skip('this launch_pytest does not know the fixtures of pytest 8.4 and later', allow_module_level=True)

from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import AnyLaunchDescriptionSource  # noqa: E402

import launch  # noqa: E402
from mbrl_ros.resources import share_directory  # noqa: E402

_FOLDER = share_directory() / 'launch'


@pytest.fixture(scope='module', autouse=True)
def installed(tmp_path_factory):
    """Whether or not the package is installed, ROS 2's own launch finds this one."""
    with pytest.MonkeyPatch.context() as patch:
        environment = ros_prefix.install(tmp_path_factory.mktemp('prefix'), os.environ)
        patch.setenv('AMENT_PREFIX_PATH', environment['AMENT_PREFIX_PATH'])
        yield


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
