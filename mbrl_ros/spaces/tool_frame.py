"""The frame of the tool over a table, in which a grasp is the same wherever the body lies and however it is turned.

Separate from the space, which says what an observation is; this says which of them are alike. Satisfies `frame.Frame`.
"""

import math

import torch

from mbrl_ros.spaces.tabletop import BODY, BODY_YAW, OPENING, SIZE, TOOL, TOOL_YAW

#: Distances along an axis of the tool, metres, beyond which features flatten. Tool and body touch within some centimetres;
#: farther away the body does not move, so that squashing loses nothing there and leaves the resolution to where things happen.
_OFFSET_SCALE_M = 0.06
#: Likewise for heights above the table: above some 0.1 m neither the fingers nor the body can touch it.
_HEIGHT_SCALE_M = 0.1
#: Distance over which the feature for being at the body falls off: half of what an open gripper spans, as there it can hold it.
_CLOSENESS_SCALE_M = 0.04
_FULL_TURN = 2.0 * math.pi
#: Beside the tool by more than this, or below it by more than that, metres, a body touches neither hand nor fingers.
_BESIDE_M, _BELOW_M = 0.16, 0.1
#: Within this distance of the tool, along the table, a body is imagined.
_IMAGINED_M = 0.3
#: Turns about the vertical after which a cube looks the same.
_CUBE_TURN = _FULL_TURN / 4.0

_BODY_OFFSET = BODY.start - TOOL.start
#: x and y of the tool and of the body, in the positions as in the velocities.
_X = slice(TOOL.start, BODY.start + 1, _BODY_OFFSET)
_Y = slice(TOOL.start + 1, BODY.start + 2, _BODY_OFFSET)


class ToolFrame:
    """Position and yaw of the tool as a frame for `ToolSpace`'s observations and actions, O = 18 and A = A' = 5; z is up.

    Features do not change when the whole scene is shifted along the table or turned about the vertical, or the body, taken for a
    cube, by a quarter of a turn. Those of an observation are, in order:

    - 0 to 2: the body's position as seen from the tool, squashed;
    - 3: the tool's height, squashed;
    - 4: the opening, metres;
    - 5 and 6: sine and cosine of four times the body's yaw as seen from the tool;
    - 7: closeness, from 1 where tool and body coincide to 0 far away;
    - 8: the body's height, squashed;
    - 9 to 17: the velocities, those along x and y turned to the tool's axes.

    Those of an action are the action, the twist's x and y likewise turned. The heights are above the base, the table's height.

    Compiled code does the same; see `models/ensemble/kernels/tool_frame_kernel.h`.

    Attributes:
        obs_size: O.
        action_size: A.
        scales: What it measures by: the distances, metres, over which offsets, heights and closeness are squashed, and the turns
            of a cube in which it comes to look the same.
    """

    obs_size, action_size = 2 * SIZE, 5
    scales = _OFFSET_SCALE_M, _HEIGHT_SCALE_M, _CLOSENESS_SCALE_M, _FULL_TURN / _CUBE_TURN

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of observations and actions.

        Args:
            obs: Shape (..., 18), m, rad and their rates.
            action: Shape (..., 5).

        Returns:
            Shapes (..., 18) and (..., 5).
        """
        # Entries first, so that each lies in one piece, which takes a planner a quarter less time.
        rows, twist = obs.movedim(-1, 0).contiguous(), action.movedim(-1, 0)  # (18, ...) and (5, ...)
        cos, sin = torch.cos(rows[TOOL_YAW]), torch.sin(rows[TOOL_YAW])
        seen = _turned(rows, cos, sin)
        offset = seen[BODY] - seen[TOOL]  # (3, ...)
        closeness = torch.exp(offset.square().sum(dim=0) / -_CLOSENESS_SCALE_M**2)
        alike = (_FULL_TURN / _CUBE_TURN) * (rows[BODY_YAW] - rows[TOOL_YAW])
        heights = torch.tanh(rows[TOOL.stop - 1:BODY.stop:_BODY_OFFSET] / _HEIGHT_SCALE_M)  # (2, ...)
        features = torch.cat([
            torch.tanh(offset / _OFFSET_SCALE_M), heights[:1], rows[OPENING:OPENING + 1],
            torch.stack([torch.sin(alike), torch.cos(alike), closeness]), heights[1:], seen[SIZE:],
        ])
        planar = torch.stack([cos * twist[0] + sin * twist[1], cos * twist[1] - sin * twist[0]])
        return features.movedim(0, -1), torch.cat([planar, twist[2:]]).movedim(0, -1)

    def change(self, obs: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        """What changes from one observation to the next, along the axes that the tool has in the first.

        Args:
            obs: Shape (..., 18).
            next_obs: Shape (..., 18).

        Returns:
            Shape (..., 18). The tool's yaw changes by half a turn at most, whichever multiple of a turn it is given with, and
            the body's by an eighth, as a cube that has turned by more has turned by less the other way round.
        """
        yaw = obs[..., TOOL_YAW]
        rows = _turned((next_obs - obs).movedim(-1, 0), torch.cos(yaw), torch.sin(yaw))
        for index, turn in ((TOOL_YAW, _FULL_TURN), (BODY_YAW, _CUBE_TURN)):
            rows[index] = torch.remainder(rows[index] + 0.5 * turn, turn) - 0.5 * turn
        return rows.movedim(0, -1)

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Observation after a change along the tool's axes; the inverse of `change`, up to the turns that it takes for none.

        Args:
            obs: Shape (..., 18).
            change: Shape (..., 18).

        Returns:
            Shape (..., 18); yaws go on from those of `obs` and are not wrapped.
        """
        yaw = obs[..., TOOL_YAW]
        return obs + _turned(change.movedim(-1, 0), torch.cos(yaw), -torch.sin(yaw)).movedim(0, -1)

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the tool of one transition and the body of another would have done together, where they do not touch.

        The body is put anywhere within 30 cm of the tool and turned, as the table is alike everywhere; what would touch then
        is left out. For arguments and source see `frame.Frame.counterfactuals`.
        """
        tools = (_is_apart(obs) & _is_apart(next_obs)).nonzero().squeeze(1)
        bodies = tools[torch.randperm(len(tools), generator=generator)]
        distance, heading, turn = torch.rand(3, len(tools), generator=generator, dtype=obs.dtype)
        place = obs[tools][:, TOOL][:, :2] + _IMAGINED_M * distance.unsqueeze(1) * _directions(_FULL_TURN * heading)
        turn = _FULL_TURN * turn
        begin = _turned(obs[bodies].T, torch.cos(turn), -torch.sin(turn))[BODY][:2].T
        imagined = []
        for rows in (obs, next_obs):
            body = _turned(rows[bodies].T, torch.cos(turn), -torch.sin(turn)).T
            body[:, BODY][:, :2] += place - begin
            body[:, BODY_YAW] += turn
            scene = rows[tools].clone()
            for part in (slice(BODY.start, SIZE), slice(SIZE + BODY.start, 2 * SIZE)):
                scene[:, part] = body[:, part]
            imagined.append(scene)
        kept = _is_apart(imagined[0]) & _is_apart(imagined[1])
        return imagined[0][kept], action[tools][kept], imagined[1][kept]


def _is_apart(obs: torch.Tensor) -> torch.Tensor:
    """Whether body and tool are too far apart to touch, shape (N,), for obs of shape (N, 18)."""
    offset = obs[:, BODY] - obs[:, TOOL]
    return (offset[:, :2].norm(dim=1) > _BESIDE_M) | (offset[:, 2] < -_BELOW_M)


def _directions(angle: torch.Tensor) -> torch.Tensor:
    """Unit vectors along the table, shape (N, 2)."""
    return torch.stack((torch.cos(angle), torch.sin(angle)), dim=1)


def _turned(rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The same as seen from axes turned about z by an angle; shapes (18, ...), (...) and (...)."""
    turned = rows.clone(memory_format=torch.contiguous_format)
    halves = turned.unflatten(0, (2, SIZE))
    x, y = halves[:, _X], halves[:, _Y]  # (2, 2, ...)
    halves[:, _X], halves[:, _Y] = cos * x + sin * y, cos * y - sin * x
    return turned
