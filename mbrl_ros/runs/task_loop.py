"""Episodes of a task in one process, without ROS: the stack's controller and learner with a `TaskWorld`.

States are exact and commands take effect at once, so there is no estimator and no latency to compensate.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Agent
from mbrl_ros.agents.bundle import Contract
from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.agents.experts.scripted import ScriptedEpisodes
from mbrl_ros.control.controller import Controller
from mbrl_ros.control.guarded import GuardedArm
from mbrl_ros.control.safety.reasons import HoldReason
from mbrl_ros.control.tick import TickInputs
from mbrl_ros.errors import ConfigError
from mbrl_ros.experience.demonstrations import DemonstratedEpisode, load_demonstrations
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.runs.curve import save_learning_curve
from mbrl_ros.runs.playing import LEARNING, Episode, Relearn, Step, play_out
from mbrl_ros.runs.progress import TaskProgress
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.runs.world import WorldMaker
from mbrl_ros.spaces.space import state_at_home
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.tasks.task import Task
from mbrl_ros.types import ArmCommand, EpisodeReport, Phase, RobotState

_More = Callable[[RobotState, EpisodeReport], dict[str, Any]]


class TaskLoop:
    """Runs episodes of one task; implements `playing.Runner`.

    Args:
        task: Name of the task.
        config: Settings.
        make_world: Makes the world that the task is played in.
        robot: Name in `config/robots`, or path of a YAML file; tasks over the table need a gripper.
        object_kind: Object on the table, by a name that the world knows.
        repeatable: Whether a seed has to give the same episode on every machine.

    Raises:
        ConfigError: There is no such task, it has no such object, or the robot's profile cannot be used.

    Attributes:
        robot: Profile of the robot.
        task: The task for this robot.
    """

    has_goal, tells_success, needs_rewards, steps_per_round = True, True, False, 0

    def __init__(self, task: str, config: TaskLoopConfig, make_world: WorldMaker, robot: str = 'panda',
                 object_kind: str = 'cube', *, repeatable: bool = True) -> None:
        self.config, self.robot, self._repeatable = config, load_robot(robot), repeatable
        self.task = make_task(task, self.robot, config.rewards, actions=config.actions)
        self.space, self.period_s, self.demonstrations = self.task.space, 1.0 / config.control_rate_hz, config.demonstrations
        self.wanted, self.weights = self.task, vars(self.task.weights)
        self.name = self.file_name = self.task.name
        self.max_episode_steps = config.max_episode_steps
        self.identity = {'task': self.name, 'robot': robot}
        self.contract = Contract.of(config.agent, self.space, robot=self.robot.name, task=self.name, period_s=self.period_s)
        if config.demonstrations:
            Demonstrator(task)  # Raises at once where the task has no expert.
        is_tabletop = isinstance(self.space, ToolSpace)
        if object_kind != 'cube' and not is_tabletop:
            raise ConfigError(f'{task} has no object on the table, which is to be a {object_kind}')
        self._world = make_world(self.robot, is_tabletop=is_tabletop, object_kind=object_kind, control_hz=config.control_rate_hz)

    @functools.cached_property
    def agent(self) -> Agent:
        """The agent, without a bundle yet."""
        change = self.space.largest_change(self.config.control.safety.acceleration_scale, self.period_s)
        return self.config.kind.make_agent(self.contract, self.space, self.config.agent_config.acting(), max_action_change=change,
                                           is_repeatable=self._repeatable)

    def prepare(self) -> None:
        """See `playing.Runner.prepare`; raises ConfigError as described there."""
        obs = self.space.observe(state_at_home(self.robot, self.space))
        self.agent.prepare(obs, self.task.objective(self.robot.workspace.lower_m))

    def play(self, agent: Agent | None, *, seed: int, episode: int, stream: int = LEARNING,
             on_step: Callable[[], None] = lambda: None, relearn: Relearn | None = None) -> Episode:
        """Run one episode from home; see `playing.Runner.play`. The seed decides cube, goal, plans and exploration."""
        phase = Phase.EXPLORING if agent is None else Phase.RUNNING
        return self._run(phase, lambda _state, _report: {'agent': agent}, seed=seed, episode=episode, stream=stream,
                         on_step=on_step)

    def demonstrate(self, *, seed: int, episode: int, on_step: Callable[[], None] = lambda: None) -> Episode:
        """Run one episode of the scripted expert, which the controller follows.

        Raises:
            ConfigError: The task has no expert.
        """
        scripted = ScriptedEpisodes(self.task, Demonstrator(self.name, noise_std=self.config.demonstration_noise, seed=seed))

        def show(state: RobotState, report: EpisodeReport) -> dict[str, Any]:
            scripted.on_state(state)
            return {'demonstrated': scripted.on_report(report)}

        return self._run(Phase.DEMONSTRATED, show, seed=seed, episode=episode, stream=LEARNING, on_step=on_step)

    def load_demonstrations(self, sources: Sequence[str], *, seed: int,
                            on_damage: Callable[[str], None] = lambda _: None) -> list[DemonstratedEpisode]:
        """See `playing.Runner.load_demonstrations`; bags need no seed."""
        return load_demonstrations(sources, self.robot, self.name, self.space, self.period_s, on_damage=on_damage)

    def picture(self, width: int, height: int) -> np.ndarray:
        """Picture of the scene as it is now, shape (height, width, 3), uint8."""
        return self._world.render(width, height)

    def draw(self, scores: Sequence[EpisodeScore], path: Path, *, seed: int) -> None:
        """Draw distance, success and model error over control steps and write a PNG."""
        save_learning_curve(scores, path, tolerance_m=self.task.goal_tolerance_m,
                            title=f'{self.robot.name}: {self.name}, seed {seed}')

    def close(self) -> None:
        """Disconnect from the physics server."""
        self._world.close()

    def _run(self, phase: Phase, more: _More, *, seed: int, episode: int, stream: int,
             on_step: Callable[[], None]) -> Episode:
        controller = Controller(self.robot, self.task, self.config.control, period_s=self.period_s, seed=2 * seed + stream)
        arm = GuardedArm(self._world, self.robot, self.config.guard, period_s=self._world.period_s,
                         control_period_s=self.period_s)
        sequence = np.random.SeedSequence([seed, stream, episode])
        state = self._world.reset(int(sequence.generate_state(1)[0]))
        goal = self.task.sample_goal(np.random.default_rng(sequence.spawn(1)[0]), state)
        self._world.show_goal(goal)
        progress = TaskProgress(self.task, self.period_s, self.config.max_episode_steps)
        progress.begin(goal, self.space.observe(state))
        return play_out(_TaskPlay(self.task, arm, controller, progress, state, phase, episode, more), on_step)


class _TaskPlay:
    """An episode of controller ticks in lockstep; implements `playing.Play`.

    `more` makes further fields of `TickInputs` from a state and the report on it: the agent, or the demonstrated action.
    """

    def __init__(self, task: Task, arm: GuardedArm, controller: Controller, progress: TaskProgress, state: RobotState,
                 phase: Phase, episode: int, more: _More) -> None:
        self._task, self._arm, self._controller, self._progress, self._more = task, arm, controller, progress, more
        self._state, self._phase, self._episode = state, phase, episode
        self.phase, self.obs, self.terminated = phase.value, task.space.observe(state), False

    goal = property(lambda self: self._progress.goal)
    is_over = property(lambda self: self._progress.is_over)
    success = property(lambda self: self._progress.success)
    distance_m = property(lambda self: self._progress.distance_m)
    episode_return = property(lambda self: self._progress.episode_return)

    def step(self) -> Step:
        """See `playing.Play.step`."""
        state, space = self._state, self._task.space
        report = EpisodeReport(
            stamp_ns=state.stamp_ns, phase=self._phase, start_ns=0, episode=self._episode, step=self._progress.step,
            total_steps=self._progress.step, reward=0.0, episode_return=0.0, distance_m=0.0, success=False,
            goal_m=tuple(map(float, self.goal)), goal_stamp_ns=0, model_version=0)
        outcome = self._controller.tick(TickInputs(now_ns=state.stamp_ns, effect_ns=state.stamp_ns, state=state, report=report,
                                                   anytime=False, lockstep=True, **self._more(state, report)))
        velocity = np.zeros(self._controller.num_joints) if outcome.velocity is None else outcome.velocity
        self._state = self._arm.step(state, velocity, outcome.opening_m)
        action = space.action(ArmCommand(self._arm.velocity, outcome.opening_m), state)
        self.obs = space.observe(self._state)
        self._progress.advance(self.obs)
        reward = float(self._task.reward(torch.from_numpy(self.obs), torch.from_numpy(action), self.goal))
        failure = outcome.detail if outcome.hold is HoldReason.PLANNING_FAILED else None
        return Step(action, reward, outcome.decision.elapsed_s if outcome.decision else None, failure)
