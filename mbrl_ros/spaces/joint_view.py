"""What a policy that moves joints sees: the arm, and the way from tool to goal. Implements `view.View`."""

import torch

from mbrl_ros.robots.kinematics import ChainProducts, KinematicChain

#: Scale of the squashed way, metres.
_ARRIVING_M = 0.05


class JointView:
    """Way from tool to goal as a view for `JointSpace`'s observations and actions, O = 2 J, A = J; F = 3 J + 6.

    Features are the observation, the way from tool to goal, metres, the same squashed, and the squashed way times the transposed
    Jacobian: how much the motion of each joint brings the tool nearer, metres a radian. A policy thus need not learn the
    kinematics of the arm.

    Args:
        kinematics: Chain of the arm.
    """

    name, version = 'joint', 1

    def __init__(self, kinematics: KinematicChain) -> None:
        self._motion, self._size = ChainProducts(kinematics), kinematics.num_joints
        self.num_features = 3 * self._size + 2 * 3

    def features(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """See `view.View.features`."""
        tool, slopes = self._motion(obs[..., :self._size])
        way = goal - tool
        near = torch.tanh(way / _ARRIVING_M)
        along = (slopes @ near.unsqueeze(-1)).squeeze(-1)
        return torch.cat([obs, way, near, along], dim=-1)

    def seen(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """See `view.View.seen`; the action itself."""
        return action

    def action(self, obs: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """See `view.View.action`."""
        return seen.clamp(-1.0, 1.0)
