"""From the options of `mbrl-ros evaluate` to an evaluation; options that were left out follow from the model and its run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.settings import RunConfig
from mbrl_ros.config import load_yaml, with_changes
from mbrl_ros.environments.adapter import has_goals
from mbrl_ros.errors import ModelMismatchError
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.runs.env_evaluation import EnvEvaluation
from mbrl_ros.runs.env_loop import ROBOT
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.run_folder import CONFIG, kept_identity
from mbrl_ros.runs.task_evaluation import Evaluation
from mbrl_ros.runs.world import WorldMaker
from mbrl_ros.task_settings import TaskLoopConfig

_ConfigT = TypeVar('_ConfigT', bound=RunConfig)


@dataclasses.dataclass(frozen=True)
class EvaluationRequest:
    """The given options; None means that the model decides.

    A model in the folder of a learning run is played with the settings of that run. Any other model is played with the settings
    that its agent has for its task or environment.

    Attributes:
        model: File of the model.
        task: Task that the model has to be for.
        env: Gymnasium environment that the model has to be for.
        robot: Robot profile of a task.
        config: File of settings, instead of those of the run.
        changes: Changes of single settings, on top of either.
        object_kind: Object on the table.
        reward: Reward of an environment.
        seed: Seed of everything random.
        live: Whether the nodes play the episodes; they use the settings of `config/tasks`.
        pictures: Whether pictures will be drawn.
    """

    model: Path
    task: str | None = None
    env: str | None = None
    robot: str | None = None
    config: Path | None = None
    changes: Sequence[str] = ()
    object_kind: str | None = None
    reward: str | None = None
    seed: int = 0
    live: bool = False
    pictures: bool = False

    def resolve(self, make_world: WorldMaker) -> Evaluation | EnvEvaluation:
        """Make the evaluation; `make_world` makes the world of a task.

        Raises:
            BundleError: The model cannot be read.
            ModelMismatchError: The model is not for what was asked, or lies in the folder of a run of something else.
            ConfigError: There are no such settings, or they are another agent's.
        """
        contract = self._agreed_contract()
        run = self._run(contract)
        if contract.robot == ROBOT:
            read = functools.partial(EnvLoopConfig.of_env, has_goals=has_goals(contract.obs_names))
            config = self._settings(EnvLoopConfig, read, contract, run)
            reward = self.reward or contract.reward or run.get('reward')
            return EnvEvaluation(contract.task, config, self.model, self.seed, reward, self.pictures)
        config = self._settings(TaskLoopConfig, TaskLoopConfig.of_task, contract, run)
        robot = self.robot or run.get('robot') or contract.robot
        return Evaluation(contract.task, config, self.model, make_world, self.seed, robot, self.object_kind or 'cube', self.live)

    def _agreed_contract(self) -> Contract:
        """Contract of the model, after checking that no option contradicts it."""
        card = AgentBundle.load(self.model).card
        contract = card.contract
        if contract.robot == ROBOT:
            kind, asked = 'environment', {'--task': self.task, '--robot': self.robot, '--object': self.object_kind,
                                          '--live': self.live}
        else:
            kind, asked = 'task', {'--env': self.env, '--reward': self.reward}
        if options := ', '.join(name for name, value in asked.items() if value):
            raise ModelMismatchError(f'{self.model}: is of the {kind} {contract.task!r}, for which there is no {options}')
        wanted = dataclasses.replace(
            contract, task=self.task or self.env or contract.task, reward=self.reward or contract.reward,
            robot=load_robot(self.robot).name if self.robot else contract.robot)
        try:
            card.check_fits(wanted)
        except ModelMismatchError as error:
            raise ModelMismatchError(f'{self.model}: {error}') from None
        return contract

    def _run(self, contract: Contract) -> dict[str, Any]:
        """Identity of the learning run in whose folder the model lies; empty if the folder holds no such run."""
        path = self.model.parent / CONFIG
        kept = load_yaml(path) if path.is_file() else {}
        of_task = kept.get('task') or kept.get('env')
        if of_task is None or not isinstance(kept.get('settings'), Mapping):
            return {}
        run = kept_identity(self.model.parent)
        if (of_task, run['settings']['agent']) != (contract.task, contract.agent):
            raise ModelMismatchError(f'{self.model}: is of {contract.task!r} and the agent {contract.agent!r}, but lies in the '
                                     f'folder of a run of {of_task!r} and the agent {run["settings"]["agent"]!r}')
        return run

    def _settings(self, kind: type[_ConfigT], read: Callable[..., _ConfigT], contract: Contract,
                  run: Mapping[str, Any]) -> _ConfigT:
        """Settings of the given file, else of the run, else of the agent for the task or environment."""
        if not run or self.config is not None or self.live:
            return read(contract.task, self.config, self.changes, contract.agent)
        config = kind.from_mapping(run['settings'], str(self.model.parent / CONFIG))
        return kind.from_mapping(with_changes(run['settings'], self.changes), '--set') if self.changes else config
