"""Episodes of a Gymnasium environment: the stack's agent and learner around whatever has continuous actions."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mbrl_ros.agents.agent import Agent
from mbrl_ros.agents.bundle import Contract
from mbrl_ros.agents.settings import RunConfig
from mbrl_ros.config import setting
from mbrl_ros.environments.adapter import FlatEnvironment, file_name
from mbrl_ros.environments.rewards import KNOWN, load_reward
from mbrl_ros.errors import ConfigError, PlanningError
from mbrl_ros.planning.planner import Objective
from mbrl_ros.resources import config_file, share_directory
from mbrl_ros.runs.curve import save_return_curve
from mbrl_ros.runs.playing import LEARNING, Episode
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.outcome import GivenReward, OutcomeSpace, learned_reward
from mbrl_ros.types import Phase

#: Rewards that are no function's name.
LEARNED, BUILT_IN = 'learned', 'built-in'


@dataclasses.dataclass(frozen=True)
class EnvLoopConfig(RunConfig):
    """How an environment is learned and played; `config/envs` has files for some, and one for all others."""

    max_episode_steps: int = setting(0, 'Steps after which an episode ends; 0 leaves that to the environment.', low=0)
    explorations: int = setting(1, 'First episodes, of random actions.', low=0)

    @classmethod
    def of_env(cls, env_id: str, path: Path | None = None, changes: Sequence[str] = (), agent: str | None = None) -> Self:
        """Read the file of an environment, that for all others where it has none, or the one that is given.

        Args:
            env_id: As `gymnasium.make` takes it.
            path: Of a file to read instead.
            changes: Of single settings, such as `planner.horizon=9`.
            agent: Name of the agent; that in the file, or the usual one, when left out.

        Raises:
            ConfigError: No such file or agent, or a key or value that does not fit.
        """
        if path is None:
            own = share_directory() / 'config' / 'envs' / f'{file_name(env_id)}.yaml'
            path = own if own.is_file() else config_file('envs', 'default')
        return cls.read('envs', file_name(env_id), path, changes, agent)


class EnvLoop:
    """Runs episodes of one environment; implements `playing.Runner`.

    Args:
        env_id: As `gymnasium.make` takes it.
        config: Settings.
        reward: `learned` with the dynamics, `built-in` where `environments.rewards` knows it, or `module:function`.
        render: Whether pictures will be asked for.

    Raises:
        ConfigError: There is no such environment or reward, or they cannot be used, or pictures cannot be had.

    Attributes:
        config: As given.
        space: The environment's observation, with reward and end of the episode beside it.
        period_s: Time that a step stands for.
        contract: What a bundle has to be for.
        agent: Who acts, without a bundle yet.
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
        self.space = OutcomeSpace(self._env.obs_names, self._env.action_names, is_reward_learned=reward == LEARNED)
        self.contract = Contract.of(config.agent, self.space, robot='gymnasium', task=env_id, period_s=self.period_s,
                                    reward=reward)
        self.agent = config.kind.make_agent(self.contract, self.space, config.agent_config.acting())

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

    def prepare(self) -> None:
        """See `playing.Runner.prepare`.

        Raises:
            ConfigError: The settings do not allow weights of the size to come.
        """
        self.agent.prepare(np.zeros(self.contract.obs_size), self._objective)

    def play(self, agent: Agent | None, *, seed: int, episode: int, stream: int = LEARNING,
             on_step: Callable[[], None] = lambda: None) -> Episode:
        """Run one episode; the same arguments give the same one.

        Where the agent has no action, the middle of the action's range is held for a step.

        Args:
            agent: Who acts; without one actions are uniformly random.
            seed: With stream and episode the source of the environment's chance, decisions and random actions.
            episode: Number of the episode.
            stream: `LEARNING` or `EVALUATION`.
            on_step: Called before each step, as to take a picture.

        Raises:
            MeasurementError: The environment gives what is not finite.
        """
        env_seed, plan_seed, action_seed = episode_seeds(seed, stream, episode)
        rng, size = np.random.default_rng(action_seed), len(self._env.action_names)
        memory = None if agent is None else agent.reset(plan_seed)
        obs, over, success = [self._observed(self._env.reset(env_seed))], False, None
        actions, plan_s, total = [], [], 0.0
        while not over and len(actions) < self._max_steps:
            on_step()
            action = np.zeros(size)
            if agent is None:
                action = rng.uniform(-1.0, 1.0, size)
            else:
                with contextlib.suppress(PlanningError):
                    decision = agent.act(obs[-1], None, memory, objective=self._objective,
                                         previous_action=actions[-1] if actions else action)
                    action = decision.action
                    plan_s.append(decision.elapsed_s)
            own, reward, terminated, truncated, info = self._env.step(action)
            over, success = terminated or truncated, info.get('is_success', success)
            obs.append(self._observed(own, reward, terminated))
            actions.append(action)
            total += reward
        phase = Phase.EXPLORING if agent is None else Phase.RUNNING
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
