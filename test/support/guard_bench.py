"""An arm and a controller in one around the command guard node, over real DDS: against the wall clock, and in lockstep."""

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.nodes.command_guard_node import CommandGuardNode
from mbrl_ros.robots.profile import load_driver, load_robot
from mbrl_ros.ros import convert, qos
from mbrl_ros.ros.command_port import CommandPort
from mbrl_ros.types import AppliedCommand
from support.bench import NodeBench

ROBOT = load_robot('panda')
HOME = np.array(ROBOT.home_rad)
ACCELERATION = np.array(ROBOT.max_acceleration_rad_s2)
PERIOD_S = 1.0 / 120.0
MOVING = np.full(7, 0.2) * [1, 0, -1, 0, 1, 0, 1]
#: Longer than the guard goes on telling a stopped arm to stand.
_SILENCE_S = 1.0


class GuardBench(NodeBench):
    """What both benches hear and say.

    Attributes:
        told: What the arm's driver was told: velocities, positions or whole trajectories.
        applied: Messages of `applied_command`.
        wanted: Velocities that the controller asks for, shape (7,), rad/s; None for its silence.
        q: Positions of the arm, shape (7,), rad.
        qd: Its velocities, rad/s.
    """

    def __init__(self, driver: str = 'simulated', *, listens: bool = True, **parameters: object) -> None:
        super().__init__('arm')
        self.profile = load_driver(driver)
        self._parameters = {'driver': driver, **parameters}
        self.told: list = []
        self._told_s = time.monotonic()
        self.wanted: np.ndarray | None = None
        self.q, self.qd = HOME.copy(), np.zeros(7)
        self.applied = self.hear(JointState, 'applied_command', qos.LATCHED_RECORD)
        self._statuses = self.hear(DiagnosticArray, 'guard_status', qos.LATCHED_RECORD)
        self.joints_pubs = [self.peer.create_publisher(JointState, topic, qos.DRIVER)
                            for topic in self.profile.joint_state_topics]
        self.port = CommandPort(self.peer, ROBOT)
        if listens:
            self.listen()
        self.guard: Node | None = None

    def begin(self) -> None:
        """Start the guard, and wait until it hears the arm and the controller, and the arm hears it."""
        self.guard = self.start(CommandGuardNode, **self._parameters)
        self.spin_until(lambda: self.guard.count_publishers('command') and self.peer.count_publishers(self.profile.command_topic))
        self.spin_for(0.3)

    def end(self) -> None:
        """Take the guard away."""
        self.executor.remove_node(self.guard)
        self._nodes.remove(self.guard)
        self.guard.close()
        self.guard.destroy_node()

    def listen(self) -> None:
        """Let the driver hear commands from now on."""
        kind = JointTrajectory if self.profile.command_type == 'trajectory' else Float64MultiArray
        self._subscription = qos.subscribe(self.peer, kind, self.profile.command_topic, self._on_told, qos.RECORD)

    @property
    def statuses(self) -> list[dict[str, str]]:
        """What the guard said of its ticks."""
        return [convert.status_values(message) for message in self._statuses]

    @property
    def hold(self) -> str:
        """Its newest hold."""
        return convert.status_values(self._statuses[-1])['hold'] if self._statuses else 'none yet'

    @property
    def moves(self) -> bool:
        """Whether the arm does what the controller asks for."""
        return self.hold == '' and self.wanted is not None and np.allclose(self.qd, self.wanted)

    @property
    def is_left_alone(self) -> bool:
        """Whether the arm stands and is told nothing any more."""
        return not self.qd.any() and time.monotonic() - self._told_s > _SILENCE_S

    def ask(self, velocity: np.ndarray, stamp_ns: int, opening_m: float | None = None) -> None:
        """A command of the controller, which is stamped with the time when the arm will obey."""
        stamp_ns += round(1e9 * self.profile.command_latency_s)
        self.port.send(AppliedCommand(stamp_ns, ROBOT.joints, np.array(velocity, dtype=np.float64), opening_m))

    def joints(self, stamp_ns: int) -> JointState:
        """What the driver measures."""
        return JointState(header=convert.header(stamp_ns), name=list(ROBOT.joints), position=self.q.tolist(),
                          velocity=self.qd.tolist())

    def obey(self, message: Float64MultiArray | JointTrajectory) -> None:
        """Take up what the driver was told."""
        self.qd = np.array(message.data)

    def _on_told(self, message: Float64MultiArray | JointTrajectory) -> None:
        self._told_s = time.monotonic()
        self.told.append(message)
        self.obey(message)


class RealtimeBench(GuardBench):
    """Against the wall clock; the arm goes on with its last velocity, as under ros2_control's forward controllers.

    Attributes:
        sends_joints: Whether the driver measures.
        is_stuck: Whether the arm stands whatever it is told.
    """

    #: A slow controller, as the machine that tests may be busy.
    RATE_HZ = 10.0

    def __init__(self, driver: str = 'simulated', *, qd: np.ndarray | None = None, **parameters: object) -> None:
        super().__init__(driver, **{'control_rate_hz': self.RATE_HZ, 'guard.following.settle_s': 0.2, **parameters})
        self.sends_joints, self.is_stuck = False, False
        self.qd = np.zeros(7) if qd is None else qd
        self._moved_s = self._asked_s = time.monotonic()

    def begin(self) -> None:
        """As for both; then the driver begins to measure."""
        super().begin()
        self._moved_s = time.monotonic()
        self.sends_joints = True

    def measured(self, stamp_ns: int) -> list[JointState]:
        """Joint states of a moment, one for each topic."""
        return [self.joints(stamp_ns)]

    def drive(self) -> None:
        """Move for the time that went by, and say what is due."""
        now_s, now_ns = time.monotonic(), self.peer.get_clock().now().nanoseconds
        if self.is_stuck:
            self.qd = np.zeros(7)
        self.q = self.q + self.qd * (now_s - self._moved_s)
        self._moved_s = now_s
        if self.sends_joints:
            for publisher, message in zip(self.joints_pubs, self.measured(now_ns)):
                publisher.publish(message)
        if self.wanted is not None and now_s - self._asked_s >= 1.0 / self.RATE_HZ:
            self._asked_s = now_s
            self.ask(self.wanted, now_ns)


class LockstepBench(GuardBench):
    """A simulator whose time moves by one period of the guard with each of its commands.

    Attributes:
        now_ns: Simulated time.
    """

    #: Control period.
    CONTROL_NS = 50_000_000

    def __init__(self, driver: str = 'simulated', **parameters: object) -> None:
        super().__init__(driver, **{'lockstep': True, **parameters})
        self._clock_pub = self.peer.create_publisher(Clock, '/clock', qos.DRIVER)
        self._steps, self._said_s = 0, time.monotonic()

    @property
    def now_ns(self) -> int:
        return self._steps * 1_000_000_000 // 120

    def begin(self) -> None:
        """As for both; then the simulator says where it stands."""
        super().begin()
        self.say()

    def say(self) -> None:
        """Publish time and joint states."""
        self._said_s = time.monotonic()
        self._clock_pub.publish(Clock(clock=convert.stamp_to_msg(self.now_ns)))
        self.joints_pubs[0].publish(self.joints(self.now_ns))

    def drive(self) -> None:
        """While time stands, repeat what was said, and the command to a guard that has just come."""
        if self.guard is not None and time.monotonic() - self._said_s > 1.0:
            self.say()
            self.port.repeat_to_newcomers()

    def period(self, velocity: np.ndarray, opening_m: float | None = None) -> list:
        """One control period with a command; what the driver was told in it."""
        count, end_ns = len(self.told), self.now_ns + self.CONTROL_NS
        self.ask(velocity, self.now_ns, opening_m)
        self.spin_until(lambda: self.now_ns >= end_ns, what='the end of the control period')
        return self.told[count:]

    def restart_world(self) -> None:
        """Put arm and time back, as a simulator that has crashed and comes again."""
        self.peer.destroy_subscription(self._subscription)
        self.listen()
        self._steps, self.q, self.qd = 0, HOME.copy(), np.zeros(7)
        self.say()

    def obey(self, message: Float64MultiArray | JointTrajectory) -> None:
        """Step the world."""
        before = self.q
        if self.profile.command_type == 'velocity':
            self.q = self.q + PERIOD_S * np.array(message.data)
        elif self.profile.command_type == 'position':
            self.q = np.array(message.data)
        else:
            self.q = reached(message, PERIOD_S)
        self.qd = (self.q - before) / PERIOD_S
        self._steps += 1
        self.say()


def points(message: JointTrajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, shape (K,), s, positions and velocities, shape (K, 7) each, of a trajectory."""
    times = np.array([point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points])
    positions, velocities = ([getattr(point, name) for point in message.points] for name in ('positions', 'velocities'))
    return times, np.array(positions), np.array(velocities)


def reached(message: JointTrajectory, time_s: float) -> np.ndarray:
    """Positions, shape (7,), at the point of a trajectory that is nearest to a time."""
    times, positions, _ = points(message)
    return positions[np.argmin(np.abs(times - time_s))]
