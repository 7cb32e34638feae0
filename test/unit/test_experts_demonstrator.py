"""The scripted expert does its tasks in the simulated world, through the command filter, and begins anew what went wrong."""

import numpy as np
import pytest
from support.asserts import some

from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.control.safety.command_filter import CommandFilter, CommandFilterConfig
from mbrl_ros.errors import ConfigError, GoalError
from mbrl_ros.spaces.tabletop import BODY, GRIP, OPENING, SIZE, TOOL
from mbrl_sim.tabletop import TabletopWorld

NEAR_M, SETTLED = 0.04, 10
#: Control steps within which it has to be done.
STEPS = {'lift': 80, 'pick_place': 140, 'push': 160}
TASKS = tuple(STEPS)
GOAL = (0.5, 0.1, 0.02)


class Bench:
    """The world and the filter in front of it; one episode at a time."""

    def __init__(self):
        self.world = TabletopWorld()
        self.filter = CommandFilter(self.world.robot, CommandFilterConfig())

    def reset(self, seed):
        """First observation, shape (18,)."""
        self.filter.restart(np.zeros(7))
        self.state = self.world.reset(seed)
        return self.world.space.observe(self.state)

    def step(self, action):
        """Next observation."""
        command = self.world.space.command(action, self.state)
        safe = self.filter.apply(command.velocity, self.state.positions(self.world.robot.joints), self.world.period_s)
        self.state = self.world.step(safe.velocity, command.opening_m)
        return self.world.space.observe(self.state)

    def play(self, task, seed, noise_std=0.0):
        """Goal, and observations until the task has been done for a while or its time is over, shape (T, 18)."""
        expert = Demonstrator(task, noise_std=noise_std)
        observations, held = [self.reset(seed)], 0
        goal = draw_goal(task, observations[0][BODY], np.random.default_rng(seed))
        expert.reset(goal, seed)
        while len(observations) <= STEPS[task] and held < SETTLED:
            observations.append(self.step(expert.action(observations[-1])))
            held = held + 1 if is_done(task, observations[-1], goal) else 0
        return goal, np.array(observations)


@pytest.fixture(scope='module')
def bench():
    bench = Bench()
    yield bench
    bench.world.close()


def draw_goal(task, place, rng):
    if task == 'lift':
        return place + [0.0, 0.0, 0.12]
    if task == 'pick_place':
        return np.array([rng.uniform(0.35, 0.6), rng.uniform(-0.25, 0.25), rng.choice([place[2], rng.uniform(0.1, 0.3)])])
    while True:
        angle, way = rng.uniform(-np.pi, np.pi), rng.uniform(0.1, 0.25)
        goal = place + way * np.array([np.cos(angle), np.sin(angle), 0.0])
        if 0.3 <= goal[0] <= 0.65 and abs(goal[1]) <= 0.3:
            return goal


def is_done(task, obs, goal):
    if task == 'lift':
        return obs[BODY][2] >= goal[2] - 0.02
    return np.linalg.norm(obs[BODY] - goal) < NEAR_M


def observation(tool, body, opening=0.08, closing=0.0):
    obs = np.zeros(2 * SIZE)
    obs[TOOL], obs[BODY], obs[OPENING], obs[SIZE + OPENING] = tool, body, opening, -closing
    return obs


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('task', TASKS)
def test_the_expert_does_its_task(bench, task, seed):
    goal, observations = bench.play(task, seed)
    assert all(is_done(task, obs, goal) for obs in some(observations[-SETTLED:]))
    assert observations[:, TOOL][:, 2].min() > 0.01


@pytest.mark.parametrize('task', TASKS)
def test_it_does_so_with_noise(bench, task):
    goal, observations = bench.play(task, 0, noise_std=0.1)
    assert all(is_done(task, obs, goal) for obs in some(observations[-SETTLED:]))


def test_a_body_that_is_dropped_is_taken_up_again(bench):
    expert, obs = Demonstrator('lift', noise_std=0.0), bench.reset(0)
    goal = draw_goal('lift', obs[BODY], None)
    expert.reset(goal, 0)

    def until(condition, obs):
        """Act until that holds, for a while at most."""
        for _ in range(100):
            if condition(obs):
                return obs
            obs = bench.step(expert.action(obs))
        raise AssertionError('it does not come about')

    obs = until(lambda obs: is_done('lift', obs, goal), obs)
    for _ in range(25):
        obs = bench.step(np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    assert obs[BODY][2] < goal[2] - 0.1
    until(lambda obs: is_done('lift', obs, goal), obs)


def test_a_placed_body_is_still_held(bench):
    expert, obs = Demonstrator('pick_place', noise_std=0.0), bench.reset(1)
    goal = np.array([0.45, 0.15, obs[BODY][2]])
    expert.reset(goal, 0)
    for _ in range(100):
        obs = bench.step(expert.action(obs))
    np.testing.assert_allclose(obs[BODY], goal, atol=0.01)
    assert np.linalg.norm(obs[BODY] - obs[TOOL]) < 0.02
    assert obs[OPENING] == pytest.approx(bench.world.cube.size_m, abs=5e-3)


def test_a_push_goes_around_the_body_and_leaves_it_on_the_table(bench):
    for seed in range(3):
        goal, observations = bench.play('push', seed)
        start, place = observations[0][BODY], observations[:, BODY]
        first = int(np.argmax(np.linalg.norm(place - start, axis=1) > 2e-3))
        touching = observations[first]
        assert (start - touching[TOOL])[:2] @ (goal - start)[:2] > 0.0
        assert touching[TOOL][2] < bench.world.cube.size_m
        assert np.abs(place[:, 2] - start[2]).max() < 0.01


def test_a_grasp_that_misses_is_begun_anew():
    expert, body = Demonstrator('lift', noise_std=0.0), np.array([0.5, 0.0, 0.025])
    expert.reset(body + [0.0, 0.0, 0.1], 0)
    above, around = body + [0.0, 0.0, 0.1], body
    assert expert.action(observation(above, body))[2] < 0.0
    assert expert.action(observation(around, body))[GRIP] == -1.0
    assert expert.action(observation(around, body, 0.06, closing=0.1))[2] == pytest.approx(0.0)
    assert expert.action(observation(around, body, 0.05))[2] > 0.0
    aside = body + [0.0, 0.05, 0.0]
    again = expert.action(observation(around, aside, 0.0))
    assert again[GRIP] == 1.0 and again[2] > 0.0 and again[1] > 0.0
    assert expert.action(observation(aside + [0.0, 0.0, 0.1], aside, 0.03))[2] == pytest.approx(0.0), 'not open yet'
    assert expert.action(observation(aside + [0.0, 0.0, 0.1], aside))[2] < 0.0


def test_a_push_stops_near_its_goal_and_goes_on_when_the_body_leaves_it():
    expert, low = Demonstrator('push', noise_std=0.0), 0.02
    expert.reset(GOAL, 0)
    near = np.array(GOAL) - [0.01, 0.0, 0.0]
    np.testing.assert_allclose(expert.action(observation([0.4, 0.1, low], near, 0.0)), [0.0, 0.0, 0.0, 0.0, -1.0], atol=1e-9)
    away = np.array(GOAL) - [0.0, 0.05, 0.0]
    assert expert.action(observation([0.4, 0.1, low], away, 0.0))[2] > 0.0


def noises(seed, episode, noise_std=0.1, count=4000):
    """What noise adds to actions far from their bounds, shape (count, 5), that of the opening left out."""
    obs = observation([0.5, 0.0, 0.125], [0.5, 0.0, 0.025], opening=0.0)
    plain, noisy = Demonstrator('lift', noise_std=0.0), Demonstrator('lift', noise_std=noise_std, seed=seed)
    plain.reset(GOAL, 0)
    noisy.reset(GOAL, episode)
    return np.array([noisy.action(obs) for _ in range(count)])[:, :GRIP] - plain.action(obs)[:GRIP]


def test_noise_is_smooth_of_the_size_asked_for_and_repeatable():
    noise = noises(0, 0)
    np.testing.assert_allclose(noise.std(axis=0), 0.1, rtol=0.15)
    np.testing.assert_allclose([np.corrcoef(column[:-1], column[1:])[0, 1] for column in noise.T], 0.8, atol=0.05)
    assert np.array_equal(noises(0, 0, count=10), noise[:10])
    assert not np.array_equal(noises(0, 1, count=10), noise[:10])
    assert not np.array_equal(noises(1, 0, count=10), noise[:10])


@pytest.mark.parametrize('task', TASKS)
def test_actions_stay_within_bounds_whatever_is_observed(task):
    expert, rng = Demonstrator(task, noise_std=1.0), np.random.default_rng(0)
    expert.reset(GOAL, 0)
    actions = np.array([expert.action(rng.uniform(-2.0, 2.0, 2 * SIZE)) for _ in range(200)])
    assert actions.shape == (200, 5) and np.abs(actions).max() <= 1.0


def test_what_cannot_be_demonstrated_is_refused():
    with pytest.raises(ConfigError, match="no demonstration of 'reach'; known: lift, pick_place, push"):
        Demonstrator('reach')
    for noise_std in (-0.1, float('nan')):
        with pytest.raises(ConfigError, match='noise_std of a demonstration cannot be negative, got'):
            Demonstrator('lift', noise_std=noise_std)
    expert = Demonstrator('lift')
    with pytest.raises(GoalError, match='lift needs a goal first'):
        expert.action(np.zeros(2 * SIZE))
    for goal in ((0.5, 0.0), (0.5, 0.0, float('nan'))):
        with pytest.raises(GoalError, match='needs three finite coordinates'):
            expert.reset(goal, 0)


def test_held_fingers_let_go_at_once(bench):
    _, observations = bench.play('lift', 0)
    held = observations[-1]
    assert held[BODY][2] > 0.1
    released = bench.step(np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    released = bench.step(np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    assert released[OPENING] > held[OPENING] + 2e-3
