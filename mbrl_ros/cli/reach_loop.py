"""Reach episodes in one process, without ROS: the stack's controller and learner around the arm's Gymnasium environment.

States are exact and commands take effect at once, so that there is neither an estimator nor a latency to compensate for.
"""

import dataclasses
from typing import Any

import gymnasium
import numpy as np

import mbrl_sim  # noqa: F401  registers the environment
from mbrl_ros.episodes.machine import EpisodeConfig
from mbrl_ros.errors import ModelError
from mbrl_ros.learning import ContinualConfig, ContinualLearner, ModelSnapshot
from mbrl_ros.learning.precision import PrecisionChooser
from mbrl_ros.planning import SamplingPlanner
from mbrl_ros.planning.controller import MpcController
from mbrl_ros.planning.tick import ControllerConfig, TickInputs
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.tasks import SuccessCounter, make_task
from mbrl_ros.types import DynamicsModel, EpisodeReport, Phase, RobotState

_NANOSECONDS = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class ReachEpisode:
    """What happened in one episode of T control steps.

    Attributes:
        success: Whether the goal was reached and held.
        distance_m: Distance of the tool from the goal at the end.
        episode_return: Sum of rewards; an episode ends with its success.
        plan_s: Time of each plan, shape (T,); empty where nothing was planned.
        obs: Observations, the last one included, shape (T + 1, O).
        action: Applied actions, normalised to [-1, 1], shape (T, A).
    """

    success: bool
    distance_m: float
    episode_return: float
    plan_s: np.ndarray
    obs: np.ndarray
    action: np.ndarray

    @property
    def steps(self) -> int:
        """Control steps, T."""
        return len(self.action)


class ReachLoop:
    """Runs episodes with the default settings of controller and trainer.

    Args:
        robot: Name in `config/robots`, or the path of a YAML file.
        episodes: Rate and length of episodes, and how many of them explore.

    Raises:
        ConfigError: The robot's profile cannot be used.

    Attributes:
        robot: Its profile.
        task: The reach task for it.
        period_s: Control period.
        largest_action_change: What an action may change by in one period, shape (A,).
        home: Observation at home, at rest, shape (O,).
    """

    def __init__(self, robot: str = 'panda', episodes: EpisodeConfig | None = None) -> None:
        self._env = gymnasium.make('mbrl_sim/Reach-v0', robot=robot, disable_env_checker=True)
        self.robot = self._env.unwrapped.robot
        self.task = make_task('reach', self.robot)
        self._episodes, self._control = episodes or EpisodeConfig(), ControllerConfig()
        self.period_s = 1.0 / self._episodes.control_rate_hz
        self._kinematics = KinematicChain.of_robot(self.robot)
        self._max_velocity = np.array(self.robot.max_velocity_rad_s)
        self.largest_action_change = self.task.space.largest_change(self._control.safety.acceleration_scale, self.period_s)
        self.home = np.concatenate([self.robot.home_rad, np.zeros(self.task.action_size)])

    @property
    def layout(self) -> dict[str, Any]:
        """What a model has to be for; as `ModelSnapshot.check_fits` takes it."""
        return {'robot': self.robot.name, 'task': self.task.name, 'state_names': self.task.state_names,
                'action_names': self.task.action_names, 'period_s': self.period_s}

    def goal(self, seed: int, episode: int) -> np.ndarray:
        """Goal of an episode, shape (3,), metres; drawn as the episode manager draws it."""
        return self.robot.workspace.sample(np.random.default_rng([seed, episode]))

    def run(self, planner: SamplingPlanner, model: DynamicsModel | None, *, seed: int, episode: int) -> ReachEpisode:
        """Run one episode from home; the same arguments give the same motion.

        Args:
            planner: Plans each step, from a fresh warm start.
            model: What it plans with; without one the arm explores.
            seed: With the episode's number the source of goal, plans and exploration.
            episode: Number of the episode.
        """
        goal, success = self.goal(seed, episode), SuccessCounter(self.task.settle_s, self.period_s)
        controller = MpcController(self.robot, self._kinematics, self.task, planner, self._control, period_s=self.period_s,
                                   seed=seed)
        observed, info = self._env.reset(seed=seed, options={'goal': goal})
        observations, actions, rewards, plan_s = [observed[:self.task.obs_size]], [], [], []
        while len(actions) < self._episodes.max_episode_steps and not success.success:
            outcome = controller.tick(self._inputs(observations[-1], model, goal, episode, len(actions)))
            actions.append(outcome.velocity / self._max_velocity)
            observed, reward, _, _, info = self._env.step(actions[-1])
            observations.append(observed[:self.task.obs_size])
            rewards.append(reward)
            if outcome.plan is not None:
                plan_s.append(outcome.plan.elapsed_s)
            success.update(info['is_success'])
        return ReachEpisode(success.success, info['distance_m'], float(np.sum(rewards)), np.array(plan_s),
                            np.array(observations), np.array(actions))

    def learn(self, planner: SamplingPlanner, precision: PrecisionChooser, *, seed: int,
              episodes: int) -> tuple[ModelSnapshot, list[ReachEpisode]]:
        """Learn a model from nothing: explore, then plan, and train on everything after each episode.

        Args:
            planner: Plans the episodes after those of exploring.
            precision: Chooses what models predict in.
            seed: Of goals, motion and training.
            episodes: How many; the first ones explore, as many as the episode manager's.

        Returns:
            The model in use at the end, predicting in the chosen precision, and the episodes.

        Raises:
            ModelError: The episodes are too few for a model.
        """
        learner = ContinualLearner(ContinualConfig(), seed=seed, **self.layout)
        done: list[ReachEpisode] = []
        for index in range(episodes):
            model = learner.current if index >= self._episodes.exploration_episodes else None
            done.append(self.run(planner, model and self.ready(model, planner, precision), seed=seed, episode=index))
            obs, next_obs = (np.concatenate([episode.obs[part] for episode in done]) for part in (slice(-1), slice(1, None)))
            stamps = np.arange(len(obs)) * round(self.period_s * _NANOSECONDS)
            report = learner.round(obs, np.concatenate([episode.action for episode in done]), next_obs, stamps, episode=index,
                                   round_index=index, stamp_ns=int(stamps[-1]))
        if learner.current is None:
            raise ModelError(f'no model came of {episodes} episodes: {report.reason}')
        return self.ready(learner.current, planner, precision), done

    def ready(self, model: ModelSnapshot, planner: SamplingPlanner, precision: PrecisionChooser) -> ModelSnapshot:
        """The same model where the planner needs it, in the precision that is chosen for it."""
        return model.to(planner.device, precision.choose(model.parameters).precision)

    def close(self) -> None:
        """Leave the physics server."""
        self._env.close()

    def _inputs(self, obs: np.ndarray, model: DynamicsModel | None, goal: np.ndarray, episode: int, step: int) -> TickInputs:
        """A tick in lockstep, of an arm that obeys at once."""
        now_ns = round(step * self.period_s * _NANOSECONDS)
        position, velocity = np.split(obs, 2)
        report = EpisodeReport(stamp_ns=now_ns, phase=Phase.EXPLORING if model is None else Phase.RUNNING, start_ns=0,
                               episode=episode, step=step, total_steps=step, reward=0.0, episode_return=0.0,
                               distance_m=0.0, success=False, goal_m=tuple(map(float, goal)), goal_stamp_ns=0,
                               model_version=0)
        return TickInputs(now_ns=now_ns, effect_ns=now_ns, state=RobotState(now_ns, self.robot.joints, position, velocity),
                          report=report, model=model, anytime=False, lockstep=True)
