"""The simulated world in PyBullet."""

from collections.abc import Sequence

import numpy as np

from mbrl_ros.robots.boxes import box_corners
from mbrl_ros.robots.profile import RobotProfile
from mbrl_sim.bullet import pybullet
from mbrl_sim.objects import make_object
from mbrl_sim.physics import World
from mbrl_sim.scene import VIEW, BulletClient, WorldConfig, load_arm, make_box, make_goal_marker, set_up_window

__all__ = ['ArmWorld', 'WorldConfig']

#: Force of a motor without a limit, and of the motor that fixes a stuck joint; Bullet's solver accepts no infinity.
_STRONGEST = 1e5
#: Entry of a contact point with the distance of the bodies.
_DISTANCE = 8


class ArmWorld(World):
    """The world in PyBullet, in its own physics client; arguments and errors as for `World`.

    Attributes:
        box_contact_steps: Physics steps since the last reset in which the arm touched a box of `WorldConfig.boxes_m`.
    """

    def __init__(self, robot: RobotProfile, config: WorldConfig | None = None, seed: int = 0) -> None:
        config = config or WorldConfig()
        self._bullet = BulletClient(pybullet.GUI if config.gui else pybullet.DIRECT)
        self._closed = False
        self._goal: np.ndarray | None = None
        if config.gui:
            set_up_window(self._bullet)
        super().__init__(robot, config, seed)

    def tool_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Tool position (3,) in the base frame, m, and quaternion (4,), x y z w."""
        link = self._bullet.getLinkState(self._arm.body, self._arm.tool, computeForwardKinematics=1)
        return np.array(link[4]), np.array(link[5])

    def cube_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """As for `World`."""
        self._require_cube()
        position, quaternion = self._bullet.getBasePositionAndOrientation(self._cube)
        return np.array(position), np.array(quaternion)

    def cube_velocity(self) -> tuple[np.ndarray, np.ndarray]:
        """As for `World`."""
        self._require_cube()
        linear, angular = self._bullet.getBaseVelocity(self._cube)
        return np.array(linear), np.array(angular)

    def touches_table(self) -> bool:
        """Whether a moving link of the arm is in contact with the table."""
        self._bullet.performCollisionDetection()
        return any(contact[3] >= 0 for contact in self._bullet.getContactPoints(self._arm.body, self._table))

    def place_arm(self, position: np.ndarray) -> None:
        """As for `World`."""
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

    def _build(self) -> None:
        bullet, config, robot = self._bullet, self.config, self.robot
        bullet.resetSimulation()
        bullet.configureDebugVisualizer(pybullet.COV_ENABLE_RENDERING, 0)
        bullet.setTimeStep(self.dt_s)
        bullet.setGravity(0.0, 0.0, -9.81)
        self._table = bullet.createMultiBody(0.0, bullet.createCollisionShape(pybullet.GEOM_PLANE))
        self._arm = load_arm(bullet, robot, config, self.limits)
        self._boxes = [make_box(bullet, *box) for box in box_corners(config.boxes_m, 'world.boxes_m')]
        self.box_contact_steps = 0
        self._arm_ids = [self._arm.joints[name] for name in robot.joints]
        self._finger_ids = [self._arm.joints[name] for name in self.fingers]
        self._forces, self._finger_forces = (np.minimum(limits.max_force, _STRONGEST).tolist()
                                             for limits in (self.limits, self.finger_limits))
        self._cube = make_object(bullet, self.cube) if self.cube else None
        self._marker = None if self._goal is None else make_goal_marker(bullet, self._goal)
        bullet.configureDebugVisualizer(pybullet.COV_ENABLE_RENDERING, 1)

    def _advance(self) -> None:
        if self._stop is not None:
            joint, angle = self._stop
            self._bullet.setJointMotorControl2(self._arm.body, joint, pybullet.POSITION_CONTROL, targetPosition=angle,
                                               force=_STRONGEST)
        self._bullet.stepSimulation()
        # Contact points are reported from some distance on.
        self.box_contact_steps += any(contact[_DISTANCE] <= 0.0 for box in self._boxes
                                      for contact in self._bullet.getContactPoints(self._arm.body, box))

    def _read(self, names: Sequence[str], derivative: int) -> np.ndarray:
        try:
            ids = [self._arm.joints[name] for name in names]
        except KeyError as error:
            raise self._no_joint(error.args[0]) from None
        if not ids:
            return np.zeros(0)
        return np.array([state[derivative] for state in self._bullet.getJointStates(self._arm.body, ids)])

    def _drive_velocity(self, velocity: np.ndarray) -> None:
        self._bullet.setJointMotorControlArray(self._arm.body, self._arm_ids, pybullet.VELOCITY_CONTROL,
                                               targetVelocities=velocity.tolist(), forces=self._forces)

    def _drive_position(self, position: np.ndarray, velocity: np.ndarray) -> None:
        self._bullet.setJointMotorControlArray(self._arm.body, self._arm_ids, pybullet.POSITION_CONTROL, forces=self._forces,
                                               targetPositions=position.tolist(), targetVelocities=velocity.tolist())

    def _drive_fingers(self, position_m: float) -> None:
        self._bullet.setJointMotorControlArray(self._arm.body, self._finger_ids, pybullet.POSITION_CONTROL,
                                               targetPositions=[position_m] * len(self.fingers), forces=self._finger_forces)

    def _stick(self, joint: int | None) -> None:
        self._stop = None
        if joint is not None:
            self._stop = self._arm_ids[joint], float(self._read(self.robot.joints, 0)[joint])
