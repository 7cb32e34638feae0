"""The experience that a model was learned from, in a file beside the model.

A model that continues learning from new experience alone forgets: a round on one episode fits that episode only. With this file
every later round trains on old and new transitions together, and held-out transitions stay held out.
"""

import dataclasses
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mbrl_ros.errors import BagError
from mbrl_ros.experience.buffer import Transitions

_SUFFIX = '.experience.safetensors'
_FORMAT = 'mbrl_ros.experience'
#: Columns that every file has; files of later versions have more.
_COLUMNS = ('obs', 'action', 'next_obs', 'stamp_ns', 'episode')
_LEARNED = 'learned_stamp_ns'


@dataclasses.dataclass(frozen=True)
class SavedExperience:
    """Transitions, and which of them a model was trained on.

    Attributes:
        transitions: N transitions, oldest first; stamps come from the clock of their run.
        learned_stamp_ns: Stamps of the transitions in the round that made the model.
    """

    transitions: Transitions
    learned_stamp_ns: np.ndarray

    def save(self, model: Path) -> None:
        """Write the file that belongs to a model file.

        Raises:
            BagError: The file cannot be written.
        """
        path = saved_experience_path(model)
        temporary = path.with_name(f'.{path.name}')
        try:
            save_file({**self.transitions.columns(), _LEARNED: self.learned_stamp_ns}, temporary, {'format': _FORMAT})
            temporary.replace(path)
        except OSError as error:
            raise BagError(f'{path}: cannot be written ({error.strerror})') from None

    def followed_by(self, others: Transitions) -> Transitions:
        """These transitions, then those of another run; their stamps move behind, because two runs may have equal stamps."""
        behind = others.stamp_ns + (int(self.transitions.stamp_ns.max(initial=-1)) + 1)
        return Transitions.joined([self.transitions, dataclasses.replace(others, stamp_ns=behind)])

    @classmethod
    def load(cls, model: Path, obs_size: int, action_size: int) -> 'SavedExperience | None':
        """Read the file that belongs to a model file; None if there is none.

        Args:
            model: Path of the model.
            obs_size: O.
            action_size: A.

        Raises:
            BagError: The file is damaged, foreign, or of other sizes.
        """
        path = saved_experience_path(model)
        if not path.exists():
            return None
        try:
            with safe_open(path, 'numpy') as file:
                is_ours = (file.metadata() or {}).get('format') == _FORMAT
                names = {*_COLUMNS, _LEARNED, *file.keys()} if is_ours else ()
                kept = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise BagError(f'{path}: cannot be read ({error})') from None
        if not kept:
            raise BagError(f'{path}: is not experience that this package has written')
        size = len(kept['obs'])
        wanted = {'obs': (size, obs_size), 'action': (size, action_size), 'next_obs': (size, obs_size), 'stamp_ns': (size,),
                  'episode': (size,)}
        if wrong := [name for name, shape in wanted.items() if kept[name].shape != shape]:
            raise BagError(f'{path}: {wrong[0]} has the shape {kept[wrong[0]].shape}, needed is {wanted[wrong[0]]}')
        learned = kept.pop(_LEARNED)
        try:
            return cls(Transitions.of(**kept), learned)
        except (TypeError, ValueError) as error:
            raise BagError(f'{path}: has columns that do not belong together ({error})') from None


def saved_experience_path(model: Path) -> Path:
    """Where the experience of a model file is: `lift.safetensors` has `lift.experience.safetensors`."""
    return model.with_name(model.name.removesuffix('.safetensors') + _SUFFIX)
