"""The linear part of the model, fitted in closed form.

A joint under velocity control is nearly linear in its velocity and command. Ridge regression learns this from a hundred
transitions, a network alone from a thousand; the network then learns the errors of the linear part. Each member has a linear
part fitted to its own bootstrap, so the members' disagreement grows with the distance from the data.
"""

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class LinearPart:
    """One affine map a member, on normalised inputs and outputs.

    Attributes:
        weight: Shape (E, I, O).
        bias: Shape (E, 1, O).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def fit(cls, inputs: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor, ridge: float) -> 'LinearPart':
        """Ridge regression of each member on its bootstrap; the bias is not penalised.

        Args:
            inputs: Normalised, shape (N, I).
            targets: Normalised, shape (N, O), or (E, N, O) where members have their own.
            counts: Number of copies of each row, shape (E, N).
            ridge: Penalty on squared weights, in units of one sample.
        """
        ones = torch.ones(len(inputs), 1, dtype=torch.float64)
        rows = torch.cat([inputs.double(), ones], dim=1)
        weighted = (counts.double().unsqueeze(-1) * rows).transpose(1, 2)  # (E, I + 1, N)
        penalty = torch.full((rows.shape[1],), ridge, dtype=torch.float64)
        penalty[-1] = torch.finfo(torch.float64).eps
        solution = torch.linalg.solve(weighted @ rows + torch.diag(penalty), weighted @ targets.double()).float()
        return cls(solution[:, :-1].contiguous(), solution[:, -1:].contiguous())

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predictions (E, B, O) of inputs (E, B, I)."""
        return torch.baddbmm(self.bias, inputs, self.weight)
