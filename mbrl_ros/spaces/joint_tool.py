"""A gripper over a table, moved by joint velocities: the space, and the frame in which its dynamics are learned.

Separate from `ToolSpace`, whose observations need no joints because its twists keep the tool upright.
"""

import numpy as np
import torch

from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.spaces.joint_tool_view import JointToolView
from mbrl_ros.spaces.tabletop import BODY, GRIP, OPENING, SIZE, TILT, TOOL
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.spaces.tool_frame import ToolFrame
from mbrl_ros.types import ArmCommand, RobotState

#: Actions of tasks over a table: the tool's twist or joint velocities, each with the opening.
ACTIONS = ('twist', 'joints')
#: Speed of a joint for an action of 1.
_SPEED_RAD_S = 0.8
_SCENE = slice(0, 2 * SIZE)
#: Entries of a twist: motions of an upright tool, and motions that tilt it.
_USUAL, _TILTING = [0, 1, 2, 5], [3, 4]
#: Size of search directions that tilt the tool, and of those that do not move it, relative to the other directions.
_TILTED, _UNMOVED = 0.1, 0.1
#: Smallest singular value of a Jacobian of full rank, m/s or rad/s of the tool per rad/s of the joints.
_SINGULAR = 0.01
_AXES = 6
#: Heights of a body's centre, metres, below which it may lie on the table, and above which it is in the air.
_ON_TABLE_M, _IN_AIR_M = 0.035, 0.055
#: Distance, metres, within which the tool may hold a body: half the opening of the gripper.
_AT_TOOL_M = 0.04


class JointToolSpace(ToolSpace):
    """A gripper over a table and one body, moved by joint velocities.

    An observation begins with that of `ToolSpace`, shape (18,), so that rewards read both alike. The x and y of the tool's
    approach axis in the base frame follow, 0 for a tool that points down, then the joint positions, then the rates of both. An
    action is joint velocities in units of 0.8 rad/s, then the opening as in `ToolSpace`. Arguments, errors and attributes are
    those of `ToolSpace`.
    """

    #: In version 1 the model predicted a held body's own motion, not its motion relative to the tool.
    name, version = 'joint_tool', 2

    def __init__(self, robot: RobotProfile, kinematics: KinematicChain, body: str = 'object') -> None:
        super().__init__(robot, kinematics, body)
        self._kinematics = kinematics
        self._acceleration = np.array(robot.max_acceleration_rad_s2)
        self.state_names = (*self.state_names, 'tool_tilt_x', 'tool_tilt_y', *robot.joints)
        self.action_names = (*robot.joints, robot.gripper.name)
        self.tilt, self.home = TILT, robot.home_rad
        self.is_directed = len(robot.joints) >= _AXES
        self.frame = JointToolFrame(kinematics, self._resolver.scale)
        self.view = JointToolView(kinematics)

    def observe(self, state: RobotState) -> np.ndarray:
        """See `ActionSpace.observe`."""
        q, speed = state.positions(self._robot.joints), state.velocities(self._robot.joints)
        joints = torch.from_numpy(q)
        axis = self._kinematics.pose(joints)[1][:, 2].numpy()
        turning = self._kinematics.jacobian(joints).numpy()[3:] @ speed
        return np.concatenate([super().observe(state), axis[:2], q, np.cross(turning, axis)[:2], speed])

    def command(self, action: np.ndarray, state: RobotState) -> ArmCommand:
        """See `ActionSpace.command`."""
        return ArmCommand(action[:GRIP] * _SPEED_RAD_S, self._opening(action[GRIP]))

    def action(self, command: ArmCommand, state: RobotState) -> np.ndarray:
        """See `ActionSpace.action`; without an opening in the command the action has the present opening."""
        return np.array([*(command.velocity / _SPEED_RAD_S), self._grip(command, state)])

    def of_twist(self, action: np.ndarray, state: RobotState) -> np.ndarray:
        """See `ToolSpace.of_twist`; scaled down if a joint would be too fast."""
        command = super().command(action, state)
        joints = command.velocity / _SPEED_RAD_S
        return np.array([*(joints / max(1.0, float(np.abs(joints).max()))), action[GRIP]])

    def largest_change(self, acceleration_scale: float, period_s: float) -> np.ndarray:
        """See `ActionSpace.largest_change`; the command filter allows the same change."""
        return np.array([*(self._acceleration * acceleration_scale * period_s / _SPEED_RAD_S), 2.0])

    def directions(self, obs: np.ndarray) -> np.ndarray | None:
        """See `Space.directions`: joint velocities that move the tool along an axis, turn it, tilt it or leave it at rest.

        Almost all random joint velocities tilt the tool, so a search along single joints makes no progress. In a singular pose
        the directions are those of the home pose.
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

    Features of an observation are those of `ToolFrame`, the tilt unchanged, and zeros for the joints: the twist below says what
    the joints mean for the tool, and a network would learn spurious dependences on joints from a few episodes. Features of an
    action are, in order, those of `ToolFrame` for the action's twist and opening, the tool's rotation about x and y, rad/s, and
    the joint velocities.

    A change is that of `ToolFrame`. When the tool holds a body in the air, the model predicts the body's motion relative to the
    tool: a predicted grasp holds unless the data show otherwise, and the network need not learn for each motion of the joints
    that a held body follows.

    Args:
        kinematics: Chain of the arm.
        twist_scale: Twist for an action of 1, m/s, m/s, m/s and rad/s, shape (4,).
    """

    is_shiftable = False

    def __init__(self, kinematics: KinematicChain, twist_scale: np.ndarray) -> None:
        self._kinematics, self._tool = kinematics, ToolFrame()
        self._linear, self._yaw = float(twist_scale[0]), float(twist_scale[3])

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `frame.Frame.encode`."""
        joints, grip = action[..., :GRIP], action[..., GRIP:]
        size = joints.shape[-1]
        q = obs[..., TILT.stop:TILT.stop + size]
        twist = (self._kinematics.jacobian(q) @ (_SPEED_RAD_S * joints).unsqueeze(-1)).squeeze(-1)  # (..., 6)
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
        """See `ToolFrame.counterfactuals`; joints and tilt go with the tool."""
        size = obs.shape[-1]
        # Append joints and tilt to the action, so the parent permutes them together.
        carried = torch.cat([action, obs[:, _SCENE.stop:], next_obs[:, _SCENE.stop:]], dim=-1)
        scene, carried, next_scene = self._tool.counterfactuals(obs[:, _SCENE], carried, next_obs[:, _SCENE], generator)
        action, rest, next_rest = carried.split([action.shape[-1], *[size - _SCENE.stop] * 2], dim=-1)
        return torch.cat([scene, rest], dim=-1), action, torch.cat([next_scene, next_rest], dim=-1)


def _held(obs: torch.Tensor) -> torch.Tensor:
    """Share of the tool's motion that the body follows, shape (...), for obs of shape (..., O).

    It is 1 for a body in the air at the tool, which the tool must be holding, and 0 on the table.
    """
    away = (obs[..., BODY] - obs[..., TOOL]).square().sum(dim=-1)
    up = ((obs[..., BODY.stop - 1] - _ON_TABLE_M) / (_IN_AIR_M - _ON_TABLE_M)).clamp(min=0.0, max=1.0)
    return up * torch.exp(-(away / _AT_TOOL_M**2).square())


def _taken_along(change: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Add a share of the tool's change to the body's change; shapes (..., 18) and (...)."""
    tool, opening, body = change.unflatten(-1, (2, SIZE)).split([OPENING, 1, OPENING], dim=-1)
    return torch.cat([tool, opening, body + share[..., None, None] * tool], dim=-1).flatten(-2)


def table_space(robot: RobotProfile, actions: str = 'twist') -> ToolSpace:
    """Space of a task over a table, for an arm with a gripper; `actions` is one of `ACTIONS`.

    Raises:
        ConfigError: The robot has no gripper.
    """
    space = JointToolSpace if actions == 'joints' else ToolSpace
    return space(robot, KinematicChain.of_robot(robot))
