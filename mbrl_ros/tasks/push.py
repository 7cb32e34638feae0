"""Push: push the body over the table to a goal, without a grasp."""

import dataclasses

import numpy as np
import torch

from mbrl_ros.config import Config, section, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.spaces.tabletop import BODY, OPENING, TOOL
from mbrl_ros.tasks.task import draw_goal
from mbrl_ros.tasks.terms import REGION_M, TableRewardConfig, TableTask, length
from mbrl_ros.types import RobotState

#: Least and largest distance of a goal from the body.
_WAY_M = (0.1, 0.25)


@dataclasses.dataclass(frozen=True)
class PushWeights(Config):
    """Weights of the reward's terms; 0 switches a term off. They may change between any two plans."""

    goal: float = setting(15.0, 'Cost of each metre between the body and its goal.', low=0.0, live=True)
    behind: float = setting(5.0, 'Cost of each metre between the tool and the places to push from.', low=0.0, live=True)
    height: float = setting(3.0, 'Cost of each metre between the height of the tool and the wanted one.', low=0.0, live=True)
    open: float = setting(0.5, 'Cost of an open gripper.', low=0.0, live=True)
    still: float = setting(4.0, "Cost of the body's squared speed near the goal.", low=0.0, live=True)
    effort: float = setting(0.02, 'Cost of the squared action.', low=0.0, live=True)
    upright: float = setting(10.0, "Cost of the tool's squared tilt; zero with twists.", low=0.0, live=True)
    posture: float = setting(0.5, "Cost of the joints' mean squared distance from home; zero with twists.", low=0.0, live=True)
    clearance: float = setting(5.0, 'Cost of the tool nearing the lowest allowed height.', low=0.0, live=True)


@dataclasses.dataclass(frozen=True)
class PushConfig(TableRewardConfig):
    """Settings of the reward."""

    nearest_m: float = setting(0.03, 'Least distance behind the centre of the body to push from.', unit='m', low=0.0, high=0.3)
    farthest_m: float = setting(0.08, 'Largest such distance; has to leave room to come down behind a body that is turned.',
                                unit='m', low=0.0, high=0.3)
    aside_m: float = setting(0.012, 'Distance from the places to push from at which the tool may be all the way down.', unit='m',
                             low=0.0, high=0.3)
    weights: PushWeights = section(PushWeights, 'Weights of the reward.')

    def check(self) -> None:
        """Raise ConfigError when nearest_m is larger than farthest_m."""
        if self.nearest_m > self.farthest_m:
            raise ConfigError(f'PushConfig.nearest_m {self.nearest_m} needs to be at most farthest_m {self.farthest_m}')


class PushTask(TableTask):
    """Body within 4 cm of a goal on the table for half a second."""

    name = 'push'
    goal_tolerance_m = 0.04
    settle_s = 0.5

    def sample_goal(self, rng: np.random.Generator, state: RobotState) -> np.ndarray:
        """A point on the table, away from the body; see `Task.sample_goal`."""
        place = self.space.observe(state)[BODY]

        def fits(goal: np.ndarray) -> bool:
            return _WAY_M[0] <= np.linalg.norm(goal[:2] - place[:2]) <= _WAY_M[1] and not self.goal_refusal(goal)

        return draw_goal(lambda: np.array([*rng.uniform(*REGION_M), place[2]]), fits)

    def goal_refusal(self, goal_m: np.ndarray) -> str:
        """Why the arm cannot push the body there; the goal's height is ignored; see `Task.goal_refusal`."""
        point = np.array(goal_m, dtype=np.float64)
        if point.shape == (3,) and np.isfinite(point).all():
            point[2] = self._workspace.lower_m[2]
        return self._workspace.refusal(point)

    def gap(self, achieved: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Distance between the body's centre and the goal, over the table; see `Task.gap`."""
        return length(achieved[..., :2] - goal[..., :2])

    def values(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms before weighting; see `Task.values`.

        The tool pushes from a line behind the body, as seen from the goal, nearest_m to farthest_m from the body's centre.
        """
        config, tool, body = self.config, obs[..., TOOL], obs[..., BODY]
        left = self.distance(obs, goal)
        way = (goal[..., :2] - body[..., :2]) / left.unsqueeze(-1)
        near_goal = 1.0 - torch.tanh(left / config.settled_m)
        offset = body[..., :2] - tool[..., :2]
        ahead = (offset * way).sum(dim=-1)
        off = ahead - ahead.clamp(min=config.nearest_m, max=config.farthest_m)
        behind = length(torch.cat((offset - ahead.unsqueeze(-1) * way, off.unsqueeze(-1)), dim=-1))
        kept = config.height_kept(behind - config.aside_m)
        return {
            'goal': left,
            'behind': behind * (1.0 - near_goal),
            'height': (tool[..., 2] - body[..., 2] - kept).abs() * (1.0 - near_goal),
            'open': obs[..., OPENING] / self._opened_m,
            **self.common_values(obs, action, near_goal),
        }
