"""The agent bundle, which a learner publishes, a file stores and an agent acts with.

Its card states its contract and validation figures. Its named groups of tensors can only be read by its own kind of agent. Its
bytes are safetensors; see `codec`.
"""

import contextlib
import dataclasses
import json
import math
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mbrl_ros.agents.codec import AGENT, DYNAMICS, decode, encode
from mbrl_ros.errors import BundleError, ModelMismatchError
from mbrl_ros.spaces.space import Space
from mbrl_ros.spaces.view import View, label


@dataclasses.dataclass(frozen=True)
class Contract:
    """What an agent is for; a bundle only fits an agent with the same contract.

    Attributes:
        agent: Name of the agent in the registry.
        robot: Name of the robot profile.
        task: Name of the task, or id of the environment.
        space: Name of the space of observations and actions.
        space_version: Version of the space, see `Space.version`.
        state_names: Entries of the state that make up an observation.
        action_names: Entries of an action.
        period_s: Control period.
        has_velocities: Whether an observation has the entries' positions, then their velocities, or the entries alone.
        reward: Name of the reward that is planned with; empty for the task's own reward or an unknown one.
    """

    agent: str
    robot: str
    task: str
    space: str
    space_version: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    period_s: float
    has_velocities: bool = True
    reward: str = ''

    @classmethod
    def of(cls, agent: str, space: Space, *, robot: str, task: str, period_s: float, reward: str = '') -> 'Contract':
        """Contract of an agent that acts in a space; the other arguments are attributes."""
        return cls(agent, robot, task, space.name, space.version, tuple(space.state_names), tuple(space.action_names), period_s,
                   space.has_velocities, reward)

    @property
    def obs_names(self) -> tuple[str, ...]:
        """Entries of an observation."""
        velocities = tuple(f'velocity of {name}' for name in self.state_names) if self.has_velocities else ()
        return (*self.state_names, *velocities)

    @property
    def obs_size(self) -> int:
        """O, size of an observation."""
        return len(self.state_names) * (2 if self.has_velocities else 1)

    @property
    def action_size(self) -> int:
        """A, size of an action."""
        return len(self.action_names)


@dataclasses.dataclass(frozen=True)
class Card:
    """What a bundle is for, what it was learned from, and how well it validated.

    Attributes:
        version: Counts accepted bundles, from 1.
        contract: What the bundle is for.
        num_transitions: Transitions in the round that made it, held-out ones included.
        trained_episode: Newest episode whose transitions were all in that round; -1 without one.
        figures: Validation figures, by names that the learner chooses.
        created_ns: When the bundle was made.
        real_steps: All real control steps made before it, including steps no longer in the buffer and rounds whose bundle was
            rejected.
        origin: What the agent subtracts from an observation before it becomes float32, O numbers; empty for nothing.
        view: Name and version of the view that its policy sees through; empty without such a policy.
        weights: Weights by term of the task's reward that the bundle's policy or values follow; empty if they have none, or in
            bundles of before.
    """

    version: int
    contract: Contract
    num_transitions: int
    trained_episode: int
    figures: Mapping[str, float]
    created_ns: int
    real_steps: int
    origin: tuple[float, ...] = ()
    view: str = ''
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def check_fits(self, contract: Contract) -> None:
        """Require that the bundle is for this contract.

        Raises:
            ModelMismatchError: The contracts differ; the text names the difference.
        """
        own = self.contract
        for name in ('agent', 'robot', 'task', 'space', 'state_names', 'action_names'):
            if getattr(own, name) != getattr(contract, name):
                raise ModelMismatchError(f'model version {self.version} has {name} {_listed(getattr(own, name))}, '
                                         f'here it is {_listed(getattr(contract, name))}')
        if own.space_version != contract.space_version:
            raise ModelMismatchError(f'model version {self.version} was learned in version {own.space_version} of the space '
                                     f'{own.space!r}, here it is version {contract.space_version}, whose features differ; '
                                     'learn it anew')
        if own.has_velocities != contract.has_velocities:
            raise ModelMismatchError(f'model version {self.version} takes {_entries(own.has_velocities)}, '
                                     f'here it is {_entries(contract.has_velocities)}')
        if not math.isclose(own.period_s, contract.period_s, rel_tol=1e-6):
            raise ModelMismatchError(f'model version {self.version} predicts {own.period_s:g} s ahead, '
                                     f'the control period is {contract.period_s:g} s')
        if own.reward and own.reward != contract.reward:
            raise ModelMismatchError(f'model version {self.version} was learned with the reward {own.reward!r}, '
                                     f'here it is {contract.reward!r}')

    def check_view(self, view: View) -> None:
        """Require that the bundle's policy sees through this view.

        Raises:
            ModelMismatchError: It sees through another one.
        """
        if self.view != label(view):
            raise ModelMismatchError(f'model version {self.version} has a policy that sees through the view {self.view!r}, here '
                                     f'it is {label(view)!r}, whose features differ; learn it anew')


@dataclasses.dataclass(frozen=True)
class AgentBundle:
    """A card and groups of tensors; immutable, so threads may share it.

    Attributes:
        card: What the bundle is for.
        groups: Tensors by name, for each group's name; must not be modified.
    """

    card: Card
    groups: Mapping[str, Mapping[str, torch.Tensor]]

    @property
    def version(self) -> int:
        """Version on the card."""
        return self.card.version

    def group(self, name: str) -> Mapping[str, torch.Tensor]:
        """Tensors of a group.

        Raises:
            BundleError: There is no such group.
        """
        if name not in self.groups:
            there = ', '.join(sorted(self.groups)) or 'none'
            raise BundleError(f'model version {self.version} has no tensors of {name!r}, only of {there}')
        return self.groups[name]

    def to_bytes(self) -> bytes:
        """Encode as safetensors; equal bundles give equal bytes.

        Raises:
            BundleError: A tensor has a type that the format lacks.
        """
        flat = {**vars(self.card), **vars(self.card.contract), 'figures': dict(self.card.figures),
                'weights': dict(self.card.weights)}
        del flat['contract']
        tensors = {f'{group}.{name}': tensor for group, members in self.groups.items() for name, tensor in members.items()}
        return encode(tensors, {name: json.dumps(value) for name, value in flat.items()} | {'format': AGENT})

    @classmethod
    def from_bytes(cls, data: bytes) -> 'AgentBundle':
        """Inverse of `to_bytes`; also reads the dynamics models of versions before bundles. The agent checks the tensors.

        Raises:
            BundleError: The data are truncated, changed, foreign, or of an unknown format version.
        """
        tensors, metadata = decode(data)
        if metadata['format'] == DYNAMICS:
            return cls(_card(_as_of_a_bundle(metadata)), {'model': tensors})
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for full_name, tensor in tensors.items():
            group, _, name = full_name.partition('.')
            groups.setdefault(group, {})[name] = tensor
        return cls(_card(metadata), groups)

    def save(self, path: str | Path) -> None:
        """Replace a file atomically, so that readers see the old bundle or this one.

        Raises:
            BundleError: The file cannot be written; the old one stays.
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
            raise BundleError(f'{path}: cannot be written ({error.strerror})') from None

    @classmethod
    def load(cls, path: str | Path) -> 'AgentBundle':
        """Read a file that `save` wrote.

        Raises:
            BundleError: The file cannot be read, or `from_bytes` refuses its data; the text begins with the path.
        """
        try:
            return cls.from_bytes(Path(path).read_bytes())
        except OSError as error:
            raise BundleError(f'{path}: cannot be read ({error.strerror})') from None
        except BundleError as error:
            raise BundleError(f'{path}: {error}') from None


def _as_of_a_bundle(metadata: Mapping[str, str]) -> dict[str, str]:
    """Convert the metadata of a dynamics model to a bundle's: all such models are of PETS, and their spaces had no version.

    The oldest files have no `real_steps`, which equalled `num_transitions`, no `has_velocities`, which was true, and no reward.
    """
    old = {'real_steps': metadata.get('num_transitions', ''), 'has_velocities': 'true', 'reward': '""', **metadata}
    try:
        names = json.loads(old['state_names'])
        figures = {name: json.loads(old[name]) for name in ('holdout_rmse', 'holdout_nll')}
    except (KeyError, ValueError, RecursionError):
        raise BundleError('model metadata lack readable state names or figures') from None
    space = 'outcome' if old['has_velocities'] == 'false' else (
        'joint_tool' if 'tool_tilt_x' in names else 'tool' if 'tool_x' in names else 'joint')
    return {**old, 'agent': '"pets"', 'space': json.dumps(space), 'space_version': '1', 'figures': json.dumps(figures)}


def _card(metadata: Mapping[str, str]) -> Card:
    hints = typing.get_type_hints(Card)
    del hints['contract']
    # Files of before these existed have none.
    metadata = {'origin': '[]', 'view': '""', 'weights': '{}', **metadata}
    contract = Contract(**{name: _read(metadata, name, hint) for name, hint in typing.get_type_hints(Contract).items()})
    return Card(contract=contract, **{name: _read(metadata, name, hint) for name, hint in hints.items()})


def _read(metadata: Mapping[str, str], name: str, hint: Any) -> Any:
    """Parse one value of a card and check its type."""
    try:
        value = json.loads(metadata[name])
    except (KeyError, ValueError, RecursionError):
        raise BundleError(f'model metadata lack a readable {name!r}') from None
    value = tuple(value) if isinstance(value, list) else value
    kind = typing.get_origin(hint) or hint
    entry = object if kind not in (tuple, Mapping) else float if float in typing.get_args(hint) else str
    entries = value if kind is tuple else getattr(value, 'values', tuple)()
    if not isinstance(value, kind) or not all(isinstance(part, entry) for part in entries):
        raise BundleError(f'model metadata have {name!r} = {metadata[name]}, which is no {kind.__name__}')
    return value


def _entries(has_velocities: bool) -> str:
    return 'positions and velocities' if has_velocities else 'the entries alone'


def _listed(value: str | tuple[str, ...]) -> str:
    return repr(value) if isinstance(value, str) else ', '.join(value)
