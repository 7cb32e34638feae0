"""The simulated driver: it takes commands, steps the world, and returns measurements with their faults.

It is pure: the node decides when to step, and carries the messages.
"""

import dataclasses
from collections import deque
from collections.abc import Sequence

import numpy as np

from mbrl_ros.config import section, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState
from mbrl_sim.command_interfaces import InterfaceConfig, InterfaceLimits, TrajectoryCommand, make_interface
from mbrl_sim.faults import FaultConfig, JointSample, MeasurementFaults, PoseSample
from mbrl_sim.world import ArmWorld, WorldConfig

NANOSECONDS = 1_000_000_000
Measurement = JointSample | PoseSample | RobotState


@dataclasses.dataclass(frozen=True)
class DriverConfig(InterfaceConfig):
    """Rates, faults and physics of the simulated driver."""

    joint_state_hz: int = setting(120, 'Rate of joint states; divides the physics rate.', unit='Hz', low=1, high=1920)
    object_pose_hz: int = setting(60, "Rate of the object's pose; divides the physics rate.", unit='Hz', low=1, high=1920)
    object_name: str = setting('object', 'Name of the cube in the ground truth.')
    publish_ground_truth: bool = setting(False, 'Publish the exact state on ~/ground_truth, at the rate of joint states.')
    world: WorldConfig = section(WorldConfig, 'Physics and cube.')
    faults: FaultConfig = section(FaultConfig, 'Faults of the measurements.')

    def check(self) -> None:
        """Raise `ConfigError` when a rate does not divide the physics rate."""
        for name in ('joint_state_hz', 'object_pose_hz'):
            if self.world.physics_hz % getattr(self, name):
                raise ConfigError(f'DriverConfig.{name} needs a divisor of the {self.world.physics_hz} Hz of physics, '
                                  f'got {getattr(self, name)}')


class SimulatedDriver:
    """An arm with one command interface and with sensors.

    Args:
        robot: Profile with a resolved URDF.
        config: Settings.
        seed: Seed of the world and of the faults.
        command_type: Command interface, as in a driver profile.

    Raises:
        ConfigError: As for `ArmWorld`.
    """

    def __init__(self, robot: RobotProfile, config: DriverConfig, seed: int = 0, command_type: str = 'velocity') -> None:
        self._config = config
        self._robot = robot
        self.world = ArmWorld(robot, config.world, seed)
        self._faults = MeasurementFaults(config.faults, self.world.fingers, seed)
        urdf = self.world.limits
        limits = InterfaceLimits(robot.joints, urdf.lower, urdf.upper, urdf.max_velocity, np.array(robot.max_acceleration_rad_s2))
        self._interface = make_interface(command_type, limits, self.world.joint_positions(robot.joints), config)
        self._waiting: deque[tuple[int, Measurement]] = deque()  # With the stamp at which each may leave.
        self._steps = 0

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
        self._interface.hold(self.world.joint_positions(self._robot.joints))
        self._waiting.clear()

    def set_faults(self, config: FaultConfig) -> None:
        """Use other faults from the next measurement on."""
        self._faults.config = config

    def set_world(self, config: WorldConfig) -> None:
        """Use other settings of the cube from the next reset on; settings that are not `live` must be unchanged."""
        self.world.config = config

    def command(self, command: Sequence[float] | TrajectoryCommand) -> str:
        """Take an arm command; returns why it is refused, or an empty text."""
        return self._interface.accept(command, self.now_s)

    def command_gripper(self, command: Sequence[float]) -> str:
        """Take a gripper command, one opening, m; returns why it is refused, or an empty text."""
        if self._robot.gripper is None:
            return f'{self._robot.name} has no gripper'
        if len(command) != 1 or not np.isfinite(command[0]):
            return f'gripper command needs one finite number, the opening in metres, got {list(command)}'
        self.world.drive_gripper(float(command[0]))
        return ''

    def step(self, stamp_ns: int) -> list[Measurement]:
        """Advance one physics step that ends at `stamp_ns`, and return the measurements that are due."""
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
        # Only the oldest may leave, so that messages keep their order when the latency changes.
        while self._waiting and self._waiting[0][0] <= stamp_ns:
            sent.append(self._waiting.popleft()[1])
        return sent
