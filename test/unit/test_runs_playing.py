"""An episode played to its end: what is kept of it, and that its return means the same wherever it is played."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from mbrl_ros.errors import PlanningError
from mbrl_ros.runs.playing import Step, play_out
from mbrl_ros.runs.progress import TaskProgress
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.types import Tag
from mbrl_sim.tabletop import make_task_world


class Countdown:
    """Ends after so many steps; implements `Play`."""

    phase, goal, distance_m, success = 'exploring', np.array([1.0, 2.0, 3.0]), float('nan'), None

    def __init__(self, steps, terminated):
        self.left, self.terminated, self.obs, self.episode_return = steps, terminated, np.zeros(2), 0.0

    @property
    def is_over(self):
        return self.left == 0

    def step(self):
        self.left, self.obs, self.episode_return = self.left - 1, self.obs + 1.0, self.episode_return + 0.5
        return Step(np.array([float(self.left)]), 0.5, 0.01 if self.left else None, None if self.left else 'no plan')


@pytest.mark.parametrize('terminated', [True, False])
def test_an_episode_is_its_steps_in_order_and_the_last_one_says_how_it_ended(terminated):
    seen = []
    play = Countdown(3, terminated)
    episode = play_out(play, lambda: seen.append(play.left))
    assert seen == [3, 2, 1]
    assert (episode.steps, episode.episode_return, episode.plan_s.tolist()) == (3, 1.5, [0.01, 0.01])
    rows = episode.transitions(np.arange(3), 7)
    assert rows.obs[:, 0].tolist() == [0.0, 1.0, 2.0] and rows.next_obs[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert rows.action[:, 0].tolist() == [2.0, 1.0, 0.0] and rows.episode.tolist() == [7, 7, 7]
    assert rows.goal.tolist() == [[1.0, 2.0, 3.0]] * 3 and rows.reward.tolist() == [0.5] * 3
    assert rows.terminated.tolist() == [False, False, terminated]
    assert rows.truncated.tolist() == [False, False, not terminated]
    assert set(rows.tags.tolist()) == {Tag.EXPLORED}
    assert episode.failures == ('no plan',)


@pytest.mark.parametrize(('steps', 'parts'), [(5, 2), (4, 1)])
def test_an_episode_is_given_in_part_every_so_many_steps_but_not_at_its_end(steps, parts):
    given, play = [], Countdown(steps, terminated=False)

    def on_part(part):
        given.append(part)
        play.phase = 'running'

    whole = play_out(play, every=2, on_part=on_part)
    assert [part.steps for part in given] == parts * [2] and whole.steps == steps
    for index, part in enumerate(given):
        begin, end = 2 * index, 2 * index + 2
        rows, same = part.transitions(np.arange(begin, end), 7), whole.transitions(np.arange(steps), 7).take(slice(begin, end))
        for name, values in rows.columns().items():
            np.testing.assert_array_equal(values, same.columns()[name])
        assert not rows.truncated.any()
    assert whole.transitions(np.arange(steps), 7).truncated.tolist() == [*[False] * (steps - 1), True]
    assert whole.tags.tolist() == [Tag.EXPLORED, Tag.EXPLORED, *[0] * (steps - 2)] and whole.phase == 'running'


def test_the_return_of_an_episode_is_that_of_its_states_as_the_episode_manager_counts_it():
    config = dataclasses.replace(TaskLoopConfig.of_task('reach'), max_episode_steps=6)
    with contextlib.closing(TaskLoop('reach', config, make_task_world)) as loop:
        episode = loop.play(None, seed=0, episode=0)
    progress = TaskProgress(loop.task, loop.period_s, 6)
    progress.begin(episode.goal[0], episode.obs[0])
    for obs in episode.obs[1:]:
        progress.advance(obs)
    assert (progress.episode_return, progress.distance_m) == (episode.episode_return, episode.distance_m)
    full = [float(loop.task.reward(torch.from_numpy(obs), torch.from_numpy(action), episode.goal[0]))
            for obs, action in zip(episode.obs[1:], episode.action)]
    np.testing.assert_allclose(episode.reward, full)
    assert sum(full) < episode.episode_return  # What the actions cost is in the rewards of steps.


class Clueless:
    """Never has a plan; implements `Agent`."""

    version, is_ready = 1, True

    def reset(self, seed):
        return None

    def predict(self, obs, previous_action, latency_s):
        return None

    def act(self, obs, goal, memory, **options):
        raise PlanningError('no way')


def test_an_episode_of_a_task_tells_why_it_had_no_plan():
    config = dataclasses.replace(TaskLoopConfig.of_task('reach'), max_episode_steps=6)
    with contextlib.closing(TaskLoop('reach', config, make_task_world)) as loop:
        episode = loop.play(Clueless(), seed=0, episode=0)
    assert episode.failures == 6 * ('no way',) and len(episode.plan_s) == 0
