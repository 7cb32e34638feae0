"""The simulated world in MuJoCo: an arm with imperfect servos, as a real one has.

The servo of a joint is a spring and a damper around a reference, which follows the command with a first-order lag. The servo
feeds the velocity of the command forward, so that a joint in steady motion is late by the lag alone.
"""

from collections.abc import Sequence

import mujoco
import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_sim.mujoco_model import KINDS, ROTOR_INERTIA, TABLE, THING, make_model
from mbrl_sim.physics import World
from mbrl_sim.scene import WorldConfig
from mbrl_sim.servo import ServoConfig

#: Inertia of a stuck joint, kg m²: no torque moves it, and the joints around it feel a rigid link.
_IMMOVABLE = 1e9


class MujocoWorld(World):
    """The world in MuJoCo; it has no pictures.

    Args:
        robot: Profile with a resolved URDF.
        config: Physics and cube.
        seed: Seed of all random draws, the lags among them.
        servo: Settings of the servos.

    Attributes:
        lag_s: Time constants of the arm's joints, shape (J,); each seed draws others.
        table_contact_steps: Physics steps since the last reset in which a moving link of the arm touched the table.

    Raises:
        ConfigError: As for `World`, or `config` asks for something that only PyBullet has.
    """

    def __init__(self, robot: RobotProfile, config: WorldConfig | None = None, seed: int = 0,
                 servo: ServoConfig | None = None) -> None:
        config, self._servo = config or WorldConfig(), servo or ServoConfig()
        if config.gui or config.self_collision or config.boxes_m or config.object_kind not in KINDS:
            raise ConfigError('the simulator mujoco has no window (world.gui), no collisions of the arm with itself '
                              f'(world.self_collision), no boxes (world.boxes_m), and only {" or ".join(KINDS)} as '
                              'world.object_kind; pybullet has them')
        super().__init__(robot, config, seed)

    def reset(self, seed: int | None = None) -> None:
        """As for `World`."""
        if seed is not None:
            self.lag_s = np.random.default_rng((seed, 1)).uniform(*self._servo.lag_s, len(self.robot.joints))
        self.table_contact_steps = 0
        super().reset(seed)

    def tool_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """As for `World`."""
        mujoco.mj_kinematics(self._model, self._data)  # A step leaves poses as they were at its beginning.
        tool = self._data.body(self.robot.tool_link)
        return tool.xpos.copy(), np.roll(tool.xquat, -1)

    def cube_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """As for `World`."""
        self._require_cube()
        place = self._data.joint(THING).qpos
        return place[:3].copy(), np.roll(place[3:], -1)

    def cube_velocity(self) -> tuple[np.ndarray, np.ndarray]:
        """As for `World`."""
        self._require_cube()
        joint, angular = self._data.joint(THING), np.zeros(3)
        mujoco.mju_rotVecQuat(angular, joint.qvel[3:], joint.qpos[3:])  # MuJoCo has it in the cube's own frame.
        return joint.qvel[:3].copy(), angular

    def touches_table(self) -> bool:
        """Whether a moving link of the arm was in contact with the table at the beginning of the last step."""
        pairs = self._data.contact.geom  # (contacts, 2)
        return bool(((pairs == self._table).any(axis=1) & self._is_arm[pairs].any(axis=1)).any())

    def place_arm(self, position: np.ndarray) -> None:
        """As for `World`."""
        place, speed = self._addresses(self.robot.joints)
        self._data.qpos[place] = self._data.act[:] = self._arm_array(position)
        self._data.qvel[speed] = 0.0
        self.drive_position(position)
        mujoco.mj_forward(self._model, self._data)

    def show_goal(self, position: np.ndarray) -> None:
        """Do nothing: there are no pictures."""

    def render(self, width: int = 480, height: int = 360) -> np.ndarray:
        """Raise `ConfigError`."""
        raise ConfigError('the simulator mujoco draws no pictures; pybullet does')

    def close(self) -> None:
        """Do nothing: the simulation ends with the object."""

    def _build(self) -> None:
        model = make_model(self.robot, self.config.physics_hz, self._servo, self.limits, self.finger_limits, self.cube)
        self._model, self._data = model, mujoco.MjData(model)
        self._known: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
        arm = slice(len(self.robot.joints))
        model.actuator_dynprm[arm, 0] = self.lag_s
        self._damping_s = -model.actuator_biasprm[arm, 2] / self._servo.stiffness
        # A reference that leads a joint by more than this adds no force. It waits there for a joint that cannot follow.
        self._max_lead = self.limits.max_force / self._servo.stiffness + self.lag_s * self.limits.max_velocity
        self._table = model.geom(TABLE).id
        bodies = model.geom_bodyid
        self._is_arm = (bodies > 0) & (bodies != (model.body(THING).id if self.cube else -1))
        for name in self.fingers:
            model.geom_friction[bodies == model.joint(name).bodyid, 0] = self.config.finger_friction
        if self.fingers:
            self._data.qpos[self._addresses(self.fingers)[0]] = self._opening / len(self.fingers)
        self._speed: np.ndarray | None = None
        self.place_arm(np.array(self.robot.home_rad))

    def _advance(self) -> None:
        if self._speed is not None:
            place = self._read(self.robot.joints, 0)
            self._target = np.clip(self._target + self._speed * self.dt_s, place - self._max_lead, place + self._max_lead)
            self._tell_servos(self._speed)
        mujoco.mj_step(self._model, self._data)
        self.table_contact_steps += self.touches_table()

    def _read(self, names: Sequence[str], derivative: int) -> np.ndarray:
        return (self._data.qvel if derivative else self._data.qpos)[self._addresses(names)[derivative]]

    def _addresses(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the named joints in the engine's positions and velocities."""
        key = tuple(names)
        if key not in self._known:
            if unknown := [name for name in names if name not in self.joint_names]:
                raise self._no_joint(unknown[0])
            joints = [self._model.joint(name).id for name in names]
            self._known[key] = self._model.jnt_qposadr[joints], self._model.jnt_dofadr[joints]
        return self._known[key]

    def _drive_velocity(self, velocity: np.ndarray) -> None:
        self._speed = velocity

    def _drive_position(self, position: np.ndarray, velocity: np.ndarray) -> None:
        self._speed, self._target = None, position
        self._tell_servos(velocity)

    def _tell_servos(self, velocity: np.ndarray) -> None:
        """Send the target to the servos, led by the velocity so that their damping does not brake the motion."""
        self._data.ctrl[:len(velocity)] = self._target + self._damping_s * velocity

    def _drive_fingers(self, position_m: float) -> None:
        self._data.ctrl[len(self.robot.joints):] = position_m

    def _stick(self, joint: int | None) -> None:
        degrees = self._addresses(self.robot.joints)[1]
        self._model.dof_armature[degrees] = ROTOR_INERTIA
        if joint is not None:
            self._model.dof_armature[degrees[joint]] = _IMMOVABLE
            self._data.qvel[degrees[joint]] = 0.0
