"""Normalisation by mean and standard deviation of the training data, its inverse, and the bound of a network's inputs."""

import dataclasses

import torch

#: A spread below this share of the largest magnitude counts as rounding.
_RELATIVE_FLOOR = 1e-6
_ABSOLUTE_FLOOR = 1e-9
#: So does one below this share of the median spread of the columns that vary, such as a solver's jitter of a body at rest.
_SHARE_OF_OTHERS = 3e-6
#: Largest normalised input of a network in either direction. Farther out a model has seen nothing, and its changes stay bounded.
INPUT_BOUND = 20.0


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
            constant_scale: Least scale of a column that does not vary. Inputs take 1, so that a first small movement is no huge
                input; outputs take a tiny scale, so that a body that has never moved is predicted to stay.
        """
        mean, std = samples.mean(dim=0), samples.std(dim=0, unbiased=False)
        varies = std > _ABSOLUTE_FLOOR + _RELATIVE_FLOOR * samples.abs().amax(dim=0)
        floor = _SHARE_OF_OTHERS * std[varies].median() if varies.any() else torch.zeros(())
        return cls(mean, torch.where(varies & (std > floor), std, floor.clamp(min=constant_scale)))

    @classmethod
    def identity(cls, size: int) -> 'Normalizer':
        """Leaves `size` columns as they are."""
        return cls(torch.zeros(size), torch.ones(size))

    def normalize(self, values: torch.Tensor) -> torch.Tensor:
        """To zero mean and unit spread, shape (..., D)."""
        return (values - self.mean) / self.std

    def network_inputs(self, values: torch.Tensor) -> torch.Tensor:
        """As `normalize`, limited to `INPUT_BOUND` in both directions; NaN stays NaN."""
        return self.normalize(values).clamp_(-INPUT_BOUND, INPUT_BOUND)

    def denormalize(self, values: torch.Tensor) -> torch.Tensor:
        """Inverse of `normalize`, shape (..., D)."""
        return values * self.std + self.mean
