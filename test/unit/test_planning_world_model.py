"""The unchanged planner with a model that has states of its own, rewards, ends and values."""

import numpy as np
import pytest
import torch
from support.corridor import Corridor

from mbrl_ros.errors import PlanningError, ShapeError
from mbrl_ros.models.toys import NamingModel
from mbrl_ros.planning.planner import Objective, PlannerConfig
from mbrl_ros.planning.returns import particle_returns
from mbrl_ros.planning.sampling import make_planner
from mbrl_ros.types import DynamicsModel, WorldModel, is_world_model

CONFIG = PlannerConfig(horizon=3, population_size=128, num_elites=10, num_iterations=5, num_particles=1, init_std=0.7,
                       device='cpu')
OBS = np.array([40.0, 1.0])


class Discounted:
    """Pays for every step to the right, later ones less, and values being left at the end; implements `DiscountedObjective`."""

    discount = 0.5

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return action[..., 0].expand(obs.shape[:-1])

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        return -obs[..., 0]


def no_reward(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(obs[..., 0])


def plan(model: WorldModel, objective: Objective = no_reward, obs: np.ndarray = OBS):
    return make_planner(CONFIG, 1).plan(model, obs, objective)


def test_a_corridor_is_a_world_model_and_what_only_predicts_is_none():
    assert is_world_model(Corridor()) and not is_world_model(NamingModel(1))


def test_a_plan_is_made_of_states_and_keeps_short_of_the_end_though_each_step_pays_more():
    found = plan(Corridor(treasure=-3.0))
    places = found.mean_obs[:, 0]
    assert found.mean_obs.shape == (4, 1) and places[0] == pytest.approx(0.4)
    assert places.max() <= 1.0
    assert found.value == pytest.approx(places[1:].sum() + 3.0 * places[-1], abs=1e-5)
    assert found.value > 5.5  # The best is 0.9, 1 and 1, and three times 1.


def test_an_end_at_the_horizon_costs_nothing_but_what_would_come_after_it():
    assert plan(Corridor()).mean_obs[-1, 0] > 1.0


def test_where_the_end_pays_more_than_going_on_it_is_sought():
    """With a negative reward for every step, the episode is best ended at once."""
    found = plan(Corridor(cliff=0.6), lambda obs, action: torch.full_like(obs[..., 0], -5.0))
    assert found.mean_obs[1, 0] > 0.6
    assert found.value == pytest.approx(found.mean_obs[1, 0] - 5.0, abs=1e-4)


def test_a_value_beyond_the_horizon_outweighs_what_the_steps_pay():
    assert plan(Corridor(treasure=10.0)).actions[:, 0] == pytest.approx(-np.ones(3), abs=0.1)


def test_the_disagreement_of_members_is_told():
    agreed, split = (plan(Corridor(treasure=-3.0, biases=biases)) for biases in ((0.0, 0.0), (-0.2, 0.2)))
    assert (agreed.disagreement, split.disagreement) == pytest.approx((0.0, 0.2), abs=1e-5)


def test_returns_are_discounted_and_weighted_by_having_come_so_far():
    model, start = Corridor(cliff=1.0), torch.tensor([0.4])
    actions = torch.tensor([[[1.0], [1.0], [1.0]], [[0.0], [0.0], [0.0]]])  # (2, 3, 1)
    path = torch.tensor([[[0.9], [0.4]], [[1.4], [0.4]], [[1.9], [0.4]]]).unsqueeze(1)  # (3, 1, 2, 1)
    rewards = torch.tensor([[1.9, 0.4], [2.4, 0.4], [0.0, 0.4]])  # The model's and the objective's; none after the end.
    weights = torch.tensor([1.0, 0.5, 0.25])
    expected = (weights[:, None] * rewards).sum(dim=0) + 0.125 * torch.tensor([0.0, -0.4])
    torch.testing.assert_close(particle_returns(Discounted(), path, actions, start, model), expected.unsqueeze(0))


def test_a_discount_needs_no_world_model():
    actions, path = torch.ones(1, 3, 1), torch.tensor([[[[0.9]]], [[[1.4]]], [[[1.9]]]])
    torch.testing.assert_close(particle_returns(Discounted(), path, actions), torch.tensor([[1.75 - 0.125 * 1.9]]))


@pytest.mark.parametrize(('obs', 'error', 'text'), [
    (np.zeros(1), ShapeError, r'obs needs shape \(2,\), got \(1,\)'),
    (np.array([np.nan, 1.0]), PlanningError, 'obs needs finite')])
def test_an_observation_that_is_no_start_is_refused(obs, error, text):
    with pytest.raises(error, match=text):
        plan(Corridor(), obs=obs)


def test_a_model_of_observations_is_planned_with_as_before(world_free_model):
    found = make_planner(CONFIG, 1).plan(world_free_model, np.array([0.4]), lambda obs, action: -obs[..., 0].square())
    assert abs(found.mean_obs[-1, 0]) < 0.05 and not is_world_model(world_free_model)


@pytest.fixture
def world_free_model() -> DynamicsModel:
    class Walk:
        ensemble_size, obs_size, action_size, output_scale = 1, 1, 1, torch.ones(1)

        def predict(self, obs, action):
            return obs + 0.5 * action, torch.zeros_like(obs)

    return Walk()
