"""iCEM: what it adds to the cross-entropy method."""

import dataclasses

import numpy as np
import pytest
import torch
from support.planning_problems import CONFIG, MODEL, planner, reward

from mbrl_ros.models.toys import VelocityArm
from mbrl_ros.planning.optimisers.icem import Icem

FIRST = 40 + 3 + 1  # Samples, places for half the elites of the last plan, and the zero action.


def icem(**changes):
    optimiser = Icem(dataclasses.replace(CONFIG, **changes), 1, generator=torch.Generator().manual_seed(0))
    optimiser.begin(torch.zeros(1))
    return optimiser


def test_the_population_shrinks_to_twice_the_elites():
    optimiser = icem(population_decay=2.0)
    assert [len(optimiser.ask(iteration, is_last=False)) for iteration in range(4)] == [FIRST, 20, 12, 12]


def test_standing_still_is_a_candidate_of_the_first_iteration_and_the_mean_of_the_last():
    optimiser = icem()
    optimiser.mean.fill_(0.5)
    assert not optimiser.ask(0, is_last=False)[-1].any()
    assert not (optimiser.ask(1, is_last=False) == 0.5).all(dim=1).any()
    assert (optimiser.ask(2, is_last=True)[0] == 0.5).all()


def test_standing_still_is_found_where_it_is_best():
    plan = planner(num_iterations=1).plan(MODEL, np.zeros(2), reward)
    assert plan.actions == pytest.approx(np.zeros((6, 1)))


def test_elites_outlive_their_iteration_with_their_values():
    optimiser = icem()
    actions = optimiser.ask(0, is_last=False)
    optimiser.tell(actions, torch.arange(FIRST, dtype=torch.float32) % 40)
    kept = optimiser.elites[:3].clone()
    assert optimiser.elite_values[:3].tolist() == [39.0, 38.0, 37.0]
    actions = optimiser.ask(1, is_last=False)
    optimiser.tell(actions, torch.full((len(actions),), 38.5))
    assert optimiser.elite_values.tolist() == [39.0, 38.5, 38.5, 38.5, 38.5, 38.5]
    assert torch.equal(optimiser.elites[0], kept[0])


def test_elites_are_handed_down_to_the_next_plan_one_step_later():
    optimiser = icem()
    actions = optimiser.ask(0, is_last=False)
    optimiser.tell(actions, -actions.square().sum(dim=(1, 2)))
    best = optimiser.elites[:3].clone()
    optimiser.advance()
    optimiser.begin(torch.zeros(1))
    inherited = optimiser.ask(0, is_last=False)[40:43]
    assert torch.equal(inherited[:, :-1], best[:, 1:])
    assert torch.equal(inherited[:, -1], best[:, -1])


def test_places_without_an_inherited_elite_never_count():
    optimiser, values = icem(), torch.zeros(FIRST)
    values[40:43] = 100.0
    actions = optimiser.ask(0, is_last=False)
    optimiser.tell(actions, values)
    assert optimiser.elite_values.tolist() == [0.0] * 6
    optimiser.forget()
    optimiser.begin(torch.zeros(1))
    optimiser.tell(optimiser.ask(0, is_last=False), values)
    assert optimiser.elite_values.tolist() == [0.0] * 6


def test_a_new_goal_changes_the_very_next_plan():
    arm = VelocityArm(torch.ones(1), 0.1)
    planning = planner()

    def towards(goal):
        return lambda obs, action: -(obs[..., 0] - goal).abs()

    for _ in range(3):
        assert planning.plan(arm, np.zeros(2), towards(1.0)).actions[0, 0] > 0.0
    assert planning.plan(arm, np.zeros(2), towards(-1.0)).actions[0, 0] < 0.0
