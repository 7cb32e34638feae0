"""The simulated world: an arm on a table, and a cube or another object on it.

The world depends only on its seed and on the commands to its motors: it has no clock and no global state, and each world has
its own physics client.
"""

from collections.abc import Sequence

import numpy as np
import pybullet

from mbrl_ros.errors import ConfigError, ShapeError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.types import RobotState, body_joint_names
from mbrl_sim.objects import TableObject, height_m, make_object
from mbrl_sim.scene import VIEW, BulletClient, JointLimits, WorldConfig, load_arm, make_goal_marker, set_up_window

_CUBE_DRAWS = 10_000
#: The setpoint of the fingers leads their measured opening by at most this.
_GRIP_LEAD_M = 0.004


class ArmWorld:
    """An arm on a table at z = 0, and a cube in front of it.

    Args:
        robot: Profile with a resolved URDF.
        config: Physics and cube.
        seed: Seed of all random draws.

    Raises:
        ConfigError: The URDF cannot be loaded, lacks a joint or link of the profile, or leaves no place for the cube.
    """

    def __init__(self, robot: RobotProfile, config: WorldConfig | None = None, seed: int = 0) -> None:
        self.robot = robot
        self.config = config or WorldConfig()
        self.fingers = robot.gripper.joints if robot.gripper else ()
        self.joint_names = robot.joints + self.fingers
        self.dt_s = 1.0 / self.config.physics_hz
        self.steps = 0
        self._bullet = BulletClient(pybullet.GUI if self.config.gui else pybullet.DIRECT)
        self._closed, self._resets = False, -1  # The reset below does not count.
        self._goal: np.ndarray | None = None
        if self.config.gui:
            set_up_window(self._bullet)
        self.reset(seed)

    @property
    def limits(self) -> JointLimits:
        """Limits of the arm's joints in the URDF."""
        return self._arm.limits

    def reset(self, seed: int | None = None) -> None:
        """Put the arm at home at rest, the gripper open, the cube at a random place, and let it settle.

        The simulation is rebuilt, because no other call clears Bullet's contact caches. Equal seeds therefore give bit-identical
        worlds, whatever happened before.

        Args:
            seed: Seeds the generator; None goes on with the present generator.

        Raises:
            ConfigError: There is no place for the cube.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._resets += 1
        self.cube = self._draw_cube() if self.config.cube else None
        self._build()
        self.steps = 0
        self.hold()
        for _ in range(round(self.config.settle_s * self.config.physics_hz)):
            self.step()

    def step(self) -> None:
        """Advance the physics by `dt_s`."""
        self._move_fingers()
        self._bullet.stepSimulation()
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
        speed = np.clip(self._arm_array(velocity), -self._arm.limits.max_velocity, self._arm.limits.max_velocity)
        self._bullet.setJointMotorControlArray(self._arm.body, self._arm_ids, pybullet.VELOCITY_CONTROL,
                                               targetVelocities=speed.tolist(), forces=self._forces)

    def drive_position(self, position: np.ndarray, velocity: np.ndarray | None = None) -> None:
        """Set the arm's position motors, shape (J,), rad, with a feed-forward velocity; the position is clipped to the limits.

        Raises:
            ShapeError: `position` or `velocity` is not J finite numbers.
        """
        place = np.clip(self._arm_array(position), self._arm.limits.lower, self._arm.limits.upper)
        speed = np.zeros_like(place) if velocity is None else self._arm_array(velocity)
        self._bullet.setJointMotorControlArray(self._arm.body, self._arm_ids, pybullet.POSITION_CONTROL, forces=self._forces,
                                               targetPositions=place.tolist(), targetVelocities=speed.tolist())

    def drive_gripper(self, opening_m: float) -> None:
        """Set the target opening of the gripper, m; clipped to its range.

        Raises:
            ConfigError: The robot has no gripper.
        """
        gripper = self.robot.gripper
        if gripper is None:
            raise ConfigError(f'{self.robot.name} has no gripper')
        self._opening_target = min(max(opening_m, gripper.closed_m), gripper.open_m)

    def joint_positions(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Positions of the named joints, rad or m; by default of all `joint_names`.

        Raises:
            ConfigError: The robot has no such joint.
        """
        return self._joint_values(names, 0)

    def joint_velocities(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Velocities of the named joints, rad/s or m/s; as for `joint_positions`.

        Raises:
            ConfigError: The robot has no such joint.
        """
        return self._joint_values(names, 1)

    def tool_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Tool position (3,) in the base frame, m, and quaternion (4,), x y z w."""
        link = self._bullet.getLinkState(self._arm.body, self._arm.tool, computeForwardKinematics=1)
        return np.array(link[4]), np.array(link[5])

    def cube_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """The cube's position (3,) in the base frame, m, and quaternion (4,), x y z w.

        Raises:
            ConfigError: The world has no cube.
        """
        position, quaternion = self._bullet.getBasePositionAndOrientation(self._require_cube())
        return np.array(position), np.array(quaternion)

    def cube_velocity(self) -> tuple[np.ndarray, np.ndarray]:
        """The cube's linear velocity (3,), m/s, and angular velocity (3,), rad/s, in the base frame.

        Raises:
            ConfigError: The world has no cube.
        """
        linear, angular = self._bullet.getBaseVelocity(self._require_cube())
        return np.array(linear), np.array(angular)

    def ground_truth(self, stamp_ns: int, body: str) -> RobotState:
        """Exact state under the estimator's names: arm joints, gripper opening, and virtual joints of the cube, named `body`."""
        joints = self.robot.joints
        names, position, velocity = [*joints], [*self.joint_positions(joints)], [*self.joint_velocities(joints)]
        if self.robot.gripper:
            names.append(self.robot.gripper.name)
            position.append(self.joint_positions(self.fingers).sum())
            velocity.append(self.joint_velocities(self.fingers).sum())
        if self._cube is not None:
            place, quaternion = self.cube_pose()
            linear, angular = self.cube_velocity()
            angles = np.array(pybullet.getEulerFromQuaternion(quaternion.tolist()))
            names += body_joint_names(body)
            position += [*place, *angles]
            velocity += [*linear, *_angle_rates(angles, angular)]
        return RobotState(stamp_ns, tuple(names), np.array(position), np.array(velocity))

    def touches_table(self) -> bool:
        """Whether a moving link of the arm is in contact with the table."""
        self._bullet.performCollisionDetection()
        return any(contact[3] >= 0 for contact in self._bullet.getContactPoints(self._arm.body, self._table))

    def place_arm(self, position: np.ndarray) -> None:
        """Set the arm's joint positions, shape (J,), rad, at once and at rest.

        Raises:
            ShapeError: `position` is not J finite numbers.
        """
        for joint, angle in zip(self._arm_ids, self._arm_array(position)):
            self._bullet.resetJointState(self._arm.body, joint, float(angle), 0.0)
        self.drive_position(position)

    def show_goal(self, position: np.ndarray) -> None:
        """Mark a position (3,), m, in pictures, until another one is given."""
        self._goal = np.array(position, dtype=np.float64)
        if self._marker is None:
            self._marker = make_goal_marker(self._bullet, self._goal)
        self._bullet.resetBasePositionAndOrientation(self._marker, self._goal.tolist(), (0.0, 0.0, 0.0, 1.0))

    def render(self, width: int = 480, height: int = 360) -> np.ndarray:
        """Picture by PyBullet's software renderer, shape (height, width, 3), uint8."""
        eye = (VIEW['target'], VIEW['distance'], VIEW['yaw'], VIEW['pitch'])
        view = self._bullet.computeViewMatrixFromYawPitchRoll(*eye, roll=0.0, upAxisIndex=2)
        projection = self._bullet.computeProjectionMatrixFOV(fov=50.0, aspect=width / height, nearVal=0.05, farVal=5.0)
        _, _, pixels, _, _ = self._bullet.getCameraImage(width, height, view, projection, renderer=pybullet.ER_TINY_RENDERER)
        return np.asarray(pixels, dtype=np.uint8).reshape(height, width, 4)[:, :, :3]

    def close(self) -> None:
        """Disconnect from the physics server; the world cannot be used afterwards."""
        if not self._closed:
            self._closed = True
            self._bullet.disconnect()

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

    def _build(self) -> None:
        bullet, config, robot = self._bullet, self.config, self.robot
        bullet.resetSimulation()
        bullet.configureDebugVisualizer(pybullet.COV_ENABLE_RENDERING, 0)
        bullet.setTimeStep(self.dt_s)
        bullet.setGravity(0.0, 0.0, -9.81)
        self._table = bullet.createMultiBody(0.0, bullet.createCollisionShape(pybullet.GEOM_PLANE))
        self._arm = load_arm(bullet, robot, config)
        self._arm_ids = [self._arm.joints[name] for name in robot.joints]
        self._forces = self._arm.limits.max_force.tolist()
        self._opening = self._opening_target = robot.gripper.open_m if robot.gripper else 0.0
        self._cube = make_object(bullet, self.cube) if self.cube else None
        self._marker = None if self._goal is None else make_goal_marker(bullet, self._goal)
        bullet.configureDebugVisualizer(pybullet.COV_ENABLE_RENDERING, 1)

    def _move_fingers(self) -> None:
        if not self.fingers:
            return
        reach = self.robot.gripper.max_velocity_m_s * self.dt_s
        # Closed fingers stop at an object. A setpoint that went on would have to come back before the fingers could open.
        measured = float(self.joint_positions(self.fingers).sum())
        opening = min(max(self._opening, measured - _GRIP_LEAD_M), measured + _GRIP_LEAD_M)
        self._opening = opening + min(max(self._opening_target - opening, -reach), reach)
        share = self._opening / len(self.fingers)
        self._bullet.setJointMotorControlArray(
            self._arm.body, [self._arm.joints[name] for name in self.fingers], pybullet.POSITION_CONTROL,
            targetPositions=[share] * len(self.fingers), forces=self._arm.finger_forces)

    def _joint_values(self, names: Sequence[str] | None, column: int) -> np.ndarray:
        try:
            ids = [self._arm.joints[name] for name in (self.joint_names if names is None else names)]
        except KeyError as error:
            raise ConfigError(f'{self.robot.name} has no joint {error}; it has {", ".join(self._arm.joints)}') from None
        if not ids:
            return np.zeros(0)
        return np.array([state[column] for state in self._bullet.getJointStates(self._arm.body, ids)])

    def _arm_array(self, values: np.ndarray) -> np.ndarray:
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (len(self._arm_ids),) or not np.isfinite(array).all():
            raise ShapeError(f'motors of {self.robot.name} need {len(self._arm_ids)} finite numbers, got {values}')
        return array

    def _require_cube(self) -> int:
        if self._cube is None:
            raise ConfigError('the world has no cube; set world.cube to true')
        return self._cube


def _angle_rates(angles: np.ndarray, angular: np.ndarray) -> np.ndarray:
    """Rates of fixed-axis roll, pitch, yaw from the angular velocity in the base frame, each of shape (3,)."""
    _, pitch, yaw = angles
    along = np.cos(yaw) * angular[0] + np.sin(yaw) * angular[1]
    across = np.cos(yaw) * angular[1] - np.sin(yaw) * angular[0]
    return np.array([along / np.cos(pitch), across, angular[2] + np.tan(pitch) * along])
