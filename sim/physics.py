"""The simulated world: an arm on a table, and a cube or another object on it, in any physics engine.

The world depends only on its seed and on the commands to its motors: it has no clock and no global state.
"""

import abc
from collections.abc import Sequence

import numpy as np

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState, body_joint_names
from mbrl_sim.bullet import pybullet
from mbrl_sim.objects import TableObject, height_m
from mbrl_sim.scene import WorldConfig
from mbrl_sim.urdf import arm_limits, wrapped

_CUBE_DRAWS = 10_000
#: The setpoint of the fingers leads their measured opening by at most this.
_GRIP_LEAD_M = 0.004


class World(abc.ABC):
    """An arm on a table at z = 0, and a cube in front of it; the base of the worlds of all engines.

    Args:
        robot: Profile with a resolved URDF.
        config: Physics and cube.
        seed: Seed of all random draws.

    Attributes:
        joint_names: The arm's joints, then the fingers.
        limits: Limits of the arm's joints.
        dt_s: Length of a physics step.
        steps: Physics steps since the last reset.
        cube: The cube as the last reset put it on the table; None in a world without one.

    Raises:
        ConfigError: The URDF cannot be loaded, does not fit the profile, or leaves no place for the cube.
    """

    def __init__(self, robot: RobotProfile, config: WorldConfig | None = None, seed: int = 0) -> None:
        self.robot = robot
        self.config = config or WorldConfig()
        self.fingers = robot.gripper.joints if robot.gripper else ()
        self.joint_names = robot.joints + self.fingers
        self.limits, self.finger_limits = arm_limits(robot)
        self.dt_s = 1.0 / self.config.physics_hz
        self.steps = 0
        self._turning = {name for name, turns in zip(robot.joints, self.limits.is_continuous) if turns}
        self._stuck: int | None = None
        self._resets = -1  # The reset below does not count.
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Put the arm at home at rest, the gripper open, the cube at a random place, and let it settle.

        The simulation is rebuilt, because no other call clears an engine's contact caches. Equal seeds therefore give
        bit-identical worlds, whatever happened before.

        Args:
            seed: Seeds the generator; None goes on with the present generator.

        Raises:
            ConfigError: There is no place for the cube.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._resets += 1
        self.cube = self._draw_cube() if self.config.cube else None
        self._opening = self._opening_target = self.robot.gripper.open_m if self.robot.gripper else 0.0
        self._build()
        self._stick(self._stuck)
        self.steps = 0
        self.hold()
        for _ in range(round(self.config.settle_s * self.config.physics_hz)):
            self.step()

    def step(self) -> None:
        """Advance the physics by `dt_s`."""
        self._move_fingers()
        self._advance()
        self.steps += 1

    def hold(self) -> None:
        """Hold the arm and the gripper at their present positions."""
        self.drive_position(self.joint_positions(self.robot.joints))
        if self.fingers:
            self.drive_gripper(float(self.joint_positions(self.fingers).sum()))

    def drive_velocity(self, velocity: np.ndarray) -> None:
        """Set the arm's velocity motors, shape (J,), rad/s; clipped to the URDF's limits, as ros2_control does.

        Raises:
            ShapeError: `velocity` is not J finite numbers.
        """
        self._drive_velocity(np.clip(self._arm_array(velocity), -self.limits.max_velocity, self.limits.max_velocity))

    def drive_position(self, position: np.ndarray, velocity: np.ndarray | None = None) -> None:
        """Set the arm's position motors, shape (J,), rad, with a feed-forward velocity; the position is clipped to the limits.

        Continuous joints take the shortest way.

        Raises:
            ShapeError: `position` or `velocity` is not J finite numbers.
        """
        place = np.clip(self._arm_array(position), self.limits.lower, self.limits.upper)
        if self._turning:
            turned = self._read(self.robot.joints, 0)
            place = np.where(self.limits.is_continuous, turned + wrapped(place - turned), place)
        self._drive_position(place, np.zeros_like(place) if velocity is None else self._arm_array(velocity))

    def drive_gripper(self, opening_m: float) -> None:
        """Set the target opening of the gripper, m; clipped to its range.

        Raises:
            ConfigError: The robot has no gripper.
        """
        gripper = self.robot.gripper
        if gripper is None:
            raise ConfigError(f'{self.robot.name} has no gripper')
        self._opening_target = min(max(opening_m, gripper.closed_m), gripper.open_m)

    def stick(self, joint: str) -> None:
        """Fix a joint of the arm at its present position, as a mechanical stop would; an empty name frees it.

        Raises:
            ConfigError: The arm has no such joint.
        """
        if joint and joint not in self.robot.joints:
            raise ConfigError(f'{self.robot.name} has no joint {joint!r} to be stuck; it has {", ".join(self.robot.joints)}')
        stuck = self.robot.joints.index(joint) if joint else None
        if stuck != self._stuck:
            self._stuck = stuck
            self._stick(stuck)

    def joint_positions(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Positions of the named joints, rad or m; by default of all `joint_names`. Continuous joints are within ±pi.

        Raises:
            ConfigError: The robot has no such joint.
        """
        names = self.joint_names if names is None else names
        values = self._read(names, 0)
        if not self._turning:
            return values
        return np.where([name in self._turning for name in names], wrapped(values), values)

    def joint_velocities(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Velocities of the named joints, rad/s or m/s; as for `joint_positions`.

        Raises:
            ConfigError: The robot has no such joint.
        """
        return self._read(self.joint_names if names is None else names, 1)

    def ground_truth(self, stamp_ns: int, body: str) -> RobotState:
        """Exact state under the estimator's names: arm joints, gripper opening, and virtual joints of the cube, named `body`."""
        joints = self.robot.joints
        names, position, velocity = [*joints], [*self.joint_positions(joints)], [*self.joint_velocities(joints)]
        if self.robot.gripper:
            names.append(self.robot.gripper.name)
            position.append(self.joint_positions(self.fingers).sum())
            velocity.append(self.joint_velocities(self.fingers).sum())
        if self.cube is not None:
            place, quaternion = self.cube_pose()
            linear, angular = self.cube_velocity()
            # Recorded results depend on the last digits of PyBullet's own conversion.
            angles = np.array(pybullet.getEulerFromQuaternion(quaternion.tolist()))
            names += body_joint_names(body)
            position += [*place, *angles]
            velocity += [*linear, *_angle_rates(angles, angular)]
        return RobotState(stamp_ns, tuple(names), np.array(position), np.array(velocity))

    @abc.abstractmethod
    def tool_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Tool position (3,) in the base frame, m, and quaternion (4,), x y z w."""

    @abc.abstractmethod
    def cube_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """The cube's position (3,) in the base frame, m, and quaternion (4,), x y z w.

        Raises:
            ConfigError: The world has no cube.
        """

    @abc.abstractmethod
    def cube_velocity(self) -> tuple[np.ndarray, np.ndarray]:
        """The cube's linear velocity (3,), m/s, and angular velocity (3,), rad/s, in the base frame.

        Raises:
            ConfigError: The world has no cube.
        """

    @abc.abstractmethod
    def touches_table(self) -> bool:
        """Whether a moving link of the arm is in contact with the table."""

    @abc.abstractmethod
    def place_arm(self, position: np.ndarray) -> None:
        """Set the arm's joint positions, shape (J,), rad, at once and at rest.

        Raises:
            ShapeError: `position` is not J finite numbers.
        """

    @abc.abstractmethod
    def show_goal(self, position: np.ndarray) -> None:
        """Mark a position (3,), m, in pictures, until another one is given."""

    @abc.abstractmethod
    def render(self, width: int = 480, height: int = 360) -> np.ndarray:
        """Picture, shape (height, width, 3), uint8.

        Raises:
            ConfigError: The engine draws no pictures.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free the simulation; the world cannot be used afterwards."""

    @abc.abstractmethod
    def _build(self) -> None:
        """Rebuild the simulation with the arm at home, the gripper open and `cube` in its place."""

    @abc.abstractmethod
    def _advance(self) -> None:
        """Step the engine."""

    @abc.abstractmethod
    def _read(self, names: Sequence[str], derivative: int) -> np.ndarray:
        """Positions (derivative 0) or velocities (1) of the named joints; positions count whole turns."""

    @abc.abstractmethod
    def _drive_velocity(self, velocity: np.ndarray) -> None:
        """Set the velocity motors, shape (J,), within the limits."""

    @abc.abstractmethod
    def _drive_position(self, position: np.ndarray, velocity: np.ndarray) -> None:
        """Set the position motors, shape (J,), within the limits, with feed-forward velocities, shape (J,)."""

    @abc.abstractmethod
    def _drive_fingers(self, position_m: float) -> None:
        """Set the position motor of every finger, m."""

    @abc.abstractmethod
    def _stick(self, joint: int | None) -> None:
        """Fix the arm's joint of an index at its present position, and free the others; None frees all."""

    def _draw_cube(self) -> TableObject:
        """Draw the next cube, at a place on the table that the tool can reach."""
        config, workspace = self.config, self.robot.workspace
        size, mass, friction = config.cube_size_m, config.cube_mass_kg, config.cube_friction
        if config.randomise_cube:
            masses, frictions = config.cube_mass_range_kg, config.cube_friction_range
            if 0 < config.change_after < self._resets:
                masses, frictions = config.changed_mass_range_kg, config.changed_friction_range
            size, mass, friction = (float(self._rng.uniform(*bounds)) for bounds in (config.cube_size_range_m, masses, frictions))
        lower, upper = np.array(workspace.lower_m), np.array(workspace.upper_m)
        if config.cube_region_m:
            lower[:2], upper[:2] = config.cube_region_m[:2], config.cube_region_m[2:]
        for _ in range(_CUBE_DRAWS):
            spot = self._rng.uniform(lower, upper)
            spot[2] = lower[2]
            if not workspace.refusal(spot):
                break
        else:
            raise ConfigError(f'{self.robot.name}: the arm does not reach down to lower_m of its workspace anywhere in the '
                              "cube's region, so there is no place for the cube; set world.cube to false")
        spot[2] = height_m(config.object_kind, size) / 2
        return TableObject(config.object_kind, size, mass, friction, spot, float(self._rng.uniform(-np.pi, np.pi)))

    def _move_fingers(self) -> None:
        if not self.fingers:
            return
        reach = self.robot.gripper.max_velocity_m_s * self.dt_s
        # Closed fingers stop at an object. A setpoint that went on would have to come back before the fingers could open.
        measured = float(self.joint_positions(self.fingers).sum())
        opening = min(max(self._opening, measured - _GRIP_LEAD_M), measured + _GRIP_LEAD_M)
        self._opening = opening + min(max(self._opening_target - opening, -reach), reach)
        self._drive_fingers(self._opening / len(self.fingers))

    def _arm_array(self, values: np.ndarray) -> np.ndarray:
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (len(self.robot.joints),) or not np.isfinite(array).all():
            raise ShapeError(f'motors of {self.robot.name} need {len(self.robot.joints)} finite numbers, got {values}')
        return array

    def _no_joint(self, name: str) -> ConfigError:
        return ConfigError(f'{self.robot.name} has no joint {name!r}; it has {", ".join(self.joint_names)}')

    def _require_cube(self) -> TableObject:
        if self.cube is None:
            raise ConfigError('the world has no cube; set world.cube to true')
        return self.cube


def _angle_rates(angles: np.ndarray, angular: np.ndarray) -> np.ndarray:
    """Rates of fixed-axis roll, pitch, yaw from the angular velocity in the base frame, each of shape (3,)."""
    _, pitch, yaw = angles
    along = np.cos(yaw) * angular[0] + np.sin(yaw) * angular[1]
    across = np.cos(yaw) * angular[1] - np.sin(yaw) * angular[0]
    return np.array([along / np.cos(pitch), across, angular[2] + np.tan(pitch) * along])
