"""Environments of others: offsets of a map, Unix times, constants, rare flags, and bodies that jitter before they move."""

import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent, PetsLearner, PetsLearnerConfig
from mbrl_ros.errors import BundleError
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.ensemble.acceptance import AcceptanceConfig
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.trainer import TrainerConfig
from mbrl_ros.planning.planner import PlannerConfig
from mbrl_ros.spaces.outcome import OutcomeSpace, learned_reward
from mbrl_ros.training.rounds import Rounds

PERIOD_S, STEPS, ROUNDS = 0.05, 50, (2, 3, 5, 8)
CONFIG = PetsLearnerConfig(
    trainer=TrainerConfig(ensemble=EnsembleConfig(ensemble_size=3, hidden_size=32), max_steps=800, ridge=1.0,
                          holdout_by='episode'),
    acceptance=AcceptanceConfig(rmse_tolerance=1.0, rmse_floor=0.5, nll_tolerance=50.0))
PLANNER = PlannerConfig(device='cpu', horizon=6, population_size=32, num_elites=4)
#: Place and speed come first; what else is seen, by kind of environment: a function of step, episode and whether a push came.
BESIDE = {
    'clock': lambda count, episode, rng: 1.79e9 + PERIOD_S * count,
    'constant': lambda count, episode, rng: np.full(len(count), -4321.75),
    'flag': lambda count, episode, rng: (rng.random(len(count)) < 0.005) * 1.0,
    'body': lambda count, episode, rng: (1e-7 * rng.normal(size=len(count)) if episode == 0
                                         else np.cumsum(0.1 * rng.normal(size=len(count)))),
}


def cart(episode, *, offset=0.0, beside=None):
    """Observations of one episode of random pushes on a spring, shape (STEPS + 1, O), and actions, shape (STEPS, 1)."""
    rng, others = np.random.default_rng(episode), np.random.default_rng(1000 + episode)
    place, speed, rows, actions = rng.uniform(-1.0, 1.0), 0.0, [], rng.uniform(-1.0, 1.0, size=(STEPS, 1))
    for index in range(STEPS + 1):
        rows.append([place, speed, -(place - 0.5)**2, 0.0])
        if index < STEPS:
            speed = 0.9 * speed + 0.3 * actions[index, 0] - 0.1 * place
            place += 0.1 * speed
    obs = np.array(rows)
    obs[:, 0] += offset
    if beside:
        count = np.arange(STEPS + 1) + episode * (STEPS + 20)
        obs = np.insert(obs, 2, BESIDE[beside](count, episode, others), axis=1)
    return obs, actions


def experience(episodes, **kind):
    """Transitions of some episodes."""
    parts = []
    for episode in episodes:
        obs, action = cart(episode, **kind)
        stamps = (episode * STEPS + np.arange(STEPS)) * round(1e9 * PERIOD_S)
        parts.append(Transitions.of(obs[:-1], action, obs[1:], stamps, episode=episode))
    return Transitions.joined(parts)


def contract_of(kind):
    names = ('place', 'speed', kind['beside']) if kind.get('beside') else ('place', 'speed')
    space = OutcomeSpace(names, ('push',), is_reward_learned=True)
    return Contract.of('pets', space, robot='gymnasium', task='cart', period_s=PERIOD_S), space


def learned(config=CONFIG, **kind):
    """Rounds after the last of ROUNDS, and their reports."""
    contract, space = contract_of(kind)
    rounds = Rounds(PetsLearner(contract, space, config), contract, config, seed=0)
    return rounds, [rounds.round(experience(range(count), **kind), episode=count, round_index=count, stamp_ns=count)
                    for count in ROUNDS]


def agent_with(bundle, **kind):
    contract, space = contract_of(kind)
    network = CONFIG.trainer.ensemble
    return PetsAgent(contract, space, PetsActingConfig(planner=PLANNER, network=network)).with_bundle(bundle)


def error(bundle, **kind):
    """One-step error of place, speed and reward in later episodes, where it has been, in their typical changes, shape (3,)."""
    agent, rows = agent_with(bundle, **kind), experience(range(ROUNDS[-1], ROUNDS[-1] + 4), **kind)
    rows = rows.take(np.abs(rows.obs[:, 0] - kind.get('offset', 0.0)) < 0.8)
    predicted = np.stack([agent.predict(obs, action, PERIOD_S) for obs, action, _ in zip(*rows.dynamics)])
    wrong = (predicted - rows.next_obs)[:, [0, 1, -2]]
    return np.sqrt(np.square(wrong).mean(axis=0)) / [0.05, 0.2, 0.5]


@pytest.fixture(scope='module')
def plain():
    rounds, _ = learned()
    assert rounds.current.card.origin == ()
    return error(rounds.current)


@pytest.mark.parametrize('kind', [{'offset': 1e3}, {'offset': 5.3e6}, {'offset': 1e9}, *({'beside': name} for name in BESIDE),
                                  {'offset': 5.3e6, 'beside': 'clock'}], ids=str)
def test_a_cart_is_learned_as_well_whatever_it_is_seen_with(plain, kind):
    rounds, reports = learned(**kind)
    assert all(report.holdout_rmse < 1.0 for report in reports)
    told = {warning for report in reports for warning in report.warnings}
    assert len(told) == (kind.get('beside') == 'clock') and all(' only grows from episode to episode' in one for one in told)
    assert (plain < 0.15).all()
    assert (error(rounds.current, **kind) < 2.0 * plain + 0.03).all()
    agent, obs = agent_with(rounds.current, **kind), cart(20, **kind)[0][7]
    decision = agent.act(obs, None, agent.reset(0), objective=learned_reward, previous_action=np.zeros(1))
    assert decision.is_finite and decision.plan.num_nonfinite == 0
    np.testing.assert_allclose(decision.plan.mean_obs[0, :2], obs[:2], rtol=0, atol=1e-5)
    assert np.abs(decision.plan.mean_obs[:, 0] - obs[0]).max() < 2.0


def test_plans_with_an_origin_are_those_without_one():
    rounds, _ = learned(offset=5.3e6)
    bundle = rounds.current
    absolute, local = agent_with(bundle), agent_with(AgentBundle(dataclasses.replace(bundle.card, origin=()), bundle.groups))
    shift, obs = np.array(bundle.card.origin), cart(20)[0][7]

    def objective(obs, action):
        assert obs.dtype is torch.float64 or obs.abs().max() < 100.0
        return -(torch.remainder(obs[..., 0].double() + 2.0, 1e5) - 2.5).square().float()

    plans = [agent.act(seen, None, agent.reset(3), objective=objective, previous_action=np.zeros(1)).plan
             for agent, seen in ((absolute, obs + shift), (local, obs))]
    assert shift[0] == pytest.approx(5.3e6, abs=1.0) and not shift[1:].any()
    np.testing.assert_allclose(plans[0].mean_obs - shift, plans[1].mean_obs, atol=1e-5)


def test_an_origin_stays_over_rounds_and_restarts():
    contract, space = contract_of({})
    rounds, _ = learned(offset=5.3e6)
    bundle = AgentBundle.from_bytes(rounds.current.to_bytes())
    assert bundle.card.origin == rounds.current.card.origin != ()
    resumed = Rounds(PetsLearner(contract, space, CONFIG), contract, CONFIG, seed=0)
    resumed.resume(bundle, rounds.learned_stamps)
    further = experience(range(9), offset=5.3e6)
    for one in (rounds, resumed):
        one.round(further, episode=9, round_index=9, stamp_ns=9)
    assert rounds.current.to_bytes() == resumed.current.to_bytes()
    assert resumed.current.card.origin == bundle.card.origin


def test_an_origin_that_does_not_fit_is_refused():
    rounds, _ = learned(offset=5.3e6)
    contract, space = contract_of({})
    for origin in ((1.0,), (float('nan'), 0.0, 0.0, 0.0)):
        bundle = AgentBundle(dataclasses.replace(rounds.current.card, origin=origin), rounds.current.groups)
        with pytest.raises(BundleError, match='origin of 4 finite numbers'):
            agent_with(bundle)
        with pytest.raises(BundleError, match='origin of 4 finite numbers'):
            PetsLearner(contract, space, CONFIG).resume(bundle)


def test_what_float32_has_eaten_is_named_in_the_report():
    contract, space = contract_of({})
    rows = experience(range(3), offset=5.3e6)
    eaten = dataclasses.replace(rows, **{name: getattr(rows, name).astype(np.float32).astype(float)
                                         for name in ('obs', 'next_obs')})
    rounds = Rounds(PetsLearner(contract, space, CONFIG), contract, CONFIG, seed=0)
    report = rounds.round(eaten, episode=0, round_index=0, stamp_ns=0)
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith('place is about 5.3e+06 and comes in float32, in steps of 0.5: its changes are lost')
