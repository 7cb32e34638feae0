"""A plan counts on no larger learned reward than the largest that was experienced."""

import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent, PetsLearner, PetsLearnerConfig
from mbrl_ros.errors import BundleError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.trainer import TrainerConfig
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.spaces.outcome import Goals, OutcomeSpace, learned_reward
from mbrl_ros.training.rounds import Rounds

NETWORK = EnsembleConfig(ensemble_size=2, hidden_layers=1, hidden_size=8)
CONFIG = PetsLearnerConfig(trainer=TrainerConfig(ensemble=NETWORK, max_steps=50), imagined_share=1.0)
PLANNER = PlannerConfig(device='cpu', horizon=5, population_size=32, num_elites=4)
SPACE = OutcomeSpace(('place', 'goal'), ('push',), is_reward_learned=True)


def experience():
    """Steps of a place between 0 and 1; the reward is the place."""
    rng = np.random.default_rng(0)
    place, action = rng.uniform(0.0, 1.0, 100), rng.uniform(-1.0, 1.0, (100, 1))
    reached = np.clip(place + 0.2 * action[:, 0], 0.0, 1.0)
    obs, next_obs = (np.stack([values, np.full(100, 0.5), values, np.zeros(100)], axis=1) for values in (place, reached))
    return Transitions.of(obs, action, next_obs, np.arange(100))


def learned(space=SPACE, **changes):
    rows = experience()
    for name, value in changes.items():
        rows = dataclasses.replace(rows, **{name: value(getattr(rows, name))})
    contract = Contract.of('pets', space, robot='gymnasium', task='line', period_s=0.05)
    rounds = Rounds(PetsLearner(contract, space, CONFIG), contract, CONFIG, seed=0)
    rounds.round(rows, episode=0, round_index=0, stamp_ns=0)
    return AgentBundle.from_bytes(rounds.current.to_bytes())


def planned(bundle, obs):
    agent = PetsAgent(bundle.card.contract, SPACE, PetsActingConfig(planner=PLANNER, network=NETWORK)).with_bundle(bundle)
    return agent.act(obs, None, agent.reset(0), objective=learned_reward, previous_action=np.zeros(1)).plan


@pytest.mark.parametrize('offset', [0.0, 1000.0])
def test_a_plan_counts_on_no_more_than_the_largest_reward(offset):
    shift = np.array([0.0, 0.0, offset, 0.0])
    bundle = learned(obs=lambda obs: obs + shift, next_obs=lambda obs: obs + shift)
    assert bool(bundle.card.origin) == bool(offset)
    without = dataclasses.replace(bundle, groups={'model': bundle.group('model')})
    obs = np.array([1.0, 0.5, 1.0, 0.0]) + shift
    most = PLANNER.horizon * (offset + experience().next_obs[:, 2].max())
    assert most - 1.0 < planned(bundle, obs).value <= most + 1e-3
    assert planned(without, obs).value > most + 0.5


def test_rewards_of_goals_in_hindsight_count():
    goals = Goals(np.array([0]), np.array([1]), reward=lambda next_obs: torch.full((len(next_obs),), 7.0))
    of_goals = OutcomeSpace(('place', 'goal'), ('push',), is_reward_learned=True, goals=goals)
    assert learned(of_goals).group('largest')['reward'].tolist() == [7.0]


def test_nothing_is_bounded_where_the_reward_is_given():
    given = OutcomeSpace(('place', 'goal', 'speed'), ('push',), is_reward_learned=False)
    assert set(learned(given).groups) == {'model'}


@pytest.mark.parametrize(('name', 'bound'), [('speed', [1.0]), ('reward', [1.0, 2.0]), ('reward', [float('nan')])])
def test_a_bound_that_does_not_fit_is_refused(name, bound):
    bundle = learned()
    spoilt = dataclasses.replace(bundle, groups={**bundle.groups, 'largest': {name: torch.tensor(bound)}})
    with pytest.raises(BundleError, match=f"model bounds '{name}' by"):
        planned(spoilt, np.zeros(4))
