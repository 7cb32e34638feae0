"""An immutable, versioned model: what the trainer publishes, a file holds and the planner predicts with."""

import contextlib
import dataclasses
import json
import math
import os
import typing
from collections.abc import Sequence
from pathlib import Path

import torch

from mbrl_ros.agents.codec import decode, encode
from mbrl_ros.errors import ModelMismatchError, SnapshotError
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a model is for, and how good it was.

    Attributes:
        version: Counts accepted models, from 1.
        robot: Name of the robot profile.
        task: Name of the task it was learned in.
        state_names: Entries of the state that make up an observation.
        action_names: Commanded joints.
        period_s: Time that one prediction spans.
        num_transitions: Transitions in the round that made it, held-out ones included.
        trained_episode: Newest episode that was wholly in that round; -1 when none was.
        holdout_rmse: One-step error on held-out transitions, in units of the outputs' standard deviation.
        holdout_nll: Negative log-likelihood a dimension there, same units.
        created_ns: When it was made.
        real_steps: Control steps that the arm had made by then, those included that are trained on no longer, and those whose
            models were refused.
        has_velocities: Whether an observation is the entries' positions, then their velocities; otherwise it is the entries.
        reward: Name of the reward that was planned with while it was learned; empty where it is the task's own, or not known.
    """

    version: int
    robot: str
    task: str
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    period_s: float
    num_transitions: int
    trained_episode: int
    holdout_rmse: float
    holdout_nll: float
    created_ns: int
    real_steps: int
    has_velocities: bool = True
    reward: str = ''

    @property
    def obs_size(self) -> int:
        """O, numbers of an observation."""
        return len(self.state_names) * (2 if self.has_velocities else 1)

    def check_fits(self, *, robot: str, task: str, state_names: Sequence[str], action_names: Sequence[str],
                   period_s: float, has_velocities: bool = True, reward: str = '') -> None:
        """Require that the model is for this robot, task, layout, period and reward.

        Raises:
            ModelMismatchError: It is not; the text says in what.
        """
        wanted = {'robot': robot, 'task': task, 'state_names': tuple(state_names), 'action_names': tuple(action_names)}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ModelMismatchError(f'model version {self.version} has {name} {_listed(getattr(self, name))}, '
                                         f'here it is {_listed(value)}')
        if self.has_velocities != has_velocities:
            raise ModelMismatchError(f'model version {self.version} takes {_entries(self.has_velocities)}, '
                                     f'here it is {_entries(has_velocities)}')
        if not math.isclose(self.period_s, period_s, rel_tol=1e-6):
            raise ModelMismatchError(f'model version {self.version} predicts {self.period_s:g} s ahead, '
                                     f'the control period is {period_s:g} s')
        if self.reward and self.reward != reward:
            raise ModelMismatchError(f'model version {self.version} was learned with the reward {self.reward!r}, '
                                     f'here it is {reward!r}')


class ModelSnapshot(Predictor):
    """Dynamics model with a card; never changes once built, so threads may share it.

    Args:
        card: What it is for.
        parameters: What was learned; must not be modified afterwards.
        device: Where it predicts.
        precision: Arithmetic it predicts in; see `Predictor`.

    Raises:
        SnapshotError: The card's names and the parameters' sizes differ.
        ConfigError: The device does not have that precision.
    """

    def __init__(self, card: ModelCard, parameters: DynamicsParameters, device: torch.device | str = 'cpu',
                 precision: str = 'float32') -> None:
        _, obs_size, action_size = parameters.sizes
        # A frame may make more features of an action than it has entries; whether they are the right ones, only the frame knows.
        if card.obs_size != obs_size or len(card.action_names) > action_size:
            raise SnapshotError(f'model names {len(card.state_names)} states and {len(card.action_names)} actions, '
                                f'but its tensors are for {obs_size} observations and {action_size} actions')
        super().__init__(parameters, device, precision)
        self.card = card
        self.parameters = parameters

    @property
    def version(self) -> int:
        """Version on the card."""
        return self.card.version

    def to(self, device: torch.device | str, precision: str = 'float32') -> 'ModelSnapshot':
        """The same model, predicting on another device or in another precision."""
        return ModelSnapshot(self.card, self.parameters, device, precision)

    def check_fits(self, *, robot: str, task: str, state_names: Sequence[str], action_names: Sequence[str],
                   period_s: float, has_velocities: bool = True, reward: str = '') -> None:
        """As `ModelCard.check_fits`."""
        self.card.check_fits(robot=robot, task=task, state_names=state_names, action_names=action_names, period_s=period_s,
                             has_velocities=has_velocities, reward=reward)

    def to_bytes(self) -> bytes:
        """Safetensors message; equal snapshots give equal bytes."""
        metadata = {field.name: json.dumps(getattr(self.card, field.name)) for field in dataclasses.fields(self.card)}
        return encode(self.parameters.tensors(), metadata)

    @classmethod
    def from_bytes(cls, data: bytes) -> 'ModelSnapshot':
        """Inverse of `to_bytes`.

        Raises:
            SnapshotError: Truncated, changed, foreign, of an unknown version, of wrong shapes, or not finite.
        """
        tensors, metadata = decode(data)
        return cls(_card(metadata), DynamicsParameters.from_tensors(tensors))

    def save(self, path: str | Path) -> None:
        """Write to a file that is at every moment either the old model or this one.

        Raises:
            SnapshotError: The file cannot be written; the old one is untouched.
        """
        path = Path(path)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open('wb') as file:
                file.write(self.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise SnapshotError(f'{path}: cannot be written ({error.strerror})') from None

    @classmethod
    def load(cls, path: str | Path) -> 'ModelSnapshot':
        """Read a file that `save` wrote.

        Raises:
            SnapshotError: There is no such file, or as for `from_bytes`; the text begins with the path.
        """
        try:
            return cls.from_bytes(Path(path).read_bytes())
        except OSError as error:
            raise SnapshotError(f'{path}: cannot be read ({error.strerror})') from None
        except SnapshotError as error:
            raise SnapshotError(f'{path}: {error}') from None


def _card(metadata: dict[str, str]) -> ModelCard:
    hints = typing.get_type_hints(ModelCard)
    # Files from before steps were counted, of which all were trained on, before there were observations without velocities, and
    # before rewards were named.
    metadata = {'real_steps': metadata.get('num_transitions', ''), 'has_velocities': 'true', 'reward': '""', **metadata}
    values = {}
    for name, hint in hints.items():
        try:
            value = json.loads(metadata[name])
        except (KeyError, ValueError, RecursionError):
            raise SnapshotError(f'model metadata lack a readable {name!r}') from None
        values[name] = tuple(value) if isinstance(value, list) else value
        kind = typing.get_origin(hint) or hint
        if not isinstance(values[name], kind) or (kind is tuple and not all(isinstance(entry, str) for entry in values[name])):
            raise SnapshotError(f'model metadata have {name!r} = {metadata[name]}, which is no {kind.__name__}')
    return ModelCard(**values)


def _entries(has_velocities: bool) -> str:
    return 'positions and velocities' if has_velocities else 'the entries alone'


def _listed(value: str | tuple[str, ...]) -> str:
    return repr(value) if isinstance(value, str) else ', '.join(value)
