"""The way to the driver: who hears which command."""

from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from std_msgs.msg import Float64MultiArray
from support.bench import NodeBench

from mbrl_ros.control.safety.guard import GuardOutcome
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import qos
from mbrl_ros.ros.driver_port import DriverPort

ROBOT = load_robot('panda')
DRIVER = load_driver('simulated')


class Bench(NodeBench):
    """A port of one node, and drivers of another that may come and go."""

    def __init__(self) -> None:
        super().__init__('driver')
        self.node = self.add(rclpy.create_node('guard', context=self.context))
        self.port = DriverPort(self.node, ROBOT, DRIVER, 1.0 / 120.0, 1.0 / 120.0)

    def listen(self) -> list[float]:
        """First number of each command that a new driver hears; it is there, and known to be, when this returns."""
        heard: list[float] = []
        before = self.node.count_subscribers(self.port.topic)
        self.peer.create_subscription(Float64MultiArray, self.port.topic, lambda command: heard.append(command.data[0]),
                                        qos.DRIVER)
        self.spin_until(lambda: self.node.count_subscribers(self.port.topic) > before)
        self.spin_for(0.3)
        return heard

    def send(self, speed: float) -> None:
        self.port.send(GuardOutcome(np.full(7, speed), np.array(ROBOT.home_rad), np.zeros(7), None, None, '', ()), 0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_a_driver_that_comes_after_the_command_hears_the_repeat_once(bench):
    bench.send(0.1)
    heard = bench.listen()
    bench.port.repeat_to_newcomers()
    bench.spin_for(0.3)
    assert heard == [], 'it has had no time yet to say that its time is another'
    bench.spin_for(1.0)
    for _ in range(3):
        bench.port.repeat_to_newcomers()
    bench.spin_until(lambda: heard)
    bench.spin_for(0.3)
    assert heard == [0.1]


def test_nothing_is_repeated_while_nobody_joins(bench):
    heard = bench.listen()
    bench.send(0.1)
    bench.spin_until(lambda: heard)
    bench.port.repeat_to_newcomers()
    bench.spin_for(0.3)
    assert heard == [0.1]


def test_before_the_first_command_there_is_nothing_to_repeat(bench):
    heard = bench.listen()
    bench.port.repeat_to_newcomers()
    bench.spin_for(0.3)
    assert heard == []
