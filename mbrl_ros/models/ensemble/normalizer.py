"""Normalisation from the training data, with an exact inverse."""

import dataclasses

import torch

#: Spread below this share of the largest magnitude is rounding, not signal.
_RELATIVE_FLOOR = 1e-6
_ABSOLUTE_FLOOR = 1e-9


@dataclasses.dataclass(frozen=True)
class Normalizer:
    """Shift and scale of each column.

    Attributes:
        mean: Shape (D,).
        std: Shape (D,), positive.
    """

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def fit(cls, samples: torch.Tensor, *, constant_scale: float) -> 'Normalizer':
        """Mean and standard deviation of samples.

        Args:
            samples: Shape (N, D).
            constant_scale: Scale of a column that does not vary. For inputs 1, so that a first small movement along it
                does not look enormous; for outputs tiny, so that a model of a thing at rest does not let it wander.
        """
        mean, std = samples.mean(dim=0), samples.std(dim=0, unbiased=False)
        floor = _ABSOLUTE_FLOOR + _RELATIVE_FLOOR * samples.abs().amax(dim=0)
        return cls(mean, torch.where(std > floor, std, torch.full_like(std, constant_scale)))

    @classmethod
    def identity(cls, size: int) -> 'Normalizer':
        """Leaves `size` columns as they are."""
        return cls(torch.zeros(size), torch.ones(size))

    def normalize(self, values: torch.Tensor) -> torch.Tensor:
        """To zero mean and unit spread, shape (..., D)."""
        return (values - self.mean) / self.std

    def denormalize(self, values: torch.Tensor) -> torch.Tensor:
        """Inverse of `normalize`, shape (..., D)."""
        return values * self.std + self.mean
