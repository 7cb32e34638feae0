"""Inverse kinematics of a tool that points down, for many places at once."""

import torch

from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile

_ITERATIONS, _DAMPING = 200, 1e-2
#: Largest error that one iteration takes back, and what remains where a place counts as reached: m, and sine of the tilt.
_STRIDE, _TOLERANCE = 0.1, 1e-3


def reach_down(robot: RobotProfile, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Joint positions with the tool at places, pointing down.

    Damped least squares from home (Wampler 1986; Nakamura and Hanafusa 1986), within the position limits, so that a place counts
    as out of reach if the arm gets stuck at a limit on the way.

    Args:
        robot: Profile of the robot.
        places: Positions of the tool in the base frame, shape (N, 3), m, float64.

    Returns:
        Joint positions, shape (N, J), rad, and whether they reach the place with all links above the profile's lowest height,
        shape (N,), bool.
    """
    chain, space = KinematicChain.of_robot(robot), robot.workspace
    lower, upper = (torch.tensor(limit, dtype=torch.float64) for limit in (robot.position_lower_rad, robot.position_upper_rad))
    q = torch.tensor(robot.home_rad, dtype=torch.float64).repeat(len(places), 1)
    for _ in range(_ITERATIONS):
        error, jacobian = _error(chain, q, places), chain.jacobian(q)[:, :5]
        stride = error * (_STRIDE / error.norm(dim=-1, keepdim=True).clamp(min=_STRIDE))
        square = jacobian @ jacobian.mT + _DAMPING**2 * torch.eye(5, dtype=torch.float64)
        q = (q + (jacobian.mT @ torch.linalg.solve(square, stride[..., None]))[..., 0]).clamp(lower, upper)
    is_down = chain.pose(q)[1][:, 2, 2] < 0.0
    is_high = chain.points(q)[:, 1:, 2].amin(dim=-1) >= min(space.lowest_link_m, space.lowest_tool_m)
    return q, (_error(chain, q, places).norm(dim=-1) < _TOLERANCE) & is_down & is_high


def _error(chain: KinematicChain, q: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Missing motion of the tool along x, y and z, and turn about x and y, shape (N, 5)."""
    place, rotation = chain.pose(q)
    down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64).expand_as(place)
    return torch.cat([places - place, torch.linalg.cross(rotation[..., 2], down)[..., :2]], dim=-1)
