"""The simulated driver: it takes commands, steps the world, and returns measurements with their faults.

It is pure: the node decides when to step, and carries the messages.
"""

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from mbrl_ros.config import section, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.types import RobotState
from mbrl_sim.command_interfaces import InterfaceConfig, InterfaceLimits, Measured, TrajectoryCommand, make_interface
from mbrl_sim.faults import FaultConfig, JointSample, MeasurementFaults, PoseSample
from mbrl_sim.physics import World
from mbrl_sim.scene import WorldConfig, require_ranges
from mbrl_sim.servo import ServoConfig

NANOSECONDS = 1_000_000_000
_STOPPED = 'the arm is in a protective stop and ignores commands'
Measurement = JointSample | PoseSample | RobotState


@dataclasses.dataclass(frozen=True)
class DriverConfig(InterfaceConfig):
    """Rates, faults and physics of the simulated driver."""

    simulator: str = setting('pybullet', 'Physics engine. With mujoco the defaults are those of an imperfect arm behind '
                                         "ros2_control's own controllers.",
                             choices=('pybullet', 'mujoco'))
    command_latency_s: tuple[float, ...] = setting(
        (0.0, 0.0), 'Shortest and longest time until an arm command takes effect; each command draws its own.', unit='s', low=0.0,
        high=0.5)
    joint_state_hz: int = setting(120, 'Rate of joint states; divides the physics rate.', unit='Hz', low=1, high=1920)
    object_pose_hz: int = setting(60, "Rate of the object's pose; divides the physics rate.", unit='Hz', low=1, high=1920)
    object_name: str = setting('object', 'Name of the cube in the ground truth.')
    publish_ground_truth: bool = setting(False, 'Publish the exact state on ~/ground_truth, at the rate of joint states.')
    world: WorldConfig = section(WorldConfig, 'Physics and cube.')
    servo: ServoConfig = section(ServoConfig, 'Servos of the arm in MuJoCo.')
    faults: FaultConfig = section(FaultConfig, 'Faults of measurements, commands and arm.')

    def check(self) -> None:
        """Raise `ConfigError` when a rate does not divide the physics rate, or the latency is not a range."""
        require_ranges(self, 'command_latency_s')
        for name in ('joint_state_hz', 'object_pose_hz'):
            if self.world.physics_hz % getattr(self, name):
                raise ConfigError(f'DriverConfig.{name} needs a divisor of the {self.world.physics_hz} Hz of physics, '
                                  f'got {getattr(self, name)}')


class SimulatedDriver:
    """An arm with one command interface and with sensors.

    Args:
        world: World with the arm.
        config: Settings.
        seed: Seed of the faults and of the command latency.
        command_type: Command interface, as in a driver profile.

    Raises:
        ConfigError: The arm does not have the stuck joint of the faults.
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
        # Each entry has the stamp at which it takes effect or leaves.
        self._commands: deque[tuple[int, Sequence[float] | TrajectoryCommand]] = deque()
        self._waiting: deque[tuple[int, Measurement]] = deque()
        self._steps = 0
        self.set_faults(config.faults)

    @property
    def now_s(self) -> float:
        """Physics time since the start, s; it goes on over resets."""
        return self._steps / self._config.world.physics_hz

    @property
    def stamp_ns(self) -> int:
        """The same in nanoseconds, exactly rounded down."""
        return self._steps * NANOSECONDS // self._config.world.physics_hz

    @property
    def next_stamp_ns(self) -> int:
        """End of the next step."""
        return (self._steps + 1) * NANOSECONDS // self._config.world.physics_hz

    @property
    def holding(self) -> bool:
        """Whether the arm is held at rest."""
        return self._interface.holding

    def reset(self, seed: int | None = None) -> None:
        """Reset the world and hold; with a seed, to the state of a new driver with that seed.

        Raises:
            ConfigError: There is no place for the cube.
        """
        self.world.reset(seed)
        if seed is not None:
            self._faults.reset(seed)
            self._rng = np.random.default_rng((seed, 2))
        self._interface.hold(self.world.joint_positions(self._robot.joints))
        self._commands.clear()
        self._waiting.clear()

    def set_faults(self, config: FaultConfig) -> None:
        """Use other faults from now on.

        Raises:
            ConfigError: The arm does not have the stuck joint.
        """
        self.world.stick(config.stuck_joint)
        self._faults.config = config

    def set_world(self, config: WorldConfig) -> None:
        """Use other settings of the cube from the next reset on; settings that are not `live` must be unchanged."""
        self.world.config = config

    def command(self, command: Sequence[float] | TrajectoryCommand) -> str:
        """Take an arm command, which takes effect after its latency; returns why it is refused, or an empty text."""
        faults = self._faults.config
        if faults.protective_stop:
            return _STOPPED
        latency_s = self._rng.uniform(*self._config.command_latency_s)
        if faults.command_drop_probability and self._rng.random() < faults.command_drop_probability:
            return ''
        self._commands.append((self.stamp_ns + round(latency_s * NANOSECONDS), command))
        return self._interface.refusal(command, self.now_s + latency_s)

    def command_gripper(self, command: Sequence[float]) -> str:
        """Take a gripper command, one opening, m; returns why it is refused, or an empty text."""
        if self._robot.gripper is None:
            return f'{self._robot.name} has no gripper'
        if self._faults.config.protective_stop:
            return _STOPPED
        if len(command) != 1 or not np.isfinite(command[0]):
            return f'gripper command needs one finite number, the opening in metres, got {list(command)}'
        self.world.drive_gripper(float(command[0]))
        return ''

    def step(self, stamp_ns: int) -> list[Measurement]:
        """Advance one physics step that ends at `stamp_ns`, and return the measurements that are due."""
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
        """Disconnect from the physics server."""
        self.world.close()

    def _obey(self) -> None:
        """Give the interface the commands that take effect now."""
        due = _take_due(self._commands, self.stamp_ns)
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
        sent: list[Measurement] = []
        if self._steps % (config.world.physics_hz // config.joint_state_hz) == 0:
            sample = JointSample(stamp_ns, self.world.joint_names, self.world.joint_positions(), self.world.joint_velocities())
            self._waiting.extend((due_ns, message) for message in self._faults.joints(sample))
            if config.publish_ground_truth:
                sent.append(self.world.ground_truth(stamp_ns, config.object_name))
        if config.world.cube and self._steps % (config.world.physics_hz // config.object_pose_hz) == 0:
            poses = self._faults.pose(PoseSample(stamp_ns, *self.world.cube_pose()))
            self._waiting.extend((due_ns, message) for message in poses)
        return sent + _take_due(self._waiting, stamp_ns)


def _take_due(waiting: deque[tuple[int, Any]], now_ns: int) -> list[Any]:
    """Take the entries that are due, oldest first; an entry waits for older ones, so that the order stays."""
    due = []
    while waiting and waiting[0][0] <= now_ns:
        due.append(waiting.popleft()[1])
    return due
