"""Training by Soft Actor-Critic; the only module that needs stable-baselines3."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from mbrl_ros.runs.baselines.sac import SacSetup
from mbrl_ros.runs.comparison import Check, save_checks
from mbrl_ros.runs.playing import EVALUATION
from mbrl_ros.runs.scores import EpisodeScore, ScoreBoard, ScoreConfig
from mbrl_ros.types import Phase


def train(setup: SacSetup, folder: Path, on_check: Callable[[Check], None]) -> None:
    """Learn a task from nothing; `on_check` gets each evaluation of the policy.

    The folder then has `scores.csv`, `checks.csv`, and `policy.zip` and `normalizer.pkl` in stable-baselines3's form.
    """
    sac = setup.sac
    envs = VecNormalize(DummyVecEnv([lambda: Monitor(_make(setup))]), norm_obs=sac.normalize, norm_reward=sac.normalize,
                        gamma=sac.discount)
    hindsight = {'replay_buffer_class': HerReplayBuffer,
                 'replay_buffer_kwargs': {'n_sampled_goal': sac.hindsight_goals, 'goal_selection_strategy': 'future'}}
    model = SAC('MultiInputPolicy' if setup.in_hindsight else 'MlpPolicy', envs, learning_rate=sac.learning_rate,
                buffer_size=setup.steps, learning_starts=sac.learning_starts, batch_size=sac.batch_size, tau=sac.target_rate,
                gamma=sac.discount, gradient_steps=sac.gradient_steps, seed=setup.seed,
                policy_kwargs={'net_arch': [sac.hidden_size] * sac.hidden_layers},
                **(hindsight if setup.in_hindsight else {}))
    log = _Log(setup, folder, on_check)
    try:
        model.learn(setup.steps, callback=log)
    finally:
        envs.close()
    model.save(folder / 'policy.zip')
    envs.save(str(folder / 'normalizer.pkl'))


class _Log(BaseCallback):
    """Scores episodes as they end and evaluates the policy regularly; writes both after each evaluation."""

    def __init__(self, setup: SacSetup, folder: Path, on_check: Callable[[Check], None]) -> None:
        super().__init__()
        self._setup, self._folder, self._on_check = setup, folder, on_check
        self._board, self._checks = ScoreBoard(ScoreConfig(), folder / 'scores.csv'), []
        self._env = _make(setup)
        self._looking_s = 0.0

    def _on_training_start(self) -> None:
        self._begin_s = time.monotonic()

    def _on_step(self) -> bool:
        if self.locals['dones'][0]:
            self._score(self.locals['infos'][0])
        if self.num_timesteps % self._setup.check_every == 0 or self.num_timesteps == self._setup.steps:
            self._check()
        return True

    def _on_training_end(self) -> None:
        self._env.close()

    def _score(self, info: dict[str, Any]) -> None:
        # An episode with random steps says little about the policy.
        explored = self.num_timesteps - info['episode']['l'] < self._setup.sac.learning_starts
        self._board.add(EpisodeScore(
            episode=len(self._board.scores), total_steps=self.num_timesteps,
            phase=(Phase.EXPLORING if explored else Phase.RUNNING).value, success=info['is_held'], distance_m=info['distance_m'],
            episode_return=info['episode']['r'], model_version=0, model_error=float('nan'), plan_ms_p50=float('nan'),
            plan_ms_p99=float('nan'), deadline_misses=0,
            wall_s=self._learned_s() - sum(score.wall_s for score in self._board.scores)))

    def _check(self) -> None:
        begin_s, wall_s = time.monotonic(), self._learned_s()
        successes = sum(self._succeeds(episode) for episode in range(self._setup.check_episodes))
        self._checks.append(Check(self.num_timesteps, successes, self._setup.check_episodes, wall_s))
        self._board.save()
        save_checks(self._folder / 'checks.csv', self._checks)
        self._looking_s += time.monotonic() - begin_s
        self._on_check(self._checks[-1])

    def _learned_s(self) -> float:
        """Wall time of learning so far, without evaluations."""
        return time.monotonic() - self._begin_s - self._looking_s

    def _succeeds(self, episode: int) -> bool:
        """Whether the policy without noise succeeds in an episode."""
        obs, info = self._env.reset(options={'episode': (self._setup.check_seed, EVALUATION, episode)})
        is_over = False
        while not is_over:
            action, _ = self.model.predict(self.training_env.normalize_obs(obs), deterministic=True)
            obs, _, _, is_over, info = self._env.step(np.asarray(action))
        return bool(info['is_held'])


def _make(setup: SacSetup) -> gymnasium.Env:
    loop = setup.loop
    return gymnasium.make(setup.env_id, robot=setup.robot, goal_env=setup.in_hindsight, end_with_success=True,
                          safety=loop.control.safety, control_hz=loop.control_rate_hz, max_episode_steps=loop.max_episode_steps,
                          disable_env_checker=True)
