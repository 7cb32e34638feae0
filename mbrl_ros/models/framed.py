"""Adapter that makes a model learned in a frame predict plain observations."""

from collections.abc import Hashable

import torch

from mbrl_ros.errors import ModelMismatchError, ShapeError
from mbrl_ros.models.ensemble.predictor import Predictor, check_batch
from mbrl_ros.spaces.frame import Frame, inner_sizes
from mbrl_ros.types import DynamicsModel


class FramedModel:
    """Turns a model of features and changes in a frame into a model of observations; implements `types.DynamicsModel`.

    Args:
        frame: Frame of the transitions that the inner model was trained on.
        inner: Model of the results of `framed_transitions`: predicts features plus change from features.
        action_size: A, entries of an action outside of the frame.

    Raises:
        ShapeError: The frame's features do not have the inner model's sizes.

    Attributes:
        ensemble_size, obs_size, hidden_units: As for the inner model; `hidden_units` is missing where that has none.
        action_size: As given.
        output_scale: Typical size of one step's change along the frame's axes, shape (O,).
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
        """As `Predictor.tensors`; the frame has no learned tensors."""
        return self._inner.tensors()

    @torch.no_grad()
    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the next observation, each (E, B, O).

        Args:
            obs: Shape (E, B, O), float32, on the inner model's device.
            action: Shape (E, B, A), normalised to [-1, 1].

        Raises:
            ShapeError: `obs` or `action` has another shape or type.

        Note:
            The standard deviation is that of the change along the frame's axes: where the frame is turned, its entries for x and
            y belong to the frame's x and y.
        """
        if self._compiled is not None:
            return self._compiled.predict(obs, action)
        check_batch(self, obs, action)
        features, inner_action = (part.contiguous() for part in self._frame.encode(obs, action))
        mean, std = self._inner.predict(features, inner_action)
        return self._frame.moved(obs, mean - features).contiguous(), std

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor,
                 noise: torch.Tensor) -> torch.Tensor | None:
        """As `Predictor.roll_out`; None also on a GPU, and for a frame without compiled code."""
        return None if self._compiled is None else self._compiled.roll_out(obs, actions, members, noise)


def out_of_frame(frame: Frame | None, model: DynamicsModel, action_size: int) -> DynamicsModel:
    """A learned model in a `FramedModel`; the model itself where there is no frame.

    Raises:
        ModelMismatchError: The model takes other features than the frame gives, or another number of actions.
    """
    if frame is None and model.action_size != action_size:
        raise ModelMismatchError(f'the model takes {model.action_size} numbers of an action, here there are {action_size}')
    try:
        return model if frame is None else FramedModel(frame, model, action_size)
    except ShapeError as error:
        raise ModelMismatchError(str(error)) from None
