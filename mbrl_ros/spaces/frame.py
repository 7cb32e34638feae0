"""Features of a space: the frame in which dynamics are learned.

A network takes an observation's numbers as they come. Where the same thing happens at another place or in another direction, a
frame makes both look alike before learning, so nothing has to be learned twice.
"""

from typing import Protocol

import numpy as np
import torch

from mbrl_ros.errors import ShapeError


class Frame(Protocol):
    """How observations and their changes look from within a scene. All leading axes are alike, and arguments are not modified."""

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What a model in the frame takes.

        Args:
            obs: Shape (..., O).
            action: Shape (..., A), normalised to [-1, 1].

        Returns:
            Features of the observation, shape (..., O), in place of it, and of the action, shape (..., A'), with any A'.
        """

    def change(self, obs: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        """Change of the observation as seen in the frame of `obs`; all of shape (..., O)."""

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Observation after a change as seen in the frame of `obs`, inverse of `change`; all of shape (..., O)."""

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Transitions that were not made but would have gone like this, as parts of a scene do not act on each other.

        Counterfactual data augmentation (CoDA; Pitis, Creager and Garg 2020): what one transition says of one part and another
        of another part, put together. A model that is trained on them does not make up forces between what is far apart.

        Args:
            obs: Shape (N, O).
            action: Shape (N, A).
            next_obs: Shape (N, O).
            generator: Decides what is put together.

        Returns:
            At most N such transitions, of the same sizes; none where everything acts on everything.
        """


def inner_sizes(frame: Frame | None, obs_size: int, action_size: int) -> tuple[int, int]:
    """How many numbers of an observation and of an action a model in a frame takes: O and A'."""
    if frame is None:
        return obs_size, action_size
    features = frame.encode(torch.zeros(obs_size), torch.zeros(action_size))
    return len(features[0]), len(features[1])


@torch.no_grad()
def framed_transitions(frame: Frame | None, obs: np.ndarray, action: np.ndarray,
                       next_obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transitions as a model in a frame learns them; `EnsembleTrainer.fit` takes them as they are.

    Args:
        frame: The frame; None leaves transitions as they are.
        obs: Shape (N, O).
        action: Shape (N, A).
        next_obs: Shape (N, O).

    Returns:
        Features of the observation, shape (N, O), and of the action, shape (N, A'), and features plus change, shape (N, O), so
        that their difference is the change; float64.

    Raises:
        ShapeError: Arrays do not belong together.
    """
    shapes = [np.shape(values) for values in (obs, action, next_obs)]
    if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes) or shapes[0] != shapes[2]:
        raise ShapeError(f'a frame needs obs (N, O), action (N, A), next_obs (N, O), got {shapes[0]}, {shapes[1]}, {shapes[2]}')
    return (obs, action, next_obs) if frame is None else _framed(frame, *_tensors(obs, action, next_obs))


@torch.no_grad()
def imagined_transitions(frame: Frame | None, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, *, number: int,
                         seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """A frame's counterfactuals as a model in it learns them; `EnsembleTrainer.fit` takes them as they are.

    Args:
        frame: The frame; None imagines nothing.
        obs: Shape (N, O), as of a data set.
        action: Shape (N, A).
        next_obs: Shape (N, O).
        number: How many are wanted at most.
        seed: Decides which.

    Returns:
        As for `framed_transitions`; None where there are none.
    """
    if frame is None or number == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    imagined = frame.counterfactuals(*_tensors(obs, action, next_obs), generator)
    chosen = torch.randperm(len(imagined[0]), generator=generator)[:number]
    return _framed(frame, *(values[chosen] for values in imagined)) if len(chosen) else None


def _tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    # Copied, as torch warns of arrays that it could not write to, which those of a data set are.
    return [torch.from_numpy(np.array(values, dtype=np.float64)) for values in arrays]


def _framed(frame: Frame, obs: torch.Tensor, action: torch.Tensor,
            next_obs: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, inner_action = frame.encode(obs, action)
    return features.numpy(), inner_action.numpy(), (features + frame.change(obs, next_obs)).numpy()
