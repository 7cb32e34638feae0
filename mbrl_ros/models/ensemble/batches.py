"""Batches of each member's bootstrap.

In each pass every distinct transition of the bootstrap comes once, weighted by its number of copies. The loss over a pass is
the same as with copies, from 63 % of the rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

#: Drawing many batches at once takes no longer than drawing one.
_BATCHES_AHEAD = 32


class Batch(NamedTuple):
    """One batch for all members, as rows of two tables; all tensors are contiguous.

    Attributes:
        inputs: Normalised inputs and a last column of ones, shape (N, I + 1), of the type of the products.
        targets: Targets and a last column with the weight of the row, shape (M, O + 1), of the network's type.
        input_rows: Rows of `inputs`, member by member, shape (E * B,), int64.
        target_rows: Rows of `targets`, likewise.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    input_rows: torch.Tensor
    target_rows: torch.Tensor


def all_rows(inputs: torch.Tensor, targets: torch.Tensor) -> Batch:
    """A batch with every row once for each member, of inputs (N, I) and targets (E, N, O)."""
    members, size, _ = targets.shape
    rows = torch.arange(members * size)
    return Batch(*_tables(inputs, targets, targets.new_ones(members, size)), rows % size, rows)


def _tables(inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (N, I + 1) and targets (E * N, O + 1) of a `Batch`."""
    ones = inputs.new_ones(len(inputs), 1)
    return torch.cat([inputs, ones], dim=1), torch.cat([targets, weights.unsqueeze(-1)], dim=-1).flatten(0, 1)


class BootstrapBatches:
    """Endless batches for all members.

    Args:
        inputs: Shape (N, I), of the type of the products.
        targets: Shape (E, N, O).
        counts: How often each transition is in each member's bootstrap, shape (E, N); an empty bootstrap counts as all.
        batch_size: B.
        generator: Source of the order.
    """

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor, batch_size: int,
                 generator: torch.Generator) -> None:
        members, size, _ = targets.shape
        counts = torch.where(counts.any(dim=1, keepdim=True), counts, 1)
        weights = counts * ((counts > 0).sum(dim=1, keepdim=True) / counts.sum(dim=1, keepdim=True))
        self._inputs, self._targets = _tables(inputs, targets, weights)
        self._rows = [member.nonzero().squeeze(1) for member in counts]
        self._left = [rows[:0] for rows in self._rows]
        self._offsets = size * torch.arange(members).unsqueeze(1)
        self._batch_size, self._generator = batch_size, generator
        self._drawn: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(())

    def draw(self) -> Batch:
        """The next batch."""
        if (drawn := next(self._drawn, None)) is None:
            self._drawn = self._draw_ahead()
            drawn = next(self._drawn)
        return Batch(self._inputs, self._targets, *drawn)

    def _draw_ahead(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Rows of inputs and of targets for the next batches, each (E * B,)."""
        needed = _BATCHES_AHEAD * self._batch_size
        drawn = []
        for member, rows in enumerate(self._rows):
            parts = [self._left[member]]
            while sum(map(len, parts)) < needed:
                parts.append(rows[torch.randperm(len(rows), generator=self._generator)])
            stream = torch.cat(parts)
            self._left[member] = stream[needed:]
            drawn.append(stream[:needed])
        rows = torch.stack(drawn)                                                                          # (E, needed)
        return zip(*(flat.view(len(drawn), _BATCHES_AHEAD, -1).transpose(0, 1).reshape(_BATCHES_AHEAD, -1)
                     for flat in (rows, rows + self._offsets)))
