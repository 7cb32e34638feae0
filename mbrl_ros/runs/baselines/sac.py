"""Model-free learning of the same tasks, by Soft Actor-Critic, with and without hindsight; what a comparison sets ours beside.

Soft Actor-Critic: Haarnoja et al. 2018. Hindsight experience replay: Andrychowicz et al. 2017. Both are stable-baselines3's.
"""

import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mbrl_ros.config import Config, load_yaml, setting
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.comparison import Check
from mbrl_ros.task_settings import TaskLoopConfig

#: Methods by name, and whether they learn in hindsight, from sparse rewards.
METHODS = {'SAC': False, 'SAC + HER': True}
_PAPER_HIDDEN_SIZE = 256


@dataclasses.dataclass(frozen=True)
class SacConfig(Config):
    """Settings of Soft Actor-Critic.

    By default those that rl-baselines3-zoo has tuned for reaching with an arm (`FetchReach-v1` of its `sac.yml`).
    """

    learning_rate: float = setting(1e-3, 'Step size of Adam, for all networks.', low=1e-6, high=1.0)
    batch_size: int = setting(256, 'Transitions a gradient step.', low=1)
    discount: float = setting(0.95, 'Discount of rewards for each control step.', low=0.0, high=0.9999)
    target_rate: float = setting(0.005, "Share of the critics in a step of the target critics'.", low=1e-4, high=1.0)
    hidden_layers: int = setting(2, 'Hidden layers of each network.', low=1, high=8)
    hidden_size: int = setting(64, 'Units of each.', low=1, high=4096)
    learning_starts: int = setting(1000, 'Control steps of random actions, before the first gradient step.', low=1)
    gradient_steps: int = setting(1, 'Gradient steps after each control step.', low=1)
    hindsight_goals: int = setting(4, 'Goals achieved later that are learned from, for each goal that was wanted.', low=1)
    normalize: bool = setting(True, 'Whether observations and rewards are normalised by running statistics.')

    @classmethod
    def of_task(cls, task: str) -> 'SacConfig':
        """Settings for a task: over a table, where there is contact, the network sizes of the paper."""
        return cls() if task == 'reach' else cls(hidden_size=_PAPER_HIDDEN_SIZE)


@dataclasses.dataclass(frozen=True)
class SacSetup:
    """One run.

    Attributes:
        method: One of `METHODS`.
        task: Name of the task.
        env_id: Of its Gymnasium environment, which is registered.
        seed: Of everything that is drawn.
        steps: Real control steps.
        loop: Rate and length of episodes, and the command filter.
        sac: Settings.
        robot: Robot profile.
        check_every: Control steps from one look at the policy to the next.
        check_episodes: Episodes of a look, the first of those that `mbrl-ros evaluate` plays.
        check_seed: Their seed.
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
        if METHODS[self.method] and self.sac.learning_starts < least:
            raise ConfigError(f'SacConfig.learning_starts needs {least} or more, the steps of an episode, to learn in hindsight, '
                              f'got {self.sac.learning_starts}')

    @property
    def identity(self) -> dict[str, Any]:
        """What is written beside a run, and has to be the same for it to be taken instead of another."""
        loop = self.loop
        return {'task': self.task, 'robot': self.robot, 'seed': self.seed, 'method': self.method, 'steps': self.steps,
                'check_every': self.check_every, 'check_episodes': self.check_episodes, 'check_seed': self.check_seed,
                'settings': {'control_rate_hz': loop.control_rate_hz, 'max_episode_steps': loop.max_episode_steps,
                             'safety': loop.control.safety.to_mapping(), 'sac': self.sac.to_mapping()}}

    @property
    def folder_name(self) -> str:
        """Name of its folder."""
        return f'{self.method.replace(" + ", "-").lower()}-{self.seed}'


def is_trained(setup: SacSetup, out: Path) -> bool:
    """Whether a run is there already, finished.

    Args:
        setup: The run.
        out: Folder of the run's folder.

    Raises:
        ConfigError: Its folder holds another run.
    """
    folder = out / setup.folder_name
    if not folder.exists():
        return False
    kept, wanted = load_yaml(folder / 'config.yaml'), yaml.safe_load(yaml.safe_dump(setup.identity))
    if different := [key for key in wanted if kept.get(key) != wanted[key]]:
        raise ConfigError(f'{folder}: holds a run with another {", ".join(different)}; name another folder by --out')
    return True


def ensure_run(setup: SacSetup, out: Path, on_check: Callable[[Check], None] = lambda _: None) -> Path:
    """Folder of a finished run, which is trained unless it is there.

    A run that is interrupted begins anew; until it is finished its folder's name begins with a dot, and what it has come to
    so far can be read there.

    Args:
        setup: What to train.
        out: Folder of the run's folder.
        on_check: Told each look at the policy.

    Raises:
        ConfigError: The folder holds another run or cannot be written, or stable-baselines3 is not installed.
    """
    folder, unfinished = out / setup.folder_name, out / f'.{setup.folder_name}'
    if is_trained(setup, out):
        return folder
    require_stable_baselines()
    from mbrl_ros.runs.baselines.sac_training import train

    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        (unfinished / 'config.yaml').write_text(yaml.safe_dump(setup.identity, sort_keys=False), encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'{unfinished}: cannot be written ({os.strerror(error.errno)})') from None
    train(setup, unfinished, on_check)
    return unfinished.rename(folder)


def require_stable_baselines() -> None:
    """Raise `ConfigError` where stable-baselines3 is not installed, with how to install it."""
    if importlib.util.find_spec('stable_baselines3') is None:
        raise ConfigError('stable-baselines3, which learns model-free, is not installed; `make compare ARGS=...` installs it '
                          "into an environment of its own, `pip install '.[compare]'` into this one")
