"""Objectives are given absolute observations, whatever the origin of those that a model predicts, and none beyond a bound."""

import dataclasses

import numpy as np
import torch
from support.graph_recorder import GraphRecorder

from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.planning.captured import shared_kind
from mbrl_ros.planning.objectives import AbsoluteObjective, BoundedObjective
from mbrl_ros.planning.optimisers.registry import make_optimiser
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.planning.returns import particle_returns
from mbrl_ros.planning.sampling import SamplingPlanner, make_planner

ORIGIN = 5.3e6, 0.0
CONFIG = PlannerConfig(horizon=4, population_size=20, num_elites=4, num_iterations=2, num_particles=5, device='cpu')


@dataclasses.dataclass
class ToMark:
    """Distance from a mark in millimetres, one of its parameters."""

    parameters: torch.Tensor

    kind = 'to mark'

    def at(self, parameters):
        return ToMark(parameters)

    def __call__(self, obs, action):
        return -1e3 * (obs[..., 0] - self.parameters[0]).abs()


class Discounted(ToMark):
    """The same with a discount and a value."""

    discount = 0.5

    def value(self, obs):
        return obs[..., 0] - self.parameters[0]


MARK = torch.tensor([5_300_000.25], dtype=torch.float64)


def test_millimetres_of_a_map_are_rewarded():
    obs = torch.tensor([[0.25, 0.0], [0.251, 0.0]])
    rewards = AbsoluteObjective(ToMark(MARK), ORIGIN)(obs, torch.zeros(2, 1))
    assert rewards.dtype is torch.float32
    torch.testing.assert_close(rewards, torch.tensor([0.0, -1.0]), atol=1e-3, rtol=0)


def test_discount_and_value_are_those_of_the_objective_inside():
    path, actions = torch.zeros(3, 1, 1, 2), torch.zeros(1, 3, 1)
    returns = [particle_returns(AbsoluteObjective(objective, ORIGIN), path, actions)
               for objective in (Discounted(MARK), ToMark(MARK))]
    torch.testing.assert_close(returns[0], torch.tensor([[-250.0 * 1.75 - 0.25 / 8]]))
    torch.testing.assert_close(returns[1], torch.tensor([[-750.0]]))
    assert not hasattr(AbsoluteObjective(ToMark(MARK), ORIGIN), 'discount')


def test_nothing_beyond_a_bound_counts():
    obs = torch.tensor([[5.0, 3.0], [1.0, -9.0], [torch.nan, 0.0]])
    bounded = BoundedObjective(lambda obs, action: obs.sum(dim=-1), (2.0, torch.inf))
    torch.testing.assert_close(bounded(obs, torch.zeros(3, 1)), torch.tensor([5.0, -8.0, torch.nan]), equal_nan=True)
    inner, path = Discounted(torch.zeros(1)), torch.full((1, 1, 1, 2), 5.0)
    torch.testing.assert_close(particle_returns(BoundedObjective(inner, (2.0, torch.inf)), path, torch.zeros(1, 1, 1)),
                               torch.tensor([[-2000.0 + 0.5 * 2.0]]))
    assert BoundedObjective(inner, (2.0, 1.0)).kind != BoundedObjective(inner, (2.0, 3.0)).kind


def test_captured_plans_tell_origins_apart_and_are_the_eager_plans():
    model = Predictor(stand_in(2, 1), backend='torch')
    marks = [AbsoluteObjective(ToMark(torch.tensor([0.25 + place])), (place, 0.0))
             for place in (8.0, 16.0)]
    assert shared_kind(model, marks[0]) != shared_kind(model, marks[1])
    assert shared_kind(model, AbsoluteObjective(lambda obs, action: obs[..., 0], ORIGIN)) is None
    optimiser = make_optimiser(CONFIG, 1, None, generator=torch.Generator().manual_seed(0))
    captured, eager = SamplingPlanner(CONFIG, optimiser, make_recorder=GraphRecorder), make_planner(CONFIG, 1)
    for objective in (marks[0], marks[1], marks[1]):
        plans = [planner.plan(model, np.zeros(2), objective) for planner in (captured, eager)]
        np.testing.assert_array_equal(plans[0].actions, plans[1].actions)
        assert plans[0].value == plans[1].value
    assert captured.num_captures == 2
