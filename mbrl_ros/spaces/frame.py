"""Frames, in which dynamics are learned.

A frame gives equal features to the same event at another place or in another direction, so the model learns it once.
"""

from typing import Protocol

import numpy as np
import torch

from mbrl_ros.errors import ShapeError


class Frame(Protocol):
    """Maps observations and their changes to features and back. Leading axes are equal, and arguments are not modified.

    Attributes:
        is_shiftable: Whether observations may have an origin, that is, be given less a constant, and be moved likewise.
    """

    is_shiftable: bool

    def encode(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs of a model in the frame.

        Args:
            obs: Shape (..., O).
            action: Shape (..., A), normalised to [-1, 1].

        Returns:
            Features of the observation, shape (..., O), and of the action, shape (..., A'), with any A'.
        """

    def change(self, obs: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        """Change of the observation in the frame of `obs`; all shapes are (..., O)."""

    def moved(self, obs: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Observation after a change in the frame of `obs`, inverse of `change`; all shapes are (..., O)."""

    def counterfactuals(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor,
                        generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Imagine transitions by combining parts of the scene that do not touch, each from another real transition.

        Counterfactual data augmentation (CoDA; Pitis, Creager and Garg 2020). A model that is trained on these transitions does
        not invent forces between distant bodies. From N transitions, `obs` of shape (N, O), the result has at most N of the same
        sizes, and none if every part may act on every other.
        """


def inner_sizes(frame: Frame | None, obs_size: int, action_size: int) -> tuple[int, int]:
    """Sizes of the inputs of a model in a frame: O and A'."""
    if frame is None:
        return obs_size, action_size
    features = frame.encode(torch.zeros(obs_size), torch.zeros(action_size))
    return len(features[0]), len(features[1])


@torch.no_grad()
def framed_transitions(frame: Frame | None, obs: np.ndarray, action: np.ndarray,
                       next_obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transform transitions for `EnsembleTrainer.fit`.

    Args:
        frame: The frame; None leaves transitions unchanged.
        obs: Shape (N, O).
        action: Shape (N, A).
        next_obs: Shape (N, O).

    Returns:
        Features of the observation, shape (N, O), features of the action, shape (N, A'), and features of the observation plus
        its change, shape (N, O), so that the trainer's difference is the change; float64.

    Raises:
        ShapeError: The shapes do not match.
    """
    shapes = [np.shape(values) for values in (obs, action, next_obs)]
    if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes) or shapes[0] != shapes[2]:
        raise ShapeError(f'a frame needs obs (N, O), action (N, A), next_obs (N, O), got {shapes[0]}, {shapes[1]}, {shapes[2]}')
    return (obs, action, next_obs) if frame is None else _framed(frame, *_tensors(obs, action, next_obs))


@torch.no_grad()
def imagined_transitions(frame: Frame | None, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, *, number: int,
                         seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Counterfactuals of a frame for `EnsembleTrainer.fit`; other arguments and the result as for `framed_transitions`.

    Args:
        number: Largest number of transitions to return.
        seed: Seed of all randomness.

    Returns:
        Three arrays, or None if there are no counterfactuals.
    """
    if frame is None or number == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    imagined = frame.counterfactuals(*_tensors(obs, action, next_obs), generator)
    chosen = torch.randperm(len(imagined[0]), generator=generator)[:number]
    return _framed(frame, *(values[chosen] for values in imagined)) if len(chosen) else None


def _tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    # Copied, because torch warns about read-only arrays, such as those of the replay buffer.
    return [torch.from_numpy(np.array(values, dtype=np.float64)) for values in arrays]


def _framed(frame: Frame, obs: torch.Tensor, action: torch.Tensor,
            next_obs: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, inner_action = frame.encode(obs, action)
    return features.numpy(), inner_action.numpy(), (features + frame.change(obs, next_obs)).numpy()
