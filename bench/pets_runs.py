"""One run of learning in one environment: this project's, and mbrl-lib's PETS with the same sizes, budget, reward and chance."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.environments.rewards import KNOWN, load_reward
from mbrl_ros.runs.env_loop import BUILT_IN, EnvLoop, episode_seeds
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.playing import LEARNING


@dataclasses.dataclass(frozen=True)
class Problem:
    """An environment to learn, its reward given to both."""

    env_id: str
    reward: str = BUILT_IN

    def function(self, env: FlatEnvironment) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Reward of next observations and of actions in [-1, 1]."""
        given = KNOWN[self.env_id] if self.reward == BUILT_IN else load_reward(
            self.reward, len(env.obs_names), env.actions.num_units)
        return lambda obs, action: given(obs, env.actions.units(action))


@dataclasses.dataclass(frozen=True)
class Budget:
    """What both may use: planning, network, and steps of gradient descent about alike."""

    horizon: int = 20
    population: int = 100
    elites: int = 10
    iterations: int = 4
    particles: int = 5
    members: int = 5
    hidden_layers: int = 2
    hidden_size: int = 128
    explorations: int = 1

    def config(self) -> EnvLoopConfig:
        """The budget as this project's settings; everything else as `config/envs/default.yaml` has it."""
        default = EnvLoopConfig.of_env('default', has_goals=False)
        planner = dataclasses.replace(
            default.planner, horizon=self.horizon, population_size=self.population, num_elites=self.elites,
            num_iterations=self.iterations, num_particles=self.particles, device='cpu')
        ensemble = dataclasses.replace(default.learner.trainer.ensemble, ensemble_size=self.members,
                                       hidden_layers=self.hidden_layers, hidden_size=self.hidden_size)
        learner = dataclasses.replace(default.learner, trainer=dataclasses.replace(default.learner.trainer, ensemble=ensemble))
        return dataclasses.replace(default, explorations=self.explorations, planner=planner, learner=learner)


def ours(problem: Problem, budget: Budget, seed: int, episodes: int) -> dict[str, Any]:
    """Learn as `mbrl-ros learn --env` does; figures by name."""
    returns, steps, plan_s, begin_s = [], [], [], time.monotonic()
    with closing(EnvLoop(FlatEnvironment(problem.env_id), budget.config(), reward=problem.reward)) as loop, \
            tempfile.TemporaryDirectory() as folder:
        run = LearningRun(loop, seed=seed, folder=Path(folder) / 'run')
        for done in run.episodes(10**9):
            returns.append(done.score.episode_return)
            steps.append(done.score.total_steps)
            plan_s += list(done.episode.plan_s)
            for note in done.notes:
                print(f'{loop.name}, seed {seed}: {note}', flush=True)
            if len(returns) == episodes:
                break
    return _figures(returns, steps, plan_s, begin_s)


def mbrl_lib(problem: Problem, budget: Budget, seed: int, episodes: int) -> dict[str, Any]:
    """Learn as mbrl-lib's `algorithms.pets` does, but for training after each episode; figures by name.

    Its own settings where there is nothing to share: TS1, truncated-normal CEM that returns the elites' mean, double-precision
    normaliser, the learning rate and weight decay of its cart-pole, 50 epochs at most in batches of 32 with patience 25.
    """
    returns, steps, plan_s, begin_s = [], [], [], time.monotonic()
    with closing(FlatEnvironment(problem.env_id)) as env:
        torch.manual_seed(seed)
        learner = _MbrlLib(env, problem, budget, seed)
        for episode in range(episodes):
            env_seed, _, action_seed = episode_seeds(seed, LEARNING, episode)
            rng, total, over = np.random.default_rng(action_seed), 0.0, False
            obs, count = env.reset(env_seed), 0
            learner.agent.reset()
            while not over and count < env.max_steps:
                if episode < budget.explorations:
                    action = rng.uniform(-1.0, 1.0, env.actions.size)
                else:
                    planned_s = time.monotonic()
                    action = learner.agent.act(obs)
                    plan_s.append(time.monotonic() - planned_s)
                next_obs, reward, terminated, truncated, _ = env.step(action)
                learner.buffer.add(obs, action, next_obs, reward, terminated, truncated)
                obs, over, total, count = next_obs, terminated or truncated, total + reward, count + 1
            returns.append(total)
            steps.append((steps[-1] if steps else 0) + count)
            learner.train()
    return _figures(returns, steps, plan_s, begin_s)


class _MbrlLib:
    """mbrl-lib's buffer, model, trainer and agent, put together as its PETS does."""

    def __init__(self, env: FlatEnvironment, problem: Problem, budget: Budget, seed: int) -> None:
        import gymnasium
        import mbrl.models
        import mbrl.planning
        import omegaconf
        from mbrl.util.replay_buffer import ReplayBuffer

        obs_size, action_size = len(env.obs_names), env.actions.size
        network = mbrl.models.GaussianMLP(
            obs_size + action_size, obs_size, 'cpu', num_layers=budget.hidden_layers, ensemble_size=budget.members,
            hid_size=budget.hidden_size, propagation_method='random_model', learn_logvar_bounds=False,
            activation_fn_cfg=omegaconf.OmegaConf.create({'_target_': 'torch.nn.SiLU'}))
        self._model = mbrl.models.OneDTransitionRewardModel(network, target_is_delta=True, normalize=True,
                                                            normalize_double_precision=True, learned_rewards=False)
        self._trainer = mbrl.models.ModelTrainer(self._model, optim_lr=7.5e-4, weight_decay=3e-5)
        self.buffer = ReplayBuffer(100_000, (obs_size,), (action_size,), obs_type=np.double, action_type=np.double,
                                   reward_type=np.double, rng=np.random.default_rng(seed))
        function = problem.function(env)
        spaces = _Spaces(gymnasium.spaces.Box(-np.inf, np.inf, (obs_size,)), gymnasium.spaces.Box(-1.0, 1.0, (action_size,)))
        model_env = mbrl.models.ModelEnv(
            spaces, self._model, lambda action, obs: torch.zeros(len(obs), 1, dtype=torch.bool),
            lambda action, obs: function(obs, action).unsqueeze(1), generator=torch.Generator().manual_seed(seed))
        self.agent = mbrl.planning.create_trajectory_optim_agent_for_model(model_env, omegaconf.OmegaConf.create({
            '_target_': 'mbrl.planning.TrajectoryOptimizerAgent', '_recursive_': False, 'action_lb': '???', 'action_ub': '???',
            'planning_horizon': budget.horizon, 'replan_freq': 1, 'verbose': False, 'optimizer_cfg': {
                '_target_': 'mbrl.planning.CEMOptimizer', 'num_iterations': budget.iterations,
                'elite_ratio': budget.elites / budget.population, 'population_size': budget.population, 'alpha': 0.1,
                'lower_bound': None, 'upper_bound': None, 'return_mean_elites': True, 'device': 'cpu',
                'clipped_normal': False}}), num_particles=budget.particles)

    def train(self) -> None:
        """One round, as `train_model_and_save_model_and_data` makes it."""
        import mbrl.util.common

        train, validation = mbrl.util.common.get_basic_buffer_iterators(
            self.buffer, 32, 0.1, ensemble_size=len(self._model), shuffle_each_epoch=True, bootstrap_permutes=False)
        self._model.update_normalizer(self.buffer.get_all())
        self._trainer.train(train, validation, num_epochs=50, patience=25, silent=True)


@dataclasses.dataclass(frozen=True)
class _Spaces:
    observation_space: Any
    action_space: Any


def _figures(returns: list[float], steps: list[int], plan_s: list[float], begin_s: float) -> dict[str, Any]:
    return {'returns': returns, 'steps': steps, 'wall_s': time.monotonic() - begin_s,
            'plan_ms': 1e3 * statistics.median(plan_s) if plan_s else float('nan')}
