"""What a policy over a table sees: the scene in the axes of the tool. Implements `view.View`."""

import torch

from mbrl_ros.spaces.tabletop import BODY, SIZE, TOOL, TOOL_YAW
from mbrl_ros.spaces.tool_frame import ToolFrame

#: Scales of squashed ways, metres: from tool to body, which touch within a finger's width, and from body to goal.
TOUCHING_M, ARRIVING_M = 0.02, 0.05
_NUM_FEATURES = 2 * SIZE + 4 * 3
_GRIP = 4


class ToolView:
    """Position and yaw of the tool as a view for `ToolSpace`'s observations and actions, O = 18, A = 5.

    Features are those of `ToolFrame`, then the way from tool to body and from body to goal along the tool's axes, each once as it
    is, metres, and once squashed. A model needs no goal and resolves only contact; a policy has to find its way from afar too.
    """

    name, version, num_features = 'tool', 1, _NUM_FEATURES

    def __init__(self, frame: ToolFrame) -> None:
        self._frame = frame

    def features(self, obs: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """See `view.View.features`."""
        features, _ = self._frame.encode(obs, torch.zeros_like(obs[..., :_GRIP + 1]))
        to_body = _along_tool(obs, obs[..., BODY] - obs[..., TOOL])
        to_goal = _along_tool(obs, goal - obs[..., BODY])
        return torch.cat([features, to_body, torch.tanh(to_body / TOUCHING_M),
                          to_goal, torch.tanh(to_goal / ARRIVING_M)], dim=-1)

    def seen(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """See `view.View.seen`; x and y of the twist along the tool's axes."""
        return _along_tool(obs, action)

    def action(self, obs: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """See `view.View.action`."""
        return _turned(seen, torch.cos(obs[..., TOOL_YAW]), -torch.sin(obs[..., TOOL_YAW])).clamp(-1.0, 1.0)


def _along_tool(obs: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """A vector whose first entries are x and y, shape (..., N), along the tool's axes."""
    return _turned(vector, torch.cos(obs[..., TOOL_YAW]), torch.sin(obs[..., TOOL_YAW]))


def _turned(vector: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x and y of a vector, shape (..., N), in axes turned about z by an angle."""
    x, y = vector[..., 0], vector[..., 1]
    return torch.cat([torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1), vector[..., 2:]], dim=-1)
