"""Environments with goals of other projects: their conventions fit, and one is learned."""

import contextlib

import numpy as np
import pytest

from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.runs.env_loop import ENVIRONMENT, EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.types import Phase


@pytest.mark.parametrize(('module', 'name', 'is_sparse'), [
    ('gymnasium_robotics', 'FetchReach-v4', True), ('gymnasium_robotics', 'FetchPushDense-v4', False),
    ('gymnasium_robotics', 'HandReach-v3', True), ('panda_gym', 'PandaReachDense-v3', False), ('panda_gym', 'PandaPush-v3', True),
    ('panda_gym', 'PandaStack-v3', True), ('panda_gym', 'PandaSlide-v3', True)])
def test_collections_of_environments_with_goals_fit(module, name, is_sparse):
    pytest.importorskip(module, reason=f'{module} is not installed')
    env_id = f'{module}:{name}'
    with contextlib.closing(EnvLoop(FlatEnvironment(env_id), EnvLoopConfig.of_env(env_id, has_goals=True))) as loop:
        assert loop.contract.reward == ENVIRONMENT and loop.tells_success
        assert loop._objective._function.is_sparse == is_sparse
        loop.prepare()
        episode = loop.play(None, seed=0, episode=0)
        assert episode.success is not None and np.isfinite(episode.obs).all()


def test_fetch_reach_is_learned_from_a_few_episodes(tmp_path):
    pytest.importorskip('gymnasium_robotics', reason='gymnasium_robotics is not installed')
    env_id = 'gymnasium_robotics:FetchReach-v4'
    with contextlib.closing(EnvLoop(FlatEnvironment(env_id), EnvLoopConfig.of_env(env_id, has_goals=True))) as loop:
        run = LearningRun(loop, seed=0, folder=tmp_path / 'run')
        scores = [progress.score for progress in run.episodes(300)]
    planned = [score.success for score in scores if score.phase == Phase.RUNNING.value]
    assert len(planned) == 4 and sum(planned) >= 3
