"""A gripper over a table whose arm is moved joint by joint: the space, and the frame that its dynamics are learned in.

Separate from `ToolSpace`, which needs no joints: its twists keep the tool upright whatever the joints do for that.
"""

import dataclasses

import numpy as np
import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.robots import RobotProfile
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.spaces.tabletop import BODY, GRIP, OPENING, SIZE, TILT, TOOL
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.spaces.tool_frame import ToolFrame
from mbrl_ros.types import ArmCommand, RobotState

#: What the actions of tasks over a table may be: the tool's twist, or the velocities of the joints; and the opening.
ACTIONS = ('twist', 'joints')
_SCENE = slice(0, 2 * SIZE)
#: Entries of a twist: the motions that a tool over a table makes, and those that tilt it.
_USUAL, _TILTING = [0, 1, 2, 5], [3, 4]
#: How far what tilts the tool, and what does not move it, is tried beside the motions of the tool.
_TILTED, _UNMOVED = 0.1, 0.1
#: Of a Jacobian, m/s or rad/s of the tool for 1 rad/s of joints: with less the arm does not move that way.
_SINGULAR = 0.01
_AXES = 6
#: Heights of a body's centre, metres, up to which a cube may lie on the table, and from which on it is in the air.
_ON_TABLE_M, _IN_AIR_M = 0.035, 0.055
#: Distance, metres, within which the tool may hold it: half of what an open gripper spans.
_AT_TOOL_M = 0.04


@dataclasses.dataclass(frozen=True)
class JointActionConfig(Config):
    """How fast the joints move."""

    max_speed_rad_s: float = setting(0.8, 'Speed of a joint that an action of 1 means.', unit='rad/s', low=0.01, high=10.0)


class JointToolSpace(ToolSpace):
    """What `ToolSpace` sees, then how the tool is tilted and where the joints are; an action is joint velocities and an opening.

    An observation begins with one of `ToolSpace`, shape (18,), so that rewards look at either alike. After it come the x and y of
    the tool's approach axis in the base frame, which are 0 where it points down, and the joints' positions; then the rates of
    these. The last entry of an action is the opening, as in `ToolSpace`; the others are in units of `JointActionConfig`'s speed.

    Args:
        robot: Arm with a gripper.
        kinematics: Chain of the same robot.
        body: Name of the tracked body.
        config: Speed of the joints.

    Raises:
        ConfigError: The robot has no gripper.
    """

    #: In version 1 a held body's motion was learned as it is, and not relative to the tool.
    name, version = 'joint_tool', 2

    def __init__(self, robot: RobotProfile, kinematics: KinematicChain, body: str = 'object',
                 config: JointActionConfig | None = None) -> None:
        super().__init__(robot, kinematics, body)
        self._kinematics = kinematics
        self._speed = (config or JointActionConfig()).max_speed_rad_s
        self._acceleration = np.array(robot.max_acceleration_rad_s2)
        self.state_names = (*self.state_names, 'tool_tilt_x', 'tool_tilt_y', *robot.joints)
        self.action_names = (*robot.joints, robot.gripper.name)
        self.tilt, self.home = TILT, robot.home_rad
        self.is_directed = len(robot.joints) >= _AXES
        self.frame = JointToolFrame(kinematics, self._speed, self._resolver.scale)

    def observe(self, state: RobotState) -> np.ndarray:
        """See `ActionSpace.observe`."""
        q, speed = state.positions(self._robot.joints), state.velocities(self._robot.joints)
        joints = torch.from_numpy(q)
        axis = self._kinematics.pose(joints)[1][:, 2].numpy()
        turning = self._kinematics.jacobian(joints).numpy()[3:] @ speed
        return np.concatenate([super().observe(state), axis[:2], q, np.cross(turning, axis)[:2], speed])

    def command(self, action: np.ndarray, state: RobotState) -> ArmCommand:
        """See `ActionSpace.command`."""
        return ArmCommand(action[:GRIP] * self._speed, self._opening(action[GRIP]))

    def action(self, command: ArmCommand, state: RobotState) -> np.ndarray:
        """See `ActionSpace.action`; without an opening in the command the gripper counts as told to stay as it is."""
        return np.array([*(command.velocity / self._speed), self._grip(command, state)])

    def of_twist(self, action: np.ndarray, state: RobotState) -> np.ndarray:
        """See `ToolSpace.of_twist`; slower, in the same direction, where a joint would be too fast."""
        command = super().command(action, state)
        joints = command.velocity / self._speed
        return np.array([*(joints / max(1.0, float(np.abs(joints).max()))), action[GRIP]])

    def largest_change(self, acceleration_scale: float, period_s: float) -> np.ndarray:
        """See `ActionSpace.largest_change`; what the command filter lets an action change by."""
        return np.array([*(self._acceleration * acceleration_scale * period_s / self._speed), 2.0])

    def directions(self, obs: np.ndarray) -> np.ndarray | None:
        """See `Space.directions`: joint velocities that move the tool along an axis, turn it, tilt it or leave it.

        Of joints that move at random nearly all tilt the tool, and a search among them stays where it is. Where the arm
        cannot move its tool every way the directions are those at home.
        """
        if not self.is_directed:
            return None
        where = obs[TILT.stop:TILT.stop + len(self._robot.joints)]
        jacobian = self._kinematics.jacobian(torch.as_tensor(where, dtype=torch.float64)).numpy()
        if np.linalg.matrix_rank(jacobian, tol=_SINGULAR) < _AXES:
            jacobian = self._kinematics.jacobian(torch.tensor(self._robot.home_rad, dtype=torch.float64)).numpy()
        moving = np.linalg.pinv(jacobian)
        *_, axes = np.linalg.svd(jacobian)
        columns = np.concatenate([moving[:, _USUAL], moving[:, _TILTING], axes[_AXES:].T], axis=1)
        share = np.repeat([1.0, _TILTED, _UNMOVED], [len(_USUAL), len(_TILTING), jacobian.shape[1] - _AXES])
        columns *= share / np.abs(columns).max(axis=0)
        return np.block([[columns, np.zeros((len(columns), 1))], [np.zeros((1, len(columns))), np.ones((1, 1))]])


class JointToolFrame:
    """The tool's frame for `JointToolSpace`'s observations and actions, O = 18 + 2 * (2 + J), A = J + 1 and A' = 7 + J.

    Of what `ToolSpace` sees the features are those of `ToolFrame`, and the tilt stays as it is. Those of an action are, in order,
    those of the twist and opening that it amounts to where the joints are, by the arm's kinematics, the tool's turn about x and
    y, rad/s, and the joint velocities. The joints themselves are hidden, zero: what they mean for the tool is in that twist, and
    of what else they were in a few episodes a network would make something that is not so.

    A change is that of `ToolFrame`; when the tool holds a body in the air, the body's motion is relative to the tool. So a
    grasp holds in a prediction unless something was seen to loosen it. Joints turn and jerk the tool in many ways, and the
    network need not learn for each that a held body follows.

    Args:
        kinematics: Chain of the arm.
        speed_rad_s: Of a joint at an action of 1.
        twist_scale: Twist that counts as 1, m/s, m/s, m/s and rad/s, shape (4,).
    """

    def __init__(self, kinematics: KinematicChain, speed_rad_s: float, twist_scale: np.ndarray) -> None:
        self._kinematics, self._speed, self._tool = kinematics, speed_rad_s, ToolFrame()
        self._linear, self._yaw = float(twist_scale[0]), float(twist_scale[3])

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `frame.Frame.encode`."""
        joints, grip = action[..., :GRIP], action[..., GRIP:]
        size = joints.shape[-1]
        q = obs[..., TILT.stop:TILT.stop + size]
        twist = (self._kinematics.jacobian(q) @ (self._speed * joints).unsqueeze(-1)).squeeze(-1)  # (..., 6)
        planned = torch.cat([twist[..., :3] / self._linear, twist[..., _AXES - 1:] / self._yaw, grip], dim=-1)
        features, seen = self._tool.encode(obs[..., _SCENE], planned)
        tilt, _, tilt_rate, _ = obs[..., _SCENE.stop:].split([2, size, 2, size], dim=-1)
        hidden = torch.zeros_like(q)
        return (torch.cat([features, tilt, hidden, tilt_rate, hidden], dim=-1),
                torch.cat([seen, twist[..., 3:_AXES - 1], joints], dim=-1))

    def change(self, obs: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        """See `frame.Frame.change`."""
        scene = self._tool.change(obs[..., _SCENE], next_obs[..., _SCENE])
        return torch.cat([_taken_along(scene, -_held(obs)), (next_obs - obs)[..., _SCENE.stop:]], dim=-1)

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """See `frame.Frame.moved`."""
        scene = self._tool.moved(obs[..., _SCENE], _taken_along(change[..., _SCENE], _held(obs)))
        return torch.cat([scene, (obs + change)[..., _SCENE.stop:]], dim=-1)

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `ToolFrame.counterfactuals`; joints and tilt are the tool's."""
        size = obs.shape[-1]
        # Append joints and tilt to the action, so the parent permutes them together.
        carried = torch.cat([action, obs[:, _SCENE.stop:], next_obs[:, _SCENE.stop:]], dim=-1)
        scene, carried, next_scene = self._tool.counterfactuals(obs[:, _SCENE], carried, next_obs[:, _SCENE], generator)
        action, rest, next_rest = carried.split([action.shape[-1], *[size - _SCENE.stop] * 2], dim=-1)
        return torch.cat([scene, rest], dim=-1), action, torch.cat([next_scene, next_rest], dim=-1)


def _held(obs: torch.Tensor) -> torch.Tensor:
    """Share of the tool's motion that the body makes with it, shape (...), for obs of shape (..., O).

    What is in the air at the tool is held by it; on the table, whatever the tool does, nothing is said beforehand.
    """
    away = (obs[..., BODY] - obs[..., TOOL]).square().sum(dim=-1)
    up = ((obs[..., BODY.stop - 1] - _ON_TABLE_M) / (_IN_AIR_M - _ON_TABLE_M)).clamp(min=0.0, max=1.0)
    return up * torch.exp(-(away / _AT_TOOL_M**2).square())


def _taken_along(change: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The same change of a scene, to the body's a share of the tool's added; shapes (..., 18) and (...)."""
    tool, opening, body = change.unflatten(-1, (2, SIZE)).split([OPENING, 1, OPENING], dim=-1)
    return torch.cat([tool, opening, body + share[..., None, None] * tool], dim=-1).flatten(-2)


def table_space(robot: RobotProfile, actions: str = 'twist') -> ToolSpace:
    """Space of a task over a table.

    Args:
        robot: Arm with a gripper.
        actions: One of `ACTIONS`.

    Raises:
        ConfigError: The robot has no gripper.
    """
    space = JointToolSpace if actions == 'joints' else ToolSpace
    return space(robot, KinematicChain.of_robot(robot))
