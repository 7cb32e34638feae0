"""What a policy that moves joints over a table sees. Implements `view.View`."""

import torch

from mbrl_ros.robots.kinematics import ChainProducts, KinematicChain
from mbrl_ros.spaces.joint_view import JointView
from mbrl_ros.spaces.tabletop import BODY, SIZE, TILT, TOOL
from mbrl_ros.spaces.tool_frame import ToolFrame
from mbrl_ros.spaces.tool_view import ARRIVING_M, TOUCHING_M, ToolView

_SCENE = slice(0, 2 * SIZE)


class JointToolView(JointView):
    """A view for `JointToolSpace`'s observations and actions, O = 18 + 2 * (2 + J), A = J + 1; the action is seen as it is.

    Features are those of `ToolView`, tilt and joints with their rates, and the squashed ways from tool to body and from body to
    goal along each joint, as in `JointView`.

    Args:
        kinematics: Chain of the arm.
    """

    name, version = 'joint_tool', 1

    def __init__(self, kinematics: KinematicChain) -> None:
        self._scene, self._motion, self._size = ToolView(ToolFrame()), ChainProducts(kinematics), kinematics.num_joints
        self.num_features = self._scene.num_features + 2 * (2 + self._size) + 2 * self._size

    def features(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """See `view.View.features`."""
        _, slopes = self._motion(obs[..., TILT.stop:TILT.stop + self._size])
        tool, body = obs[..., TOOL], obs[..., BODY]
        ways = torch.stack([torch.tanh((body - tool) / TOUCHING_M), torch.tanh((goal - body) / ARRIVING_M)], dim=-1)
        scene = self._scene.features(obs[..., _SCENE], goal)
        return torch.cat([scene, obs[..., _SCENE.stop:], (slopes @ ways).flatten(-2)], dim=-1)
