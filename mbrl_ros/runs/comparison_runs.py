"""The runs of a comparison: everything is checked first, then the runs that are missing are trained and evaluated."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mbrl_ros.environments.adapter import file_name
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.baselines.sac import METHODS, SacConfig, SacSetup, ensure_run, is_trained, require_stable_baselines
from mbrl_ros.runs.comparison import Run, read_run
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.final_evaluation import FinalEvaluation, final_evaluation
from mbrl_ros.runs.learning_run import LearningRun, require_same_run
from mbrl_ros.runs.playing import Runner
from mbrl_ros.runs.run_folder import CONFIG, kept_identity
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.runs.world import WorldMaker
from mbrl_ros.task_settings import TaskLoopConfig

#: Actions of the Gymnasium environments over the table.
_ACTIONS = 'twist'
#: Settings in which all runs of a task agree.
_SHARED = ('control_rate_hz', 'max_episode_steps', 'actions')


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What to compare.

    Attributes:
        agents: Agents that are trained, by name or as `module:KIND`.
        tasks: Tasks.
        seeds: Seeds of runs that are trained.
        steps: Real control steps of each run of an agent.
        out: Folder of all runs that are trained, and of their evaluations.
        make_world: Makes the world of a task.
        environments: Ids of the Gymnasium environments of tasks, for model-free methods.
        envs: Gymnasium environments, beside the tasks; they have to tell their success.
        runs: Folders of finished runs of agents; they are taken instead of training their agent, task and seed.
        robot: Robot profile of tasks.
        config: File of settings, as for `TaskLoopConfig.of_task`; None for those of each task.
        changes: Changes of single settings of all agents and tasks, such as `demonstrations=10`.
        evaluation_episodes: Episodes that the policy at the end is evaluated in; 0 for none.
        methods: Model-free methods of stable-baselines3, of `METHODS`, which learn the tasks too.
        sac_steps: Real control steps of each model-free run.
        sac: Settings of model-free runs; None for those of each task.
        check_every: Control steps from one evaluation of a model-free policy to the next.
        check_episodes: Episodes of such an evaluation.

    Raises:
        ConfigError: A method is not known, or there is no environment of a task for it.
    """

    agents: Sequence[str]
    tasks: Sequence[str]
    seeds: Sequence[int]
    steps: int
    out: Path
    make_world: WorldMaker
    environments: Mapping[str, str]
    envs: Sequence[str] = ()
    runs: Sequence[Path] = ()
    robot: str = 'panda'
    config: Path | None = None
    changes: Sequence[str] = ()
    evaluation_episodes: int = 100
    methods: Sequence[str] = ()
    sac_steps: int = 20_000
    sac: SacConfig | None = None
    check_every: int = 2000
    check_episodes: int = 20

    def __post_init__(self) -> None:
        if unknown := [method for method in self.methods if method not in METHODS]:
            raise ConfigError(f'there is no method {unknown[0]!r}; known: {", ".join(METHODS)}')

    def loop(self, task: str, agent: str | None) -> Runner:
        """The runner in which an agent learns a task or an environment; the caller closes it.

        Raises:
            ConfigError: As for `TaskLoop` and `EnvLoop`.
        """
        if task in self.envs:
            return EnvLoop.of_env(task, self.config, self.changes, agent)
        return TaskLoop(task, self._task_config(task, agent), self.make_world, self.robot)

    @property
    def setups(self) -> list[SacSetup]:
        """The model-free runs; raises ConfigError for a task that their environments do not have."""
        wanted = dict.fromkeys(itertools.product(self.tasks, self.methods, self.seeds))
        return [self._setup(method, task, seed) for task, method, seed in wanted]

    def folder(self, task: str) -> Path:
        """Folder of the runs of a task or an environment."""
        return self.out / file_name(task)

    def _task_config(self, task: str, agent: str | None) -> TaskLoopConfig:
        return TaskLoopConfig.of_task(task, self.config, self.changes, agent)

    def _setup(self, method: str, task: str, seed: int) -> SacSetup:
        config = self._task_config(task, self.agents[0] if self.agents else None)
        if task not in self.environments:
            raise ConfigError(f'there is no environment of a task {task!r} for the method {method!r}; known: '
                              f'{", ".join(sorted(self.environments))}')
        if config.actions != _ACTIONS:
            raise ConfigError(f'a method over the table needs actions {_ACTIONS!r}, those of the environments, '
                              f'got {config.actions!r}')
        return SacSetup(method, task, self.environments[task], seed, self.sac_steps, config, self.sac or SacConfig.of_task(task),
                        self.robot, self.check_every, self.check_episodes)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A run of an agent: in its folder, or given in another one."""

    task: str
    agent: str
    seed: int
    folder: Path
    is_given: bool = False

    @property
    def file_name(self) -> str:
        return f'{self.agent.replace(":", ".")}-{self.seed}'

    def __str__(self) -> str:
        return f'{self.agent} on {self.task}, seed {self.seed}'


def compared_runs(comparison: Comparison, say: Callable[[str], None]) -> list[Run]:
    """All runs of a comparison, with evaluations; what is missing is trained. `say` is called with each line of progress.

    Raises:
        ConfigError: Before any work: an agent cannot learn a task, a folder holds another run, or a package is not installed.
    """
    trials = _trials(comparison)
    _check(comparison, trials)
    setups = comparison.setups
    if not all([is_trained(setup, comparison.folder(setup.task)) for setup in setups]):
        require_stable_baselines()
    return [*(_finished(comparison, trial, say) for trial in trials),
            *(_model_free(setup, comparison.folder(setup.task), say) for setup in setups)]


def _trials(comparison: Comparison) -> list[_Trial]:
    """Runs of agents, task by task; raises ConfigError for a given folder that does not belong to the comparison."""
    tasks = (*comparison.tasks, *comparison.envs)
    trials: dict[tuple[str, str, int], _Trial] = {}
    for folder in comparison.runs:
        run = read_run(folder)
        if run.task not in tasks:
            raise ConfigError(f'{folder}: holds a run of {run.task!r}, needed is {" or ".join(map(repr, tasks))}')
        key = run.task, run.method, run.seed
        if key in trials:
            raise ConfigError(f'{folder}: holds the same agent, task and seed as {trials[key].folder}')
        trials[key] = _Trial(*key, folder, is_given=True)
    for key in itertools.product(tasks, comparison.agents, comparison.seeds):
        trial = _Trial(*key, comparison.folder(key[0]))
        trials.setdefault(key, dataclasses.replace(trial, folder=trial.folder / trial.file_name))
    return sorted(trials.values(), key=lambda trial: tasks.index(trial.task))


def _check(comparison: Comparison, trials: Sequence[_Trial]) -> None:
    """Raise ConfigError unless each agent can learn its task, and each folder is new or holds the run that is wanted."""
    for task, agent in dict.fromkeys((trial.task, trial.agent) for trial in trials):
        with contextlib.closing(comparison.loop(task, agent)) as loop:
            _require_learnable(loop)
            for trial in (trial for trial in trials if (trial.task, trial.agent) == (task, agent)):
                if trial.is_given:
                    _require_same_episodes(trial.folder, loop)
                elif (trial.folder / CONFIG).exists():
                    require_same_run(trial.folder, loop, trial.seed)


def _require_learnable(loop: Runner) -> None:
    """Raise ConfigError if agent or learner cannot be made, or no success is told."""
    loop.prepare()
    loop.config.kind.make_learner(loop.contract, loop.space, loop.config.agent_config.learner, loop.wanted)
    if not loop.tells_success:
        raise ConfigError(f'{loop.name} does not tell whether an episode succeeded, which is what is compared')


def _require_same_episodes(folder: Path, loop: Runner) -> None:
    """Raise ConfigError unless a run has the robot, control rate, episode length and actions of the comparison."""
    kept = kept_identity(folder)
    there = {**type(loop.config)().to_mapping(), **kept['settings'], 'robot': kept.get('robot')}
    here = {**loop.config.to_mapping(), 'robot': loop.identity.get('robot')}
    for name in ('robot', *_SHARED):
        if there.get(name) != here.get(name):
            raise ConfigError(f'{folder}: was learned with {name} {there[name]}, needed is {here[name]}; give what it was '
                              'learned with, settings by --config')


def _finished(comparison: Comparison, trial: _Trial, say: Callable[[str], None]) -> Run:
    """The run of a trial, trained to its steps and evaluated."""
    if not trial.is_given:
        for line in _learned(comparison, trial):
            say(f'{trial}: {line}')
    run, kept = read_run(trial.folder), comparison.folder(trial.task) / f'{trial.file_name}.json'
    evaluation = final_evaluation(trial.folder, kept, comparison.evaluation_episodes, comparison.make_world)
    run = dataclasses.replace(run, evaluation=evaluation)
    say(f'{trial}: {100 * run.final_rate:.0f} % after {run.steps:,} steps, {run.wall_s / 60:.1f} minutes')
    return run


def _learned(comparison: Comparison, trial: _Trial) -> Iterator[str]:
    """Learn a run, or what is missing of it, and give each line there is to tell."""
    is_begun = (trial.folder / CONFIG).exists()
    if is_begun and (trial.folder / 'scores.csv').exists() and read_run(trial.folder).steps >= comparison.steps:
        return
    yield 'learning …'
    with contextlib.closing(comparison.loop(trial.task, trial.agent)) as loop:
        run = LearningRun(loop, seed=trial.seed, folder=trial.folder, resume=is_begun)
        yield from run.foreseen(comparison.steps)
        for done in run.episodes(comparison.steps):
            yield from done.notes


def _model_free(setup: SacSetup, out: Path, say: Callable[[str], None]) -> Run:
    """The run of a model-free method, trained if need be; its last evaluation is the one at the end."""
    label = f'{setup.name} on {setup.task}, seed {setup.seed}'
    say(f'{label} …')
    run = read_run(ensure_run(setup, out, lambda check: say(
        f'{label}: {check.successes} of {check.episodes} after {check.steps:,} steps, {check.wall_s / 60:.1f} minutes')))
    last = run.checks[-1]
    return dataclasses.replace(run, evaluation=FinalEvaluation(last.successes / last.episodes, last.episodes))
