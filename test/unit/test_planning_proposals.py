"""Proposals: sequences that somebody else has in mind are tried like any other, and never trusted."""

import numpy as np
import pytest
import torch
from support.planning_problems import CONFIG, MODEL, OBS, OPTIMISERS, planner, reward

from mbrl_ros.errors import PlanningError, ShapeError

HORIZON = 6


def needle(obs, action):
    """Pays for actions near 0.9 alone, which no sample near zero ever is."""
    return ((action[..., 0] - 0.9).abs() < 0.05).float().expand(obs.shape[:-1])


@pytest.mark.parametrize('optimiser', OPTIMISERS)
def test_a_plan_finds_by_a_proposal_what_samples_miss(optimiser):
    settings = {'optimiser': optimiser, 'init_std': 0.01, 'min_std': 0.01, 'noise_beta': 0.0, 'temperature': 0.01,
                'momentum': 0.0}
    proposed = np.full((CONFIG.num_elites, HORIZON, 1), 0.9)  # CEM answers with the elites' mean.
    missed, found = planner(**settings).plan(MODEL, OBS, needle), planner(**settings).plan(MODEL, OBS, needle, proposals=proposed)
    assert found.value == pytest.approx(HORIZON)
    assert missed.value < found.value
    assert found.actions[:, 0] == pytest.approx(np.full(HORIZON, 0.9), abs=0.05)


@pytest.mark.parametrize('optimiser', OPTIMISERS)
def test_a_bad_proposal_does_not_spoil_a_plan(optimiser):
    alone = planner(optimiser=optimiser).plan(MODEL, OBS, reward)
    beside = planner(optimiser=optimiser).plan(MODEL, OBS, reward, proposals=np.full((1, HORIZON, 1), 1.0))
    assert beside.value == pytest.approx(alone.value, rel=0.05)


def test_proposals_are_brought_within_bounds_and_limits_of_change():
    seen = []

    def watched(obs, action):
        seen.append(action.clone())
        return reward(obs, action)

    planner(max_change=np.array([0.1])).plan(MODEL, OBS, watched, proposals=np.full((1, HORIZON, 1), 5.0))
    assert torch.cat([actions.flatten() for actions in seen]).abs().max() <= 1.0
    assert seen[0].transpose(0, -2).squeeze()[1].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], abs=1e-5)


@pytest.mark.parametrize(('proposals', 'error', 'text'), [
    (np.zeros((1, 5, 1)), ShapeError, r'need shape \(M, 6, 1\) with M below \d+, got \(1, 5, 1\)'),
    (np.zeros((6, 1)), ShapeError, r'got \(6, 1\)'), (np.zeros((10_000, 6, 1)), ShapeError, r'got \(10000, 6, 1\)'),
    (np.full((1, 6, 1), np.nan), PlanningError, 'proposals need finite numbers')])
def test_what_is_no_proposal_is_refused(proposals, error, text):
    with pytest.raises(error, match=text):
        planner().plan(MODEL, OBS, reward, proposals=proposals)
