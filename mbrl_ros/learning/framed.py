"""Dynamics learned in a frame of the scene's own, such as that of a tool, where many scenes look the same.

Separate from the predictor, which takes an observation's numbers as they come: where the same thing happens at another place
or in another direction, a frame says so beforehand, and nothing has to be learned twice.
"""

from collections.abc import Hashable
from typing import Protocol

import numpy as np
import torch

from mbrl_ros.errors import ModelMismatchError, ShapeError
from mbrl_ros.types import DynamicsModel


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


class FramedModel:
    """A model of features and changes in a frame, made one of observations; implements `types.DynamicsModel`.

    Args:
        frame: Of the transitions that the inner model was trained on.
        inner: Model of what `framed_transitions` gives: features, and features plus change.
        action_size: A, entries of an action outside of the frame.

    Raises:
        ShapeError: The frame's features are not of the inner model's sizes.

    Attributes:
        ensemble_size: E, of the inner model.
        obs_size: O, of the inner model.
        action_size: As given.
        output_scale: Of the inner model: typical size of one step's change along the frame's axes, shape (O,).
        hidden_units: Of the inner model, where that has it.
    """

    def __init__(self, frame: Frame, inner: DynamicsModel, action_size: int) -> None:
        self.ensemble_size, self.obs_size, self.action_size = inner.ensemble_size, inner.obs_size, action_size
        self.output_scale = inner.output_scale
        if hasattr(inner, 'hidden_units'):
            self.hidden_units = inner.hidden_units
        self._frame, self._inner = frame, inner
        sizes = inner_sizes(frame, self.obs_size, action_size)
        if sizes != (inner.obs_size, inner.action_size):
            raise ShapeError(f'the inner model takes obs and action of sizes {(inner.obs_size, inner.action_size)}, '
                             f'the frame encodes to {sizes}')

    @property
    def kind(self) -> Hashable:
        """As `Predictor.kind`."""
        inner = getattr(self._inner, 'kind', None)
        return None if inner is None else (self._frame, inner)

    def tensors(self) -> list[torch.Tensor]:
        """As `Predictor.tensors`; a frame has none that are learned."""
        return self._inner.tensors()

    @torch.no_grad()
    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the next observation, each (E, B, O).

        Args:
            obs: Shape (E, B, O), float32, on the inner model's device.
            action: Shape (E, B, A), normalised to [-1, 1].

        Raises:
            ShapeError: Another shape or type.

        Note:
            The standard deviation is that of the change along the frame's axes, as the inner model has it: where the frame is
            turned, its entries for x and y are those of the frame's x and y.
        """
        self._check(obs, action)
        features, inner_action = (part.contiguous() for part in self._frame.encode(obs, action))
        mean, std = self._inner.predict(features, inner_action)
        return self._frame.moved(obs, mean - features).contiguous(), std

    def _check(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        leading = self.ensemble_size, *obs.shape[1:2]
        if obs.shape != (*leading, self.obs_size) or action.shape != (*leading, self.action_size):
            raise ShapeError(f'predict needs obs ({self.ensemble_size}, B, {self.obs_size}) and action '
                             f'({self.ensemble_size}, B, {self.action_size}), got {tuple(obs.shape)} and {tuple(action.shape)}')
        if (obs.dtype, action.dtype) != (torch.float32, torch.float32):
            raise ShapeError(f'predict needs obs and action of float32, got {str(obs.dtype).removeprefix("torch.")} and '
                             f'{str(action.dtype).removeprefix("torch.")}')


def inner_sizes(frame: Frame | None, obs_size: int, action_size: int) -> tuple[int, int]:
    """How many numbers of an observation and of an action a model in a frame takes: O and A'."""
    if frame is None:
        return obs_size, action_size
    features = frame.encode(torch.zeros(obs_size), torch.zeros(action_size))
    return len(features[0]), len(features[1])


def out_of_frame(frame: Frame | None, model: DynamicsModel, action_size: int) -> DynamicsModel:
    """A learned model as one of observations and actions; without a frame it is that already. See `FramedModel`.

    Raises:
        ModelMismatchError: It takes other features than the frame gives.
    """
    if frame is None and model.action_size != action_size:
        raise ModelMismatchError(f'the model takes {model.action_size} numbers of an action, here there are {action_size}')
    try:
        return model if frame is None else FramedModel(frame, model, action_size)
    except ShapeError as error:
        raise ModelMismatchError(str(error)) from None


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
