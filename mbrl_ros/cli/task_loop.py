"""Episodes of a task in one process, without ROS: the stack's controller and learner around the simulated table.

States are exact and commands take effect at once, so that there is neither an estimator nor a latency to compensate for.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbrl_ros.cli.playing import LEARNING, Episode
from mbrl_ros.config import Config, load_yaml, section, setting, with_changes
from mbrl_ros.episodes import EpisodeScore
from mbrl_ros.episodes.curve import save_learning_curve
from mbrl_ros.episodes.scripted import ScriptedEpisodes
from mbrl_ros.errors import ConfigError
from mbrl_ros.learning import ContinualConfig, FramedModel, ModelSnapshot
from mbrl_ros.learning.precision import PrecisionChooser
from mbrl_ros.planning import PlannerConfig, make_planner
from mbrl_ros.planning.controller import MpcController
from mbrl_ros.planning.tick import ControllerConfig, TickInputs
from mbrl_ros.resources import config_file
from mbrl_ros.robots import load_robot
from mbrl_ros.tasks import SuccessCounter, ToolSpace, make_task
from mbrl_ros.tasks.demonstrator import Demonstrator
from mbrl_ros.tasks.tool_frame import ToolFrame
from mbrl_ros.types import ArmCommand, DynamicsModel, EpisodeReport, Phase, RobotState
from mbrl_sim.scene import WorldConfig
from mbrl_sim.tabletop import TabletopWorld, tabletop_config


@dataclasses.dataclass(frozen=True)
class TaskLoopConfig(Config):
    """How a task is learned and played in one process; `config/tasks` has one file a task."""

    control_rate_hz: float = setting(20.0, 'Rate of control steps.', unit='Hz', low=1.0, high=240.0)
    max_episode_steps: int = setting(100, 'Control steps after which an episode ends.', low=1)
    demonstrations: int = setting(0, 'First episodes, played by the scripted expert.', low=0)
    demonstration_noise: float = setting(0.1, 'Standard deviation of the noise on its actions.', low=0.0, high=1.0)
    explorations: int = setting(0, 'Episodes of random motion after those.', low=0)
    planner: PlannerConfig = section(PlannerConfig, 'The planner.')
    control: ControllerConfig = section(ControllerConfig, 'When and how the arm moves.')
    learner: ContinualConfig = section(ContinualConfig, 'How to train and which model to keep.')

    @classmethod
    def of_task(cls, task: str, changes: Sequence[str] = ()) -> 'TaskLoopConfig':
        """Read `config/tasks/<task>.yaml`, or the YAML file that `task` is a path to.

        Args:
            task: Name or path.
            changes: Of single settings, such as `planner.horizon=9`.

        Raises:
            ConfigError: No such file, or a key or value that does not fit.
        """
        path = config_file('tasks', task)
        return cls.from_mapping(with_changes(load_yaml(path), changes), str(path))


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
        self.task = make_task(task, self.robot)
        self.period_s = 1.0 / config.control_rate_hz
        if config.demonstrations:
            Demonstrator(task)  # There may be none of this task; better to know at once.
        is_tabletop = isinstance(self.task.space, ToolSpace)
        self.frame = ToolFrame() if is_tabletop else None
        if object_kind != 'cube' and not is_tabletop:
            raise ConfigError(f'{task} has no object on the table, which is to be a {object_kind}')
        world = dataclasses.replace(tabletop_config(), object_kind=object_kind) if is_tabletop else WorldConfig(cube=False)
        self._world = TabletopWorld(self.robot, world, control_hz=config.control_rate_hz)
        change = self.task.space.largest_change(config.control.safety.acceleration_scale, self.period_s)
        self.planner = make_planner(config.planner, self.task.action_size, change)
        precision = 'float32' if repeatable and config.planner.precision == 'auto' else config.planner.precision
        self._precision = PrecisionChooser(precision, self.planner.device,
                                           config.planner.population_size * config.planner.num_particles)

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

    def ready(self, model: ModelSnapshot) -> DynamicsModel:
        """A learned model as the planner takes it: on its device, in its precision, out of the frame.

        Raises:
            ModelMismatchError: It is for another task, robot, layout or period.
        """
        model.check_fits(**self.layout)
        placed = model.to(self.planner.device, self._precision.choose(model.parameters).precision)
        return placed if self.frame is None else FramedModel(self.frame, placed, self.task.action_size)

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
                            title=f'{self.robot.name} learns to {self.task.name}, seed {seed}')

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
