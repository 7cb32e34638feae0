"""The arm's driver around the world: command interface in, measurements with their faults out, one physics step at a time.

Pure; the node only decides when to step and carries the messages.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mbrl_ros.config import section, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.types import RobotState
from mbrl_sim.command_interfaces import InterfaceConfig, InterfaceLimits, Measured, TrajectoryCommand, make_interface
from mbrl_sim.faults import FaultConfig, JointSample, LatencyQueue, MeasurementFaults, PoseSample
from mbrl_sim.physics import World
from mbrl_sim.scene import WorldConfig, require_ranges
from mbrl_sim.servo import ServoConfig

NANOSECONDS = 1_000_000_000
_STOPPED = 'the arm is in a protective stop and ignores commands'
Measurement = JointSample | PoseSample | RobotState


@dataclasses.dataclass(frozen=True)
class DriverConfig(InterfaceConfig):
    """Rates, faults and physics of the simulated driver."""

    simulator: str = setting('pybullet', 'Physics engine. The defaults of mujoco are those of an imperfect arm: servos that lag '
                                         'and sag, commands that take their time, the rules of ros2_control to the letter.',
                             choices=('pybullet', 'mujoco'))
    command_latency_s: tuple[float, ...] = setting(
        (0.0, 0.0), 'Shortest and longest time from an arm command to its taking effect, drawn for each.', unit='s', low=0.0,
        high=0.5)
    joint_state_hz: int = setting(120, 'Rate of joint states; divides the physics rate.', unit='Hz', low=1, high=1920)
    object_pose_hz: int = setting(60, "Rate of the object's pose; divides the physics rate.", unit='Hz', low=1, high=1920)
    object_name: str = setting('object', 'Name of the cube in the ground truth.')
    publish_ground_truth: bool = setting(False, 'Publish the exact state on ~/ground_truth, at the rate of joint states.')
    world: WorldConfig = section(WorldConfig, 'Physics and cube.')
    servo: ServoConfig = section(ServoConfig, 'Servos of the arm in MuJoCo.')
    faults: FaultConfig = section(FaultConfig, 'Faults of measurements, commands and arm.')

    def check(self) -> None:
        """Raise `ConfigError` when a rate does not divide that of the physics, or the latency is no range."""
        require_ranges(self, 'command_latency_s')
        for name in ('joint_state_hz', 'object_pose_hz'):
            if self.world.physics_hz % getattr(self, name):
                raise ConfigError(f'DriverConfig.{name} needs a divisor of the {self.world.physics_hz} Hz of physics, '
                                  f'got {getattr(self, name)}')


class SimulatedDriver:
    """An arm that obeys one command interface and reports what its sensors see.

    Args:
        world: The arm and what is around it.
        config: Settings.
        seed: Seed of the faults and of the latency of commands.
        command_type: Command interface, as a driver profile names it.

    Raises:
        ConfigError: A joint is to be stuck that the arm does not have.
    """

    def __init__(self, world: World, config: DriverConfig, seed: int = 0, command_type: str = 'velocity') -> None:
        self.world = world
        self._config = config
        self._robot = world.robot
        self._faults = MeasurementFaults(config.faults, world.fingers, seed)
        self._rng = np.random.default_rng((seed, 2))
        urdf = world.limits
        limits = InterfaceLimits(world.robot.joints, urdf.lower, urdf.upper, urdf.max_velocity,
                                 np.array(world.robot.max_acceleration_rad_s2), urdf.is_continuous)
        self._interface = make_interface(command_type, limits, world.joint_positions(world.robot.joints), config)
        self._commands: LatencyQueue[Sequence[float] | TrajectoryCommand] = LatencyQueue()
        self._queue: LatencyQueue[Measurement] = LatencyQueue()
        self._steps = 0
        self.set_faults(config.faults)

    @property
    def now_s(self) -> float:
        """Physics time since the start; resets do not turn it back."""
        return self._steps / self._config.world.physics_hz

    @property
    def stamp_ns(self) -> int:
        """The same in whole nanoseconds, without rounding that adds up."""
        return self._steps * NANOSECONDS // self._config.world.physics_hz

    @property
    def next_stamp_ns(self) -> int:
        """When the next step ends."""
        return (self._steps + 1) * NANOSECONDS // self._config.world.physics_hz

    @property
    def holding(self) -> bool:
        """Whether the arm is held at rest."""
        return self._interface.holding

    def reset(self, seed: int | None = None) -> None:
        """Put the world back and hold; with a seed, exactly as a new driver of that seed would start."""
        self.world.reset(seed)
        if seed is not None:
            self._faults.reset(seed)
            self._rng = np.random.default_rng((seed, 2))
        self._interface.hold(self.world.joint_positions(self._robot.joints))
        self._commands.clear()
        self._queue.clear()

    def set_faults(self, config: FaultConfig) -> None:
        """Other faults from now on.

        Raises:
            ConfigError: A joint is to be stuck that the arm does not have.
        """
        self.world.stick(config.stuck_joint)
        self._faults.config = config

    def set_world(self, config: WorldConfig) -> None:
        """Another cube from the next reset on; what cannot change while a world exists has to be as it was."""
        self.world.config = config

    def command(self, command: Sequence[float] | TrajectoryCommand) -> str:
        """Take an arm command, which takes effect after its latency; the reason is returned when it is refused."""
        faults = self._faults.config
        if faults.protective_stop:
            return _STOPPED
        latency_s = self._rng.uniform(*self._config.command_latency_s)
        if faults.command_drop_probability and self._rng.random() < faults.command_drop_probability:
            return ''
        self._commands.push(command, self.stamp_ns + round(latency_s * NANOSECONDS))
        return self._interface.refusal(command, self.now_s + latency_s)

    def command_gripper(self, command: Sequence[float]) -> str:
        """Take a gripper command, one opening in metres; likewise."""
        if self._robot.gripper is None:
            return f'{self._robot.name} has no gripper'
        if self._faults.config.protective_stop:
            return _STOPPED
        if len(command) != 1 or not np.isfinite(command[0]):
            return f'gripper command needs one finite number, the opening in metres, got {list(command)}'
        self.world.drive_gripper(float(command[0]))
        return ''

    def step(self, stamp_ns: int) -> list[Measurement]:
        """Advance one physics step.

        Args:
            stamp_ns: Time that the step ends at.

        Returns:
            The measurements that are due to be sent.
        """
        self._obey()
        setpoint = self._interface.advance(self.now_s, self.world.dt_s, self.world.joint_positions(self._robot.joints))
        if setpoint.position is None:
            self.world.drive_velocity(setpoint.velocity)
        else:
            self.world.drive_position(setpoint.position, setpoint.velocity)
        self.world.step()
        self._steps += 1
        return self._measure(stamp_ns)

    def close(self) -> None:
        """Leave the physics server."""
        self.world.close()

    def _obey(self) -> None:
        """Hand the interface the commands that take effect now."""
        due = self._commands.pop_due(self.stamp_ns)
        if self._faults.config.protective_stop:
            self._commands.clear()
            self._interface.stop()
        elif due:
            joints = self._robot.joints
            stalled = self._faults.stalled
            measured = Measured(*(values[:len(joints)] for values in stalled)) if stalled else \
                Measured(self.world.joint_positions(joints), self.world.joint_velocities(joints))
            for command in due:
                self._interface.accept(command, self.now_s, measured)

    def _measure(self, stamp_ns: int) -> list[Measurement]:
        config, due_ns = self._config, stamp_ns + round(self._faults.config.latency_s * NANOSECONDS)
        truth: list[Measurement] = []
        if self._steps % (config.world.physics_hz // config.joint_state_hz) == 0:
            sample = JointSample(stamp_ns, self.world.joint_names, self.world.joint_positions(), self.world.joint_velocities())
            for message in self._faults.joints(sample):
                self._queue.push(message, due_ns)
            if config.publish_ground_truth:
                truth.append(self.world.ground_truth(stamp_ns, config.object_name))
        if config.world.cube and self._steps % (config.world.physics_hz // config.object_pose_hz) == 0:
            for message in self._faults.pose(PoseSample(stamp_ns, *self.world.cube_pose())):
                self._queue.push(message, due_ns)
        return truth + self._queue.pop_due(stamp_ns)
