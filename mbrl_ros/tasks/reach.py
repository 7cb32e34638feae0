"""Reach: bring the tool to a point and stand there."""

import dataclasses
import functools
import operator
from collections.abc import Hashable, Sequence

import torch

from mbrl_ros.config import Config, section, setting
from mbrl_ros.robots import RobotProfile
from mbrl_ros.robots.kinematics import KinematicChain


@dataclasses.dataclass(frozen=True)
class ReachWeights(Config):
    """Weights of the reward's terms; 0 switches a term off. They may change between any two plans."""

    distance: float = setting(5.0, 'Cost of each metre from the goal.', low=0.0, live=True)
    precision: float = setting(1.0, 'Reward for being at the goal, gone within some precision_m.', low=0.0, live=True)
    speed: float = setting(0.5, 'Cost of joint speed near the goal.', low=0.0, live=True)
    effort: float = setting(0.01, 'Cost of the squared action.', low=0.0, live=True)
    limits: float = setting(1.0, 'Cost of nearing a joint limit.', low=0.0, live=True)
    posture: float = setting(1.0, 'Cost of leaving home; keeps spare joints off their limits.', low=0.0, live=True)
    clearance: float = setting(5.0, 'Cost of the tool nearing the lowest allowed height.', low=0.0, live=True)


@dataclasses.dataclass(frozen=True)
class ReachGoalConfig(Config):
    """When the goal is reached."""

    tolerance_m: float = setting(0.02, 'Largest distance that counts as being there.', unit='m', low=1e-4, high=1.0)
    settle_steps: int = setting(5, 'Consecutive control steps within tolerance that make a success.', low=1, high=1000)


@dataclasses.dataclass(frozen=True)
class ReachConfig(Config):
    """Settings of the reward."""

    precision_m: float = setting(0.05, 'Distance over which the precision term falls off.', unit='m', low=1e-4, high=1.0)
    limit_margin_rad: float = setting(0.2, 'Distance from a joint limit where its cost begins.', unit='rad', low=1e-3, high=2.0)
    clearance_m: float = setting(0.02, 'Height above the lowest allowed where its cost begins.', unit='m', low=1e-4, high=1.0)
    weights: ReachWeights = section(ReachWeights, 'Weights of the reward.')


_TERMS = tuple(field.name for field in dataclasses.fields(ReachWeights))
#: Terms that are rewards; the others are costs.
_REWARDS = ('precision',)
_GOAL_SIZE = 3


@dataclasses.dataclass(frozen=True)
class _Constants:
    """What the terms compare joints with, each of shape (J,)."""

    lower: torch.Tensor
    upper: torch.Tensor
    home: torch.Tensor
    half_range: torch.Tensor
    max_velocity: torch.Tensor


class ReachTask:
    """Tool position to goal position; implements `Task`.

    Args:
        robot: Names, limits and workspace.
        kinematics: Forward kinematics from the joints to the tool.
        config: Settings of the reward.
        goal: When the goal is reached.
    """

    name = 'reach'

    def __init__(self, robot: RobotProfile, kinematics: KinematicChain, config: ReachConfig,
                 goal: ReachGoalConfig | None = None) -> None:
        self.config = config
        self.state_names = self.action_names = robot.joints
        self.action_size = len(robot.joints)
        self.obs_size = 2 * self.action_size
        goal = goal or ReachGoalConfig()
        self.goal_tolerance_m, self.settle_steps = goal.tolerance_m, goal.settle_steps
        self.weights = config.weights
        self._kinematics = kinematics
        self._robot = robot
        self._placed: dict[tuple[torch.dtype, torch.device], _Constants] = {}
        self._lowest_m = robot.workspace.lowest_link_m

    @classmethod
    def of_robot(cls, robot: RobotProfile, goal: ReachGoalConfig | None = None) -> 'ReachTask':
        """Reach task of a robot with the default reward."""
        return cls(robot, KinematicChain.of_robot(robot), ReachConfig(), goal)

    def terms(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
              weights: ReachWeights | None = None) -> dict[str, torch.Tensor]:
        """Weighted reward terms by name; see `Task.terms`."""
        goal = torch.as_tensor(goal, dtype=obs.dtype, device=obs.device)
        return self._terms(obs, action, goal, _factors(weights or self.weights))

    def reward(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor | Sequence[float],
               weights: ReachWeights | None = None) -> torch.Tensor:
        """Sum of the terms; see `Task.reward`."""
        return _total(self.terms(obs, action, goal, weights))

    def objective(self, goal: torch.Tensor | Sequence[float], weights: ReachWeights | None = None) -> 'ReachObjective':
        """`reward` bound to a goal and weights; see `Task.objective`."""
        numbers = [*map(float, goal), *_factors(weights or self.weights)]
        return ReachObjective(self, torch.tensor(numbers, dtype=torch.float64))

    def tool_position(self, obs: torch.Tensor) -> torch.Tensor:
        """Tool position in the base frame, metres, shape (..., 3) for obs of shape (..., O)."""
        return self._kinematics.position(obs[..., :self.action_size])

    def distance(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Distance of the tool from the goal; see `Task.distance`."""
        tool = self.tool_position(obs)
        return (tool - torch.as_tensor(goal, dtype=tool.dtype, device=tool.device)).norm(dim=-1)

    def is_within(self, obs: torch.Tensor, goal: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """Whether the tool is within tolerance of the goal; see `Task.is_within`."""
        return self.distance(obs, goal) <= self.goal_tolerance_m

    def _terms(self, obs: torch.Tensor, action: torch.Tensor, goal: torch.Tensor,
               factors: Sequence[float | torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms for a goal of the dtype and on the device of `obs`, and a factor for each."""
        config, constants = self.config, self._constants(obs)
        q, tool = obs[..., :self.action_size], self.tool_position(obs)
        distance = (tool - goal).norm(dim=-1)
        near = 1.0 - torch.tanh(distance / config.precision_m)
        speed = (obs[..., self.action_size:] / constants.max_velocity).square().mean(dim=-1)
        room = torch.minimum(q - constants.lower, constants.upper - q)
        low = (1.0 - (tool[..., 2] - self._lowest_m) / config.clearance_m).clamp(min=0.0)
        values = {
            'distance': distance,
            'precision': near,
            'speed': near * speed,
            'effort': action.square().mean(dim=-1),
            'limits': (1.0 - room / config.limit_margin_rad).clamp(min=0.0).square().sum(dim=-1),
            'posture': ((q - constants.home) / constants.half_range).square().mean(dim=-1),
            'clearance': low.square(),
        }
        return {name: factor * value for (name, value), factor in zip(values.items(), factors)}

    def _constants(self, like: torch.Tensor) -> _Constants:
        """Placed once for each dtype and device: bringing them to a GPU in the middle of a plan would make the host wait."""
        key = like.dtype, like.device
        if key not in self._placed:
            with torch.inference_mode(False):
                robot = self._robot
                lower, upper = torch.tensor(robot.position_lower_rad), torch.tensor(robot.position_upper_rad)
                self._placed[key] = _Constants(
                    lower.to(like), upper.to(like), torch.tensor(robot.home_rad).to(like), 0.5 * (upper - lower).to(like),
                    torch.tensor(robot.max_velocity_rad_s).to(like))
        return self._placed[key]


class ReachObjective:
    """Reward of the reach task bound to a goal and weights; implements `planning.captured.ParametricObjective`.

    Args:
        task: The task.
        parameters: Goal, metres, then the factor of each term: the weight of a reward, minus the weight of a cost; shape (10,).

    Attributes:
        kind: The task.
        parameters: As given.
    """

    def __init__(self, task: ReachTask, parameters: torch.Tensor) -> None:
        self.kind: Hashable = task
        self.parameters = parameters

    def at(self, parameters: torch.Tensor) -> 'ReachObjective':
        """The same task, its numbers read from this tensor."""
        return ReachObjective(self.kind, parameters)

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """As `ReachTask.reward`."""
        goal, factors = self.parameters.to(obs).split([_GOAL_SIZE, self.parameters.shape[0] - _GOAL_SIZE])
        return _total(self.kind._terms(obs, action, goal, factors.unbind()))


def _factors(weights: ReachWeights) -> list[float]:
    """What each term is multiplied by."""
    return [getattr(weights, name) * (1.0 if name in _REWARDS else -1.0) for name in _TERMS]


def _total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return functools.reduce(operator.add, terms.values())
