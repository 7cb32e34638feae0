"""The frame of the tool over a table, in which a grasp looks the same wherever the body lies and however it is turned.

Separate from the space, which defines observations; the frame defines which of them are equivalent. Implements `frame.Frame`.
"""

import math

import torch

from mbrl_ros.spaces.tabletop import BODY, BODY_YAW, OPENING, SIZE, TOOL, TOOL_YAW

#: Scale of the squashed offset between tool and body, metres. They touch within some centimetres; farther away the body does not
#: move, so squashing loses nothing there and keeps the resolution near contact.
_OFFSET_SCALE_M = 0.06
#: Scale of squashed heights above the table, metres; above 0.1 m neither fingers nor body touch it.
_HEIGHT_SCALE_M = 0.1
#: Scale of closeness, metres: half the opening of the gripper, within which it can hold the body.
_CLOSENESS_SCALE_M = 0.04
_FULL_TURN = 2.0 * math.pi
#: Distances beside and below the tool, metres, beyond which a body touches neither hand nor fingers.
_BESIDE_M, _BELOW_M = 0.16, 0.1
#: Largest distance of imagined bodies from the tool, along the table.
_IMAGINED_M = 0.3
#: Rotation about the vertical after which a cube looks the same.
_CUBE_TURN = _FULL_TURN / 4.0

_BODY_OFFSET = BODY.start - TOOL.start
#: x and y of tool and body, among the positions and likewise among the velocities.
_X = slice(TOOL.start, BODY.start + 1, _BODY_OFFSET)
_Y = slice(TOOL.start + 1, BODY.start + 2, _BODY_OFFSET)


class ToolFrame:
    """Position and yaw of the tool as a frame for `ToolSpace`'s observations and actions, O = 18 and A = A' = 5; z is up.

    Features are invariant to shifts of the scene along the table, to rotations of the scene about the vertical, and to quarter
    turns of the body, a cube. Features of an observation are, in order:

    - 0 to 2: the body's position as seen from the tool, squashed;
    - 3: the tool's height, squashed;
    - 4: the opening, metres;
    - 5 and 6: sine and cosine of four times the body's yaw as seen from the tool;
    - 7: closeness, from 1 where tool and body coincide to 0 far away;
    - 8: the body's height, squashed;
    - 9 to 17: the velocities, with x and y rotated to the tool's axes.

    Features of an action are the action, with the twist's x and y rotated likewise. Heights are above the base, which is at the
    height of the table. Compiled code computes the same: `models/ensemble/kernels/tool_frame_kernel.h`.

    Attributes:
        obs_size: O.
        action_size: A.
        scales: Scales of offsets, heights and closeness, metres, and the order of the cube's symmetry about z.
    """

    obs_size, action_size, is_shiftable = 2 * SIZE, 5, False
    scales = _OFFSET_SCALE_M, _HEIGHT_SCALE_M, _CLOSENESS_SCALE_M, _FULL_TURN / _CUBE_TURN

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `frame.Frame.encode`."""
        # Entries first, so that each is contiguous; planning then takes a quarter less time.
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
        """See `frame.Frame.change`; along the tool's axes in `obs`.

        The tool's yaw changes by at most half a turn, the body's by an eighth: a cube looks the same after a quarter.
        """
        yaw = obs[..., TOOL_YAW]
        rows = _turned((next_obs - obs).movedim(-1, 0), torch.cos(yaw), torch.sin(yaw))
        for index, turn in ((TOOL_YAW, _FULL_TURN), (BODY_YAW, _CUBE_TURN)):
            rows[index] = torch.remainder(rows[index] + 0.5 * turn, turn) - 0.5 * turn
        return rows.movedim(0, -1)

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """See `frame.Frame.moved`; yaws continue from those of `obs` and are not wrapped."""
        yaw = obs[..., TOOL_YAW]
        return obs + _turned(change.movedim(-1, 0), torch.cos(yaw), -torch.sin(yaw)).movedim(0, -1)

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `frame.Frame.counterfactuals`: combine the tool of one transition with the body of another.

        The body is placed anywhere within 30 cm of the tool and turned, because the table is the same everywhere. Combinations
        in which tool and body could touch are left out.
        """
        tools = (_is_apart(obs) & _is_apart(next_obs)).nonzero().squeeze(1)
        bodies = tools[torch.randperm(len(tools), generator=generator)]
        distance, heading, turn = torch.rand(3, len(tools), generator=generator, dtype=obs.dtype)
        heading, turn = _FULL_TURN * heading, _FULL_TURN * turn
        direction = torch.stack((torch.cos(heading), torch.sin(heading)), dim=1)
        place = obs[tools][:, TOOL][:, :2] + _IMAGINED_M * distance.unsqueeze(1) * direction
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
    """Whether body and tool are too far apart to touch, shape (N,), bool, for obs of shape (N, 18)."""
    offset = obs[:, BODY] - obs[:, TOOL]
    return (offset[:, :2].norm(dim=1) > _BESIDE_M) | (offset[:, 2] < -_BELOW_M)


def _turned(rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x and y of tool and body to axes turned about z by an angle; shapes (18, ...), (...) and (...)."""
    turned = rows.clone(memory_format=torch.contiguous_format)
    halves = turned.unflatten(0, (2, SIZE))
    x, y = halves[:, _X], halves[:, _Y]  # (2, 2, ...)
    halves[:, _X], halves[:, _Y] = cos * x + sin * y, cos * y - sin * x
    return turned
