"""The runs of a comparison: everything is checked first, then the runs that are missing are trained."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mbrl_ros.config import load_yaml
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.baselines.sac import METHODS, SacConfig, SacSetup, ensure_run, is_trained, require_stable_baselines
from mbrl_ros.runs.comparison import OURS, read_run
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.runs.world import WorldMaker
from mbrl_ros.task_settings import TaskLoopConfig

#: Actions of the Gymnasium environments over the table.
_ACTIONS = 'twist'
_NAMES = {name.replace(' + ', '-').lower(): name for name in METHODS}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What to compare.

    Attributes:
        task: Name of the task.
        loop: Settings of the task.
        robot: Robot profile.
        seeds: Seeds of runs that are trained.
        ours: Folders of finished runs of this project; if there are none, they are learned.
        steps: Real control steps of runs of this project that are learned.
        methods: Model-free methods, `sac` or `sac-her`.
        sac_steps: Real control steps of each model-free run.
        sac: Settings of model-free runs.
        check_every: Control steps from one evaluation of a model-free policy to the next.
        check_episodes: Episodes of such an evaluation.
        out: Folder of all runs that are trained.
        make_world: Makes the world for runs of this project.
        environments: Ids of the Gymnasium environments for model-free runs, by task.

    Raises:
        ConfigError: The task has no environment, a method is not known, or the actions are not those of the environments.
    """

    task: str
    loop: TaskLoopConfig
    robot: str
    seeds: Sequence[int]
    ours: Sequence[Path]
    steps: int
    methods: Sequence[str]
    sac_steps: int
    sac: SacConfig
    check_every: int
    check_episodes: int
    out: Path
    make_world: WorldMaker
    environments: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.task not in self.environments:
            known = ', '.join(sorted(self.environments))
            raise ConfigError(f'there is no environment of a task {self.task!r}; known: {known}')
        if unknown := [method for method in self.methods if method not in _NAMES]:
            raise ConfigError(f'there is no method {unknown[0]!r}; known: {", ".join(_NAMES)}')
        if self.loop.actions != _ACTIONS:
            raise ConfigError(f'a comparison over the table needs actions {_ACTIONS!r}, those of the environments, '
                              f'got {self.loop.actions!r}')

    @property
    def setups(self) -> list[SacSetup]:
        """The model-free runs."""
        return [SacSetup(_NAMES[method], self.task, self.environments[self.task], seed, self.sac_steps, self.loop, self.sac,
                         self.robot, self.check_every, self.check_episodes) for method in self.methods for seed in self.seeds]


def train_missing(comparison: Comparison, say: Callable[[str], None]) -> list[Path]:
    """Train the runs that are missing; `say` is called with each line of progress.

    Returns:
        Folders of all runs, those of this project first.

    Raises:
        ConfigError: A folder holds another run, or a package is not installed.
    """
    for folder in comparison.ours:
        read_run(folder, comparison.task, comparison.robot)
        _require_same_episodes(folder, comparison.loop)
    setups = comparison.setups
    if not all([is_trained(setup, comparison.out) for setup in setups]):
        require_stable_baselines()
    folders = [*comparison.ours] or [_learned(comparison, seed, say) for seed in comparison.seeds]
    for setup in setups:
        label = f'{setup.method}, seed {setup.seed}'
        say(f'{label} …')
        folders.append(ensure_run(setup, comparison.out, lambda check, label=label: say(
            f'{label}: {check.successes} of {check.episodes} after {check.steps:,} steps, {check.wall_s / 60:.1f} minutes')))
    return folders


def _require_same_episodes(folder: Path, loop: TaskLoopConfig) -> None:
    """Raise ConfigError unless a run has the control rate, episode length and actions of the comparison."""
    kept = load_yaml(folder / 'config.yaml').get('settings') or {}
    for name in ('control_rate_hz', 'max_episode_steps', 'actions'):
        given = kept.get(name, getattr(TaskLoopConfig(), name))
        if given != (wanted := getattr(loop, name)):
            raise ConfigError(f'{folder}: was learned with {name} {given}, needed is {wanted}; give the settings that '
                              'it was learned with by --config')


def _learned(comparison: Comparison, seed: int, say: Callable[[str], None]) -> Path:
    """Learn a run of this project, or what is missing of it, and return its folder."""
    folder = comparison.out / f'{OURS}-{seed}'
    say(f'{OURS}, seed {seed} …')
    with contextlib.closing(TaskLoop(comparison.task, comparison.loop, comparison.make_world, comparison.robot)) as loop:
        run = LearningRun(loop, seed=seed, folder=folder, resume=(folder / 'config.yaml').exists())
        for line in run.foreseen(comparison.steps):
            say(f'{OURS}, seed {seed}: {line}')
        for done in run.episodes(comparison.steps):
            for line in done.notes:
                say(f'{OURS}, seed {seed}: {line}')
    return folder
