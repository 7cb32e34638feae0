"""A model learned in a frame, seen from outside of the frame."""

from collections.abc import Hashable

import torch

from mbrl_ros.errors import ModelMismatchError, ShapeError
from mbrl_ros.models.ensemble.predictor import Predictor
from mbrl_ros.spaces.frame import Frame, inner_sizes
from mbrl_ros.types import DynamicsModel


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
        self._compiled = inner.in_frame(frame) if isinstance(inner, Predictor) else None

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
        if self._compiled is not None:
            return self._compiled.predict(obs, action)
        self._check(obs, action)
        features, inner_action = (part.contiguous() for part in self._frame.encode(obs, action))
        mean, std = self._inner.predict(features, inner_action)
        return self._frame.moved(obs, mean - features).contiguous(), std

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor,
                 noise: torch.Tensor) -> torch.Tensor | None:
        """As `Predictor.roll_out`; None on a GPU and for a frame that there is no compiled code for, too."""
        return None if self._compiled is None else self._compiled.roll_out(obs, actions, members, noise)

    def _check(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        leading = self.ensemble_size, *obs.shape[1:2]
        if obs.shape != (*leading, self.obs_size) or action.shape != (*leading, self.action_size):
            raise ShapeError(f'predict needs obs ({self.ensemble_size}, B, {self.obs_size}) and action '
                             f'({self.ensemble_size}, B, {self.action_size}), got {tuple(obs.shape)} and {tuple(action.shape)}')
        if (obs.dtype, action.dtype) != (torch.float32, torch.float32):
            raise ShapeError(f'predict needs obs and action of float32, got {str(obs.dtype).removeprefix("torch.")} and '
                             f'{str(action.dtype).removeprefix("torch.")}')


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
