"""Episodes of a Gymnasium environment, for the stack's agents and learners."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Agent
from mbrl_ros.agents.bundle import Contract
from mbrl_ros.environments.adapter import FlatEnvironment, file_name, has_goals, success_of
from mbrl_ros.environments.functions import load_features
from mbrl_ros.environments.goals import RewardOfGoals
from mbrl_ros.environments.recordings import RecordedEpisode
from mbrl_ros.environments.rewards import KNOWN, load_reward
from mbrl_ros.errors import ConfigError, MbrlError, PlanningError
from mbrl_ros.experience.demonstrations import DemonstratedEpisode
from mbrl_ros.planning.planner import Objective
from mbrl_ros.runs.curve import save_return_curve
from mbrl_ros.runs.detours import Detours
from mbrl_ros.runs.env_demonstrations import load_env_demonstrations
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.playing import LEARNING, Episode, Relearn, Step, play_out
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.outcome import GivenReward, Goals, OutcomeReward, OutcomeSpace, learned_reward
from mbrl_ros.types import GOAL_SIZE, TAGS, Phase

#: Robot in the contract of an environment.
ROBOT = 'gymnasium'
#: Values of `reward` that do not name a function.
LEARNED, BUILT_IN, ENVIRONMENT = 'learned', 'built-in', 'environment'


class EnvLoop:
    """Runs episodes of one environment; implements `playing.Runner`.

    Args:
        env: The environment, which the loop closes, also if this raises.
        config: Settings.
        reward: `learned` with the dynamics, `environment` for the `compute_reward` of an environment with goals, `built-in` for
            one of `environments.rewards`, or `module:function`; by default the environment's where it has one, else learned.
        features: Further inputs of the model, as `module:function`; see `environments.functions.load_features`.

    Raises:
        ConfigError: Reward or features do not exist or cannot be used, or settings do not fit the environment.

    Attributes:
        env: The environment.
    """

    demonstrations, has_goal = 0, False

    def __init__(self, env: FlatEnvironment, config: EnvLoopConfig, *, reward: str | None = None,
                 features: str | None = None) -> None:
        self.env, self.config, self.name, self.file_name = env, config, env.env_id, file_name(env.env_id)
        try:
            _check_agent(env, config)
            self._reward = reward or (ENVIRONMENT if env.has_reward_of_goals and env.takes_many_goals else LEARNED)
            self.max_episode_steps = _max_steps(env, config)
            effector = _effector(env, config.effector)
            self._goals = RewardOfGoals(env, effector) if env.has_reward_of_goals else None
            self._objective = _objective(env, self._reward, self._goals)
            self.wanted, self.weights = OutcomeReward(self._objective), {}
            self.space = _space(env, self._reward, self._goals, effector, features)
        except MbrlError:
            env.close()
            raise
        self.identity = {'env': self.name, 'reward': self._reward, 'features': features}
        self.steps_per_round = config.steps_per_round
        self.needs_rewards = self._reward == LEARNED and self._goals is None  # Otherwise there is hindsight.
        self.tells_success, self.period_s = env.tells_success, env.period_s
        self.contract = Contract.of(config.agent, self.space, robot=ROBOT, task=self.name, period_s=self.period_s,
                                    reward=self._reward)
        self.agent = config.kind.make_agent(self.contract, self.space, config.agent_config.acting())

    @classmethod
    def of_env(cls, env_id: str, path: Path | None = None, changes: Sequence[str] = (), agent: str | None = None, *,
               reward: str | None = None, features: str | None = None) -> 'EnvLoop':
        """Make the environment, with settings as `EnvLoopConfig.of_env` reads them.

        Raises:
            ConfigError: As for `FlatEnvironment`, `EnvLoopConfig.of_env` and this class.
        """
        env = FlatEnvironment(env_id)
        try:
            config = EnvLoopConfig.of_env(env_id, path, changes, agent, has_goals=has_goals(env.obs_names))
        except MbrlError:
            env.close()
            raise
        return cls(env, config, reward=reward, features=features)

    def prepare(self) -> None:
        """See `playing.Runner.prepare`; raises ConfigError also for a reward that is not finite in the trial."""
        try:
            self.agent.prepare(self._observed(self.env.trial_obs), self._objective)
        except PlanningError as error:
            raise ConfigError(f'{self.name} cannot be planned in with the reward {self._reward!r}: {error}') from None

    def play(self, agent: Agent | None, *, seed: int, episode: int, stream: int = LEARNING,
             on_step: Callable[[], None] = lambda: None, relearn: Relearn | None = None) -> Episode:
        """Run one episode; see `playing.Runner.play`.

        The seed decides the environment's chance, plans, random actions and detours. If planning fails, the step's action is the
        middle of the range, and the step says why. The episode's success is what the environment says at its last step.

        Raises:
            MeasurementError: An observation or reward of the environment is not finite.
        """
        env_seed, plan_seed, action_seed = episode_seeds(seed, stream, episode)
        memory = None if agent is None else agent.reset(plan_seed)
        first = self._observed(self.env.reset(env_seed))

        def decide(obs: np.ndarray, previous: np.ndarray) -> tuple[np.ndarray, float | None, str | None]:
            if agent is None:
                return rng.uniform(-1.0, 1.0, len(previous)), None, None
            try:
                decision = agent.act(obs, None, memory, objective=self._objective, previous_action=previous)
            except PlanningError as error:
                return np.zeros_like(previous), None, str(error)
            return detours.instead_of(decision.action), decision.elapsed_s, None

        def learn(newest: Episode) -> None:
            nonlocal agent, memory
            learned = relearn(newest)
            if agent is None and learned is not None:
                memory, play.phase = learned.reset(plan_seed), Phase.RUNNING.value
            agent = learned

        rng = np.random.default_rng(action_seed)
        detours = Detours(self.config.detours if stream == LEARNING else 0.0, rng)
        phase = Phase.EXPLORING if agent is None else Phase.RUNNING
        play = _EnvPlay(self.env, phase.value, first, self.max_episode_steps, decide, self._observed)
        episode = play_out(play, on_step, every=self.steps_per_round if relearn else 0, on_part=learn)
        return dataclasses.replace(episode, began_at_goal=self._is_at_goal(first))

    def demonstrate(self, *, seed: int, episode: int, on_step: Callable[[], None] = lambda: None) -> Episode:
        """Environments have no expert of their own; `follow` plays one that is given.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f'{self.name} has no expert of its own')

    def load_demonstrations(self, sources: Sequence[str], *, seed: int,
                            on_damage: Callable[[str], None] = lambda _: None) -> list[DemonstratedEpisode]:
        """See `playing.Runner.load_demonstrations` and `env_demonstrations`; what is damaged is refused."""
        return load_env_demonstrations(sources, self, seed=seed)

    def follow(self, expert: Callable[[Any], np.ndarray], *, seed: int, episode: int) -> Episode:
        """Run one episode of an expert as a demonstration; the seed decides the environment's chance.

        Args:
            expert: From an observation, as the environment gives it, to the agent's action, shape (A,).
            seed, episode: As for `play`, of learning.

        Raises:
            MeasurementError: As for `play`.
        """
        first = self._observed(self.env.reset(episode_seeds(seed, LEARNING, episode)[0]))
        return play_out(_EnvPlay(self.env, Phase.DEMONSTRATED.value, first, self.max_episode_steps,
                                 lambda _obs, _previous: (expert(self.env.raw_obs), None, None), self._observed))

    def recorded(self, episode: RecordedEpisode) -> Episode:
        """A recorded episode as a demonstration that `follow` would have given."""
        count = len(episode.action)
        reward, ended = np.concatenate([[0.0], episode.reward]), np.zeros(count + 1)
        ended[-1] = self.env.ends(episode.terminated, episode.success)
        obs = np.array([self._observed(*values) for values in zip(episode.obs, reward, ended)])
        return Episode(Phase.DEMONSTRATED.value, episode.success, float('nan'), float(episode.reward.sum()), np.array([]), (),
                       obs, episode.action, episode.reward, np.full((count, GOAL_SIZE), np.nan),
                       np.full(count, TAGS[Phase.DEMONSTRATED], dtype=np.uint8), episode.terminated)

    def picture(self, width: int, height: int) -> np.ndarray:
        """Picture of the environment as it is now, shape (height, width, 3), uint8, with black margins.

        Raises:
            ConfigError: The environment cannot be drawn.
        """
        from PIL import Image, ImageOps

        return np.asarray(ImageOps.pad(Image.fromarray(self.env.picture()), (width, height)))

    def draw(self, scores: Sequence[EpisodeScore], path: Path, *, seed: int) -> None:
        """Draw return, success if the environment tells it, and model error over control steps and write a PNG."""
        save_return_curve(scores, path, title=f'{self.name}, reward {self._reward}, seed {seed}')

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _is_at_goal(self, obs: np.ndarray) -> bool | None:
        """Whether an observation is at its goal; None if a reward of goals does not tell."""
        reached = self._goals.are_reached(obs[None]) if self._goals else None
        return None if reached is None else bool(reached[0])

    def _observed(self, own: np.ndarray, reward: float = 0.0, ended: bool = False) -> np.ndarray:
        outcome = [reward, ended] if self._reward == LEARNED else [ended]
        return np.concatenate([own, outcome])


class _EnvPlay:
    """An episode of an environment that was just reset; implements `playing.Play`.

    `decide` gives action, planning time and failure of a step for an observation and the action before. `observed` makes an
    observation from what the environment returns.
    """

    def __init__(self, env: FlatEnvironment, phase: str, obs: np.ndarray, max_steps: int,
                 decide: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float | None, str | None]],
                 observed: Callable[[np.ndarray, float, bool], np.ndarray]) -> None:
        self._env, self._max_steps, self._decide, self._observed = env, max_steps, decide, observed
        self._num_steps, self._previous = 0, np.zeros(len(env.action_names))
        self.phase, self.obs, self.goal = phase, obs, np.full(GOAL_SIZE, np.nan)
        self.is_over, self.terminated, self.success = max_steps == 0, False, None
        self.distance_m, self.episode_return = float('nan'), 0.0

    def step(self) -> Step:
        """See `playing.Play.step`."""
        action, elapsed_s, failure = self._decide(self.obs, self._previous)
        own, reward, self.terminated, truncated, info = self._env.step(action)
        self.success = success_of(info)
        self.obs, self._previous = self._observed(own, reward, self._env.ends(self.terminated, self.success)), action
        self._num_steps += 1
        self.episode_return += reward
        self.is_over = self.terminated or truncated or self._num_steps >= self._max_steps
        return Step(action, reward, elapsed_s, failure)


def episode_seeds(seed: int, stream: int, episode: int) -> tuple[int, ...]:
    """Seeds of an episode: of the environment, the plans and the random actions."""
    return tuple(map(int, np.random.SeedSequence([seed, stream, episode]).generate_state(3)))


def _check_agent(env: FlatEnvironment, config: EnvLoopConfig) -> None:
    """Raise ConfigError if observations are choices, which only agents with tables take; those check what else they need."""
    if env.choices is not None and not config.kind.is_tabular:
        raise ConfigError(f'{env.env_id} has observations {env.space}, from which the agent {config.agent!r} cannot learn; an '
                          'agent with tables can, such as dyna_q')


def _max_steps(env: FlatEnvironment, config: EnvLoopConfig) -> int:
    limits = [limit for limit in (env.max_steps, config.max_episode_steps) if limit]
    if not limits:
        raise ConfigError(f'{env.env_id} sets no limit to an episode; its settings need a max_episode_steps above 0')
    return min(limits)


def _effector(env: FlatEnvironment, names: Sequence[str]) -> np.ndarray | None:
    """Indices of the effector's entries in an observation; None if it is not known."""
    if unknown := [name for name in names if name not in env.obs_names]:
        raise ConfigError(f'{env.env_id} has no entry {unknown[0]!r} for the setting effector; its entries are '
                          f'{", ".join(env.obs_names)}')
    if names and len(names) != env.is_goal.sum():
        raise ConfigError(f'{env.env_id} has goals of {env.is_goal.sum()} numbers, and the setting effector names {len(names)}')
    return np.array([env.obs_names.index(name) for name in names]) if names else None


def _objective(env: FlatEnvironment, reward: str, goals: RewardOfGoals | None) -> Objective:
    if reward == LEARNED:
        return learned_reward
    if reward == ENVIRONMENT:
        function = goals or RewardOfGoals(env)  # Raises, and says what is missing.
    elif reward == BUILT_IN:
        if env.env_id not in KNOWN:
            raise ConfigError(f'there is no built-in reward for {env.env_id}; there is one for {", ".join(sorted(KNOWN))}; '
                              'name one with --reward module:function, or have it learned')
        function = KNOWN[env.env_id]
    else:
        function = load_reward(reward, len(env.obs_names), env.actions.num_units)
    return GivenReward(function, env.actions.units)


def _space(env: FlatEnvironment, reward: str, goals: RewardOfGoals | None, effector: np.ndarray | None,
           features: str | None) -> OutcomeSpace:
    entries = Goals(np.flatnonzero(env.is_achieved), np.flatnonzero(env.is_goal), effector, goals and goals.of_step)
    function = features and load_features(features, torch.from_numpy(env.trial_obs).float())
    return OutcomeSpace(env.obs_names, env.action_names, is_reward_learned=reward == LEARNED,
                        goals=entries if env.is_goal.any() else None,
                        action_features=env.actions.features, features=function, features_name=features or '',
                        numbering=env.numbering)
