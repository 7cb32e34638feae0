"""Model-free learning of the same tasks by Soft Actor-Critic, with and without hindsight, for comparison.

Soft Actor-Critic: Haarnoja et al. 2018. Hindsight experience replay: Andrychowicz et al. 2017. Both are stable-baselines3's.
"""

import dataclasses
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.config import Config, load_yaml, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.comparison import Check
from mbrl_ros.runs.run_folder import begin
from mbrl_ros.task_settings import TaskLoopConfig

#: Methods, and their names in tables and pictures, where `sac` is an agent of this project.
METHODS = {'sac': 'SB3 SAC', 'sac-her': 'SB3 SAC + HER'}


@dataclasses.dataclass(frozen=True)
class SacConfig(Config):
    """Settings of Soft Actor-Critic.

    The defaults are those that rl-baselines3-zoo tuned for reaching with an arm (`FetchReach-v1` of its `sac.yml`).
    """

    learning_rate: float = setting(1e-3, 'Step size of Adam, for all networks.', low=1e-6, high=1.0)
    batch_size: int = setting(256, 'Transitions a gradient step.', low=1)
    discount: float = setting(0.95, 'Discount of rewards for each control step.', low=0.0, high=0.9999)
    target_rate: float = setting(0.005, 'Share of the critics in each update of the target critics.', low=1e-4, high=1.0)
    hidden_layers: int = setting(2, 'Hidden layers of each network.', low=1, high=8)
    hidden_size: int = setting(64, 'Units of each.', low=1, high=4096)
    learning_starts: int = setting(1000, 'Control steps of random actions, before the first gradient step.', low=1)
    gradient_steps: int = setting(1, 'Gradient steps after each control step.', low=1)
    hindsight_goals: int = setting(4, 'Goals achieved later in the episode that a transition is also learned with.', low=1)
    normalize: bool = setting(True, 'Whether observations and rewards are normalised by running statistics.')

    @classmethod
    def of_task(cls, task: str) -> 'SacConfig':
        """Settings for a task; tasks over the table, which have contact, get the network sizes of the paper."""
        return cls() if task == 'reach' else cls(hidden_size=256)


@dataclasses.dataclass(frozen=True)
class SacSetup:
    """One run.

    Attributes:
        method: One of `METHODS`.
        task: Name of the task.
        env_id: Registered Gymnasium environment of the task.
        seed: Seed of everything random.
        steps: Real control steps.
        loop: Rate and length of episodes, and the command filter.
        sac: Settings.
        robot: Robot profile.
        check_every: Control steps from one evaluation of the policy to the next.
        check_episodes: Episodes of an evaluation, the first of those that `mbrl-ros evaluate` plays.
        check_seed: Seed of the evaluations.

    Raises:
        ConfigError: With hindsight, `learning_starts` is shorter than an episode.
    """

    method: str
    task: str
    env_id: str
    seed: int
    steps: int
    loop: TaskLoopConfig
    sac: SacConfig = SacConfig()
    robot: str = 'panda'
    check_every: int = 2000
    check_episodes: int = 20
    check_seed: int = 0

    def __post_init__(self) -> None:
        least = self.loop.max_episode_steps
        if self.in_hindsight and self.sac.learning_starts < least:
            raise ConfigError(f'SacConfig.learning_starts needs {least} or more, the steps of an episode, to learn in hindsight, '
                              f'got {self.sac.learning_starts}')

    @property
    def name(self) -> str:
        """Name of the method in tables and pictures."""
        return METHODS[self.method]

    @property
    def in_hindsight(self) -> bool:
        """Whether the method learns in hindsight, from sparse rewards."""
        return self.method == 'sac-her'

    @property
    def identity(self) -> dict[str, Any]:
        """Identity of a run, written into its folder; a finished run is used again only if its identity is equal."""
        loop = self.loop
        return {'task': self.task, 'robot': self.robot, 'seed': self.seed, 'method': self.name, 'steps': self.steps,
                'check_every': self.check_every, 'check_episodes': self.check_episodes, 'check_seed': self.check_seed,
                'settings': {'control_rate_hz': loop.control_rate_hz, 'max_episode_steps': loop.max_episode_steps,
                             'safety': loop.control.safety.to_mapping(), 'sac': self.sac.to_mapping()}}

    @property
    def folder_name(self) -> str:
        """Name of the run's folder."""
        return f'sb3-{self.method}-{self.seed}'


def is_trained(setup: SacSetup, out: Path) -> bool:
    """Whether `out` has the finished run.

    Raises:
        ConfigError: The run's folder holds another run.
    """
    folder = out / setup.folder_name
    if not folder.exists():
        return False
    kept, wanted = load_yaml(folder / 'config.yaml'), yaml.safe_load(yaml.safe_dump(setup.identity))
    if different := [key for key in wanted if kept.get(key) != wanted[key]]:
        raise ConfigError(f'{folder}: holds a run with another {", ".join(different)}; name another folder by --out')
    return True


def ensure_run(setup: SacSetup, out: Path, on_check: Callable[[Check], None] = lambda _: None) -> Path:
    """Train a run unless the folder `out` has it, and return its own folder; `on_check` gets each evaluation of the policy.

    While a run is trained, the name of its folder begins with a dot, and its figures so far can be read there. An interrupted
    run begins anew.

    Raises:
        ConfigError: The folder holds another run or cannot be written, or stable-baselines3 is not installed.
    """
    folder, unfinished = out / setup.folder_name, out / f'.{setup.folder_name}'
    if is_trained(setup, out):
        return folder
    require_stable_baselines()
    from mbrl_ros.runs.baselines.sac_training import train

    shutil.rmtree(unfinished, ignore_errors=True)
    begin(unfinished, setup.identity)
    train(setup, unfinished, on_check)
    return unfinished.rename(folder)


def require_stable_baselines() -> None:
    """Raise `ConfigError`, which says how to install it, if stable-baselines3 is not installed."""
    if importlib.util.find_spec('stable_baselines3') is None:
        raise ConfigError('stable-baselines3, which learns model-free, is not installed; `make compare ARGS=...` installs it '
                          "into an environment of its own, `pip install '.[compare]'` into this one")
