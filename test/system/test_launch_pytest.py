"""The launch files under ROS 2's own launch, where it is installed."""

import pytest

launch_pytest = pytest.importorskip('launch_pytest', reason="ROS 2's own launch (launch_pytest) is not installed")

from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import AnyLaunchDescriptionSource  # noqa: E402

import launch  # noqa: E402
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


@pytest.mark.launch(fixture=simulator)
def test_the_simulated_arm_runs_under_ros_2_launch(simulator):
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import JointState

    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node('listener', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    names = []
    node.create_subscription(JointState, '/own_launch/joint_states', lambda message: names.append(message.name), 5)
    for _ in range(300):
        executor.spin_once(timeout_sec=0.1)
        if names:
            break
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    assert 'panda_joint1' in names[0]


@pytest.mark.parametrize('name', sorted(path.name for path in _FOLDER.glob('*.launch.yaml')))
def test_ros_2_launch_reads_the_same_arguments(name):
    import os

    from mbrl_ros.launching import description
    theirs = AnyLaunchDescriptionSource(str(_FOLDER / name)).get_launch_description(launch.LaunchContext())
    ours = {argument.name: argument for argument in description.declared_arguments(_FOLDER / name, os.environ)}
    for argument in theirs.get_launch_arguments():
        if argument.name in ours:
            assert argument.description.startswith(ours[argument.name].description)
            assert tuple(argument.choices or ()) == ours[argument.name].choices
    assert set(ours) <= {argument.name for argument in theirs.get_launch_arguments()}
