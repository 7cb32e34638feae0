"""Episodes of a Gymnasium environment: the stack's planner and learner around whatever has continuous actions."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.snapshot import ModelSnapshot
from mbrl_ros.config import Config, section, setting
from mbrl_ros.environments.adapter import FlatEnvironment, file_name
from mbrl_ros.environments.rewards import KNOWN, load_reward
from mbrl_ros.errors import ConfigError, PlanningError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.precision import PrecisionChooser
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.planning import Objective, PlannerConfig, make_planner
from mbrl_ros.resources import config_file, share_directory
from mbrl_ros.runs.curve import save_return_curve
from mbrl_ros.runs.playing import LEARNING, Episode
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.outcome import GivenReward, OutcomeFrame, learned_reward
from mbrl_ros.training.continual import ContinualConfig
from mbrl_ros.types import DynamicsModel, Phase

#: Rewards that are no function's name.
LEARNED, BUILT_IN = 'learned', 'built-in'


@dataclasses.dataclass(frozen=True)
class EnvLoopConfig(Config):
    """How an environment is learned and played; `config/envs` has files for some, and one for all others."""

    max_episode_steps: int = setting(0, 'Steps after which an episode ends; 0 leaves that to the environment.', low=0)
    explorations: int = setting(1, 'First episodes, of random actions.', low=0)
    planner: PlannerConfig = section(PlannerConfig, 'The planner.')
    learner: ContinualConfig = section(ContinualConfig, 'How to train and which model to keep.')

    @classmethod
    def of_env(cls, env_id: str, path: Path | None = None, changes: Sequence[str] = ()) -> 'EnvLoopConfig':
        """Read the file of an environment, that for all others where it has none, or the one that is given.

        Args:
            env_id: As `gymnasium.make` takes it.
            path: Of a file to read instead.
            changes: Of single settings, such as `planner.horizon=9`.

        Raises:
            ConfigError: No such file, or a key or value that does not fit.
        """
        if path is None:
            own = share_directory() / 'config' / 'envs' / f'{file_name(env_id)}.yaml'
            path = own if own.is_file() else config_file('envs', 'default')
        return cls.from_file(path, changes)


class EnvLoop:
    """Runs episodes of one environment; implements `playing.Loop`.

    Args:
        env_id: As `gymnasium.make` takes it.
        config: Settings.
        reward: `learned` with the dynamics, `built-in` where `environments.rewards` knows it, or `module:function`.
        render: Whether pictures will be asked for.

    Raises:
        ConfigError: There is no such environment or reward, or they cannot be used, or pictures cannot be had.

    Attributes:
        config: As given.
        frame: What the dynamics are learned in: reward and end of the episode are predicted beside the observation.
        period_s: Time that a step stands for.
        planner: Plans its steps.
    """

    demonstrations, has_goal = 0, False

    def __init__(self, env_id: str, config: EnvLoopConfig, *, reward: str = LEARNED, render: bool = False) -> None:
        self.config, self._reward = config, reward
        self._env = FlatEnvironment(env_id, render=render)
        try:
            self._max_steps = _max_steps(self._env, config)
            self._objective = _objective(self._env, reward)
            if render:
                self._env.reset(0)
                self._env.picture()
        except ConfigError:
            self._env.close()
            raise
        self.period_s = self._env.period_s
        self.frame = OutcomeFrame(len(self._env.obs_names))
        self.planner = make_planner(config.planner, len(self._env.action_names))
        # There is no deadline, and what a timing would choose may differ from run to run.
        precision = 'float32' if config.planner.precision == 'auto' else config.planner.precision
        self._precision = PrecisionChooser(precision, self.planner.device,
                                           config.planner.population_size * config.planner.num_particles)

    @property
    def name(self) -> str:
        """The environment's name."""
        return self._env.env_id

    @property
    def file_name(self) -> str:
        """The same as a name of a folder."""
        return file_name(self._env.env_id)

    @property
    def identity(self) -> dict[str, Any]:
        """Environment and reward."""
        return {'env': self._env.env_id, 'reward': self._reward}

    @property
    def layout(self) -> dict[str, Any]:
        """What a model has to be for; as `ModelSnapshot.check_fits` takes it."""
        outcome = ('reward', 'ended') if self._reward == LEARNED else ('ended',)
        return {'robot': 'gymnasium', 'task': self._env.env_id, 'state_names': (*self._env.obs_names, *outcome),
                'action_names': self._env.action_names, 'period_s': self.period_s, 'has_velocities': False,
                'reward': self._reward}

    def check_memory(self, ensemble: EnsembleConfig) -> None:
        """Raise unless there is memory for plans with a model of this size, which need not be there yet.

        Raises:
            ConfigError: A plan would need more than the planner's settings allow.
        """
        self.planner.check_memory(len(self.layout['state_names']), ensemble.ensemble_size, ensemble.hidden_units)

    def ready(self, model: ModelSnapshot) -> DynamicsModel:
        """A learned model as the planner takes it: on its device, in its precision, out of the frame.

        Raises:
            ModelMismatchError: It is for another environment, or was learned with another reward.
            ConfigError: As for `check_memory`.
        """
        model.check_fits(**self.layout)
        self.check_memory(model.parameters.shape)
        placed = model.to(self.planner.device, self._precision.choose(model.parameters).precision)
        return out_of_frame(self.frame, placed, len(self._env.action_names))

    def play(self, model: DynamicsModel | None, *, seed: int, episode: int, stream: int = LEARNING,
             on_step: Callable[[], None] = lambda: None) -> Episode:
        """Run one episode; the same arguments give the same one.

        Where no plan has a finite value, the middle of the action's range is held for a step.

        Args:
            model: What to plan with; without one actions are uniformly random.
            seed: With stream and episode the source of the environment's chance, plans and random actions.
            episode: Number of the episode.
            stream: `LEARNING` or `EVALUATION`.
            on_step: Called before each step, as to take a picture.

        Raises:
            MeasurementError: The environment gives what is not finite.
        """
        env_seed, plan_seed, action_seed = episode_seeds(seed, stream, episode)
        rng, size = np.random.default_rng(action_seed), len(self._env.action_names)
        self.planner.reset(plan_seed)
        obs, over, success = [self._observed(self._env.reset(env_seed))], False, None
        actions, plan_s, total = [], [], 0.0
        while not over and len(actions) < self._max_steps:
            on_step()
            if model is None:
                action = rng.uniform(-1.0, 1.0, size)
            else:
                action, elapsed_s = self._planned(model, obs[-1], actions[-1] if actions else np.zeros(size))
                plan_s += [elapsed_s] if elapsed_s is not None else []
            own, reward, terminated, truncated, info = self._env.step(action)
            over, success = terminated or truncated, info.get('is_success', success)
            obs.append(self._observed(own, reward, terminated))
            actions.append(action)
            total += reward
        phase = Phase.EXPLORING if model is None else Phase.RUNNING
        return Episode(phase.value, None if success is None else bool(success), float('nan'), total, np.array(plan_s),
                       np.array(obs), np.array(actions))

    def demonstrate(self, *, seed: int, episode: int) -> Episode:
        """Nothing is shown beforehand.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f'there are no demonstrations of {self.name}')

    def picture(self, width: int, height: int) -> np.ndarray:
        """The environment as it is, shape (height, width, 3), uint8, with black margins; raises as `FlatEnvironment.picture`."""
        from PIL import Image, ImageOps

        return np.asarray(ImageOps.pad(Image.fromarray(self._env.picture()), (width, height)))

    def draw(self, scores: Sequence[EpisodeScore], path: Path, *, seed: int) -> None:
        """Draw return and model error of a run over its steps."""
        save_return_curve(scores, path, title=f'{self.name}, reward {self._reward}, seed {seed}')

    def close(self) -> None:
        """Leave the environment."""
        self._env.close()

    def _planned(self, model: DynamicsModel, obs: np.ndarray, previous: np.ndarray) -> tuple[np.ndarray, float | None]:
        """An action, shape (A,), and the time that it took to plan, where there is a plan."""
        try:
            plan = self.planner.plan(model, obs, self._objective, previous_action=previous)
        except PlanningError:
            return np.zeros_like(previous), None
        return np.asarray(plan.actions[0], dtype=np.float64), plan.elapsed_s

    def _observed(self, own: np.ndarray, reward: float = 0.0, ended: bool = False) -> np.ndarray:
        outcome = [reward, ended] if self._reward == LEARNED else [ended]
        return np.concatenate([own, outcome])


def episode_seeds(seed: int, stream: int, episode: int) -> tuple[int, ...]:
    """Seeds of an episode's environment, plans and random actions."""
    return tuple(map(int, np.random.SeedSequence([seed, stream, episode]).generate_state(3)))


def _max_steps(env: FlatEnvironment, config: EnvLoopConfig) -> int:
    limits = [limit for limit in (env.max_steps, config.max_episode_steps) if limit]
    if not limits:
        raise ConfigError(f'{env.env_id} sets no limit to an episode; its settings need a max_episode_steps above 0')
    return min(limits)


def _objective(env: FlatEnvironment, reward: str) -> Objective:
    if reward == LEARNED:
        return learned_reward
    if reward == BUILT_IN:
        if env.env_id not in KNOWN:
            raise ConfigError(f'there is no built-in reward for {env.env_id}; there is one for {", ".join(sorted(KNOWN))}; '
                              'name one with --reward module:function, or have it learned')
        function = KNOWN[env.env_id]
    else:
        function = load_reward(reward, len(env.obs_names), len(env.action_names))
    return GivenReward(function, torch.from_numpy(env.low), torch.from_numpy(env.high))
