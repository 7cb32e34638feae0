"""Others who move the arm without the command topic: a goal of the controller's action, and a controller switched off."""

from collections.abc import Iterator

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from support.bench import NodeBench

from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.nodes.command_guard_node import CommandGuardNode
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.ros.driver_port import DriverPort

action_msgs = pytest.importorskip('action_msgs.msg')
GoalStatus = action_msgs.GoalStatus
ACTION = '/forward_velocity_controller/follow_joint_trajectory'


class Bench(NodeBench):
    """A command guard of the simulated driver, and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses = self.hear(DiagnosticArray, 'guard_status', qos.LATCHED)
        self.goals = self.peer.create_publisher(action_msgs.GoalStatusArray, f'{ACTION}/_action/status', qos.LATCHED)
        self.manager = self.peer.create_publisher(DiagnosticArray, '/diagnostics', qos.DRIVER)
        self.activity: list[tuple[str, str]] = []
        self.start(CommandGuardNode)

    def drive(self) -> None:
        """Speak as controller managers do."""
        for name, state in self.activity:
            status = DiagnosticStatus(name='controller_manager: Controllers Activity', hardware_id='ros2_control',
                                      values=[KeyValue(key='joint_state_broadcaster', value='active'),
                                              KeyValue(key=name, value=state)])
            self.manager.publish(DiagnosticArray(status=[status]))

    def pursue(self, *states: int) -> None:
        self.goals.publish(action_msgs.GoalStatusArray(status_list=[GoalStatus(status=state) for state in states]))

    def holds(self, reason: HoldReason, detail: str = '') -> bool:
        """Whether the guard comes to hold the arm for a reason."""
        def is_so() -> bool:
            values = convert.status_values(self.statuses[-1]) if self.statuses else {}
            return (values.get('hold'), values.get('detail')) == (reason.value, detail)
        return self.spin_until(is_so, what=f'{reason.value} ({detail})')


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_a_goal_of_the_controllers_action_is_another_commander_until_it_has_ended(bench):
    assert bench.holds(HoldReason.NO_STATE)
    bench.pursue(GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_EXECUTING)
    assert bench.holds(HoldReason.OTHER_COMMANDER, f'a goal of {ACTION}')
    bench.pursue(GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_ABORTED)
    assert bench.holds(HoldReason.NO_STATE)


def test_a_goal_ends_with_the_server_of_the_action(bench):
    bench.pursue(GoalStatus.STATUS_EXECUTING)
    assert bench.holds(HoldReason.OTHER_COMMANDER, f'a goal of {ACTION}')
    bench.peer.destroy_publisher(bench.goals)
    assert bench.holds(HoldReason.NO_STATE)


@pytest.mark.parametrize('key', ['forward_velocity_controller', 'forward_velocity_controller.state'])
def test_a_controller_that_is_switched_off_is_named_until_it_is_active(bench, key):
    bench.activity = [(key, 'inactive')]
    assert bench.holds(HoldReason.CONTROLLER_INACTIVE, 'forward_velocity_controller is inactive')
    bench.activity = [(key, 'active')]
    assert bench.holds(HoldReason.NO_STATE)
    assert bench.spin_until(lambda: bench.said("The driver's controller is not active"))


def test_a_controller_of_that_name_on_another_arm_does_not_matter_while_ours_is_active(bench):
    bench.activity = [('forward_velocity_controller', 'active'), ('forward_velocity_controller', 'inactive')]
    bench.spin_for(1.0)
    assert bench.holds(HoldReason.NO_STATE)
    assert not bench.said("The driver's controller is not active")
    bench.activity = [('forward_velocity_controller', 'inactive')]
    assert bench.holds(HoldReason.CONTROLLER_INACTIVE, 'forward_velocity_controller is inactive')


def test_the_driver_is_looked_at_now_and_then_and_not_at_every_tick(bench):
    class CountingNode(Node):
        looks = 0

        def count_publishers(self, topic: str) -> int:
            self.looks += 1
            return super().count_publishers(topic)

    node = bench.add(CountingNode('port', context=bench.context, namespace='/apart'))
    port = DriverPort(node, load_robot('panda'), load_driver('simulated'), 1.0 / 120.0, 1.0 / 120.0)
    assert {port.other_commanders() for _ in range(1000)} == {''}
    assert node.looks < 100
    bench.peer.create_publisher(Float64MultiArray, port.topic, qos.COMMAND)
    assert bench.spin_until(lambda: port.other_commanders() == f'peer on {port.topic}')


def test_other_controllers_may_be_switched_off(bench):
    bench.activity = [('joint_trajectory_controller', 'inactive')]
    bench.spin_for(1.0)
    assert bench.holds(HoldReason.NO_STATE)
    assert not bench.said("The driver's controller is not active")
