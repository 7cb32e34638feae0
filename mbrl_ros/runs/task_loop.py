"""Episodes of a task in one process, without ROS: the stack's controller and learner around the simulated table.

States are exact and commands take effect at once, so that there is neither an estimator nor a latency to compensate for.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.experts.demonstrator import Demonstrator
from mbrl_ros.agents.experts.scripted import ScriptedEpisodes
from mbrl_ros.agents.snapshot import ModelSnapshot
from mbrl_ros.control.controller import MpcController
from mbrl_ros.control.tick import TickInputs
from mbrl_ros.errors import ConfigError
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.precision import PrecisionChooser
from mbrl_ros.models.framed import out_of_frame
from mbrl_ros.planning import make_planner
from mbrl_ros.robots import load_robot
from mbrl_ros.runs.curve import save_learning_curve
from mbrl_ros.runs.playing import LEARNING, Episode
from mbrl_ros.runs.scores import EpisodeScore
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_ros.tasks import SuccessCounter, make_task
from mbrl_ros.types import ArmCommand, DynamicsModel, EpisodeReport, Phase, RobotState
from mbrl_sim.scene import WorldConfig, tabletop_config
from mbrl_sim.tabletop import TabletopWorld


class TaskLoop:
    """Runs episodes of one task; implements `playing.Loop`.

    Args:
        task: Name of the task.
        config: Settings.
        robot: Name in `config/robots`, or the path of a YAML file; tasks over the table need a gripper.
        object_kind: What lies on the table, as `WorldConfig.object_kind`.
        repeatable: Whether a precision of `auto` means float32; otherwise it is what is measured to be fastest, which may
            differ from run to run.

    Raises:
        ConfigError: There is no such task, it has no such object, or the robot's profile cannot be used.

    Attributes:
        robot: Its profile.
        task: The task for it.
        frame: What its dynamics are learned in; None for as they are.
        period_s: Control period.
        planner: Plans its steps.
    """

    has_goal = True

    def __init__(self, task: str, config: TaskLoopConfig, robot: str = 'panda', object_kind: str = 'cube', *,
                 repeatable: bool = True) -> None:
        self.config, self.robot, self._robot_given = config, load_robot(robot), robot
        self.task = make_task(task, self.robot, config.rewards, actions=config.actions)
        self.frame, self.period_s = self.task.space.frame, 1.0 / config.control_rate_hz
        if config.demonstrations:
            Demonstrator(task)  # There may be none of this task; better to know at once.
        is_tabletop = isinstance(self.task.space, ToolSpace)
        if object_kind != 'cube' and not is_tabletop:
            raise ConfigError(f'{task} has no object on the table, which is to be a {object_kind}')
        world = dataclasses.replace(tabletop_config(), object_kind=object_kind) if is_tabletop else WorldConfig(cube=False)
        self._world = TabletopWorld(self.robot, world, control_hz=config.control_rate_hz)
        change = self.task.space.largest_change(config.control.safety.acceleration_scale, self.period_s)
        self.planner = make_planner(config.planner, self.task.action_size, change, self.task.space.is_directed)
        precision = 'float32' if repeatable and config.planner.precision == 'auto' else config.planner.precision
        self._precision = PrecisionChooser(precision, self.planner.device,
                                           config.planner.population_size * config.planner.num_particles,
                                           config.planner.horizon if self.frame is None else 1)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def file_name(self) -> str:
        """The same as a name of a folder."""
        return self.task.name

    @property
    def identity(self) -> dict[str, Any]:
        """Task and robot."""
        return {'task': self.task.name, 'robot': self._robot_given}

    @property
    def demonstrations(self) -> int:
        """First episodes, played by the scripted expert."""
        return self.config.demonstrations

    @property
    def layout(self) -> dict[str, Any]:
        """What a model has to be for; as `ModelSnapshot.check_fits` takes it."""
        return {'robot': self.robot.name, 'task': self.task.name, 'state_names': self.task.state_names,
                'action_names': self.task.action_names, 'period_s': self.period_s}

    def check_memory(self, ensemble: EnsembleConfig) -> None:
        """Raise unless there is memory for plans with a model of this size, which need not be there yet.

        Raises:
            ConfigError: A plan would need more than the planner's settings allow.
        """
        self.planner.check_memory(self.task.obs_size, ensemble.ensemble_size, ensemble.hidden_units)

    def ready(self, model: ModelSnapshot) -> DynamicsModel:
        """A learned model as the planner takes it: on its device, in its precision, out of the frame.

        Raises:
            ModelMismatchError: It is for another task, robot, layout or period.
            ConfigError: As for `check_memory`.
        """
        model.check_fits(**self.layout)
        self.check_memory(model.parameters.shape)
        placed = model.to(self.planner.device, self._precision.choose(model.parameters).precision)
        return out_of_frame(self.frame, placed, self.task.action_size)

    def play(self, model: DynamicsModel | None, *, seed: int, episode: int, stream: int = LEARNING,
             on_step: Callable[[], None] = lambda: None) -> Episode:
        """Run one episode from home; the same arguments give the same motion.

        Args:
            model: What to plan with; without one the arm explores.
            seed: With stream and episode the source of cube, goal, plans and exploration.
            episode: Number of the episode.
            stream: `LEARNING` or `EVALUATION`.
            on_step: Called before each control step, as to take a picture.
        """
        phase = Phase.EXPLORING if model is None else Phase.RUNNING
        return self._run(phase, lambda _state, _report: {'model': model}, seed=seed, episode=episode, stream=stream,
                         on_step=on_step)

    def demonstrate(self, *, seed: int, episode: int) -> Episode:
        """One episode of the scripted expert, whom the controller follows.

        Raises:
            ConfigError: There is no demonstration of the task.
        """
        expert = Demonstrator(self.task.name, noise_std=self.config.demonstration_noise, seed=seed)
        scripted = ScriptedEpisodes(self.task, expert)

        def show(state: RobotState, report: EpisodeReport) -> dict[str, Any]:
            scripted.on_state(state)
            return {'demonstrated': scripted.on_report(report)}

        return self._run(Phase.DEMONSTRATED, show, seed=seed, episode=episode, stream=LEARNING)

    def picture(self, width: int, height: int) -> np.ndarray:
        """The scene as it is, shape (height, width, 3), uint8."""
        return self._world.render(width, height)

    def draw(self, scores: Sequence[EpisodeScore], path: Path, *, seed: int) -> None:
        """Draw distance, success and model error of a run over its steps."""
        save_learning_curve(scores, path, tolerance_m=self.task.goal_tolerance_m,
                            title=f'{self.robot.name}: {self.task.name}, seed {seed}')

    def close(self) -> None:
        """Leave the physics server."""
        self._world.close()

    def _run(self, phase: Phase, more: Callable[[RobotState, EpisodeReport], dict[str, Any]], *, seed: int, episode: int,
             stream: int, on_step: Callable[[], None] = lambda: None) -> Episode:
        """Ticks in lockstep, of an arm that obeys at once; `more` is what else a tick knows, as fields of `TickInputs`."""
        task, space, success = self.task, self.task.space, SuccessCounter(self.task.settle_s, self.period_s)
        controller = MpcController(self.robot, self._world.kinematics, task, self.planner, self.config.control,
                                   period_s=self.period_s, seed=2 * seed + stream)
        sequence = np.random.SeedSequence([seed, stream, episode])
        state = self._world.reset(int(sequence.generate_state(1)[0]))
        goal = task.sample_goal(np.random.default_rng(sequence.spawn(1)[0]), state)
        self._world.show_goal(goal)
        observations, actions, plan_s, total = [space.observe(state)], [], [], 0.0
        while len(actions) < self.config.max_episode_steps and not success.success:
            on_step()
            report = _report(phase, state.stamp_ns, goal, episode, len(actions))
            outcome = controller.tick(TickInputs(state.stamp_ns, state.stamp_ns, state, report, anytime=False, lockstep=True,
                                                 **more(state, report)))
            velocity = np.zeros(len(self.robot.joints)) if outcome.velocity is None else outcome.velocity
            actions.append(space.action(ArmCommand(velocity, outcome.opening_m), state))
            if outcome.plan is not None:
                plan_s.append(outcome.plan.elapsed_s)
            state = self._world.step(velocity, outcome.opening_m)
            observations.append(space.observe(state))
            obs = torch.from_numpy(observations[-1])
            total += float(task.reward(obs, torch.from_numpy(actions[-1]), goal))
            success.update(bool(task.is_within(obs, goal)))
        distance = float(task.distance(torch.from_numpy(observations[-1]), goal))
        return Episode(phase.value, success.success, distance, total, np.array(plan_s), np.array(observations),
                       np.array(actions))


def _report(phase: Phase, stamp_ns: int, goal: np.ndarray, episode: int, step: int) -> EpisodeReport:
    """An episode manager's word on a control step."""
    return EpisodeReport(stamp_ns=stamp_ns, phase=phase, start_ns=0, episode=episode, step=step, total_steps=step, reward=0.0,
                         episode_return=0.0, distance_m=0.0, success=False, goal_m=tuple(map(float, goal)), goal_stamp_ns=0,
                         model_version=0)
