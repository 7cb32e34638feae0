"""Base class of all optimisers, and the arithmetic that they share.

An optimiser proposes action sequences (`ask`) and learns from their values (`tell`). It knows neither model nor reward nor
clock. `ask` and `tell` read no number on the host: masks on the device make all decisions, so no iteration waits for a GPU,
and whole iterations can be recorded once and replayed. Replay also needs state in tensors that are written in place, and a
number of candidates that follows from settings alone. A small operation on a GPU costs little more than its launch, so all
random numbers are drawn when a plan begins, and everything learned is in one tensor.
"""

import abc
import math

import torch

from mbrl_ros.planning.planner import PlannerConfig


class Optimiser(abc.ABC):
    """A search for the best action sequence, which starts from the shifted answer of the last search.

    One plan is `begin`, then `ask` and `tell` in turn, then `advance`. Candidates are clipped, not truncated: a sample beyond a
    bound or a change limit becomes the bound or the limit.

    Args:
        config: Settings.
        action_size: A.
        max_change: Largest change of each action within one step, shape (A,); None: bounds only.
        is_directed: Whether samples of a normal distribution differ from its mean along the directions of the last `direct`.
            Without directions each action varies by itself.
        generator: Source of all randomness; its device is that of all tensors.

    Attributes:
        is_directed: As given.
        solution_is_mean: Whether a plan's answer is the final `mean`; otherwise it is the best candidate of all iterations.
        generator: As given.
        mean: Centre of the distribution, shape (H, A), within [-1, 1].
        std: Standard deviation around it, along each of the directions, shape (H, A).
        elites: Best candidates of the last `tell`, best first, shape (K, H, A).
        elite_values: Their values, shape (K,); minus infinity where there were fewer finite ones.
    """

    solution_is_mean = False

    def __init__(self, config: PlannerConfig, action_size: int, max_change: torch.Tensor | None = None,
                 is_directed: bool = False, *, generator: torch.Generator) -> None:
        self.config, self.is_directed, self.generator = config, is_directed, generator
        shape, device = (config.horizon, action_size), generator.device
        self._max_change = max_change
        # Matrices for row vectors, from directions to actions and back.
        self._along, self._back = (torch.eye(action_size, device=device) if is_directed else None for _ in range(2))
        self._previous = torch.zeros(action_size, device=device)
        numbers = math.prod(shape)
        sizes = (1 + config.num_elites) * numbers, numbers, config.num_elites
        self._learned = torch.zeros(sum(sizes), device=device)
        sequences, std, self.elite_values = self._learned.split(sizes)
        self._sequences, self.std = sequences.view(-1, *shape), std.view(shape)
        self.mean, self.elites = self._sequences[0], self._sequences[1:]
        self.std.fill_(config.init_std)
        self.elite_values.fill_(-torch.inf)

    def reset(self, seed: int) -> None:
        """Forget the warm start and seed all randomness anew."""
        self.generator.manual_seed(seed)
        self.forget()

    def forget(self) -> None:
        """Forget the warm start."""
        self._sequences.zero_()
        self.elite_values.fill_(-torch.inf)

    def tensors(self) -> list[torch.Tensor]:
        """The whole state, in tensors that keep their addresses."""
        return [value for value in vars(self).values() if isinstance(value, torch.Tensor)]

    def direct(self, directions: torch.Tensor) -> None:
        """Sample along other directions from now on: columns as for `Planner.plan`, float64, on the host."""
        self._along.copy_(directions.T)
        self._back.copy_(torch.linalg.inv(directions).T)

    def begin(self, previous_action: torch.Tensor) -> None:
        """Start a plan from the warm start and the action in effect, (A,), within [-1, 1]; draws all random numbers."""
        self._previous.copy_(previous_action)
        self.std.fill_(self.config.init_std)
        self.elite_values.fill_(-torch.inf)

    @abc.abstractmethod
    def ask(self, iteration: int, is_last: bool) -> torch.Tensor:
        """Candidates of one iteration, shape (N, H, A), within bounds and change limits.

        Iterations of a plan count from 0. `is_last` says whether this is probably the last one.
        """

    @abc.abstractmethod
    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Learn from the values of candidates; if no value is finite, nothing changes.

        Args:
            actions: Candidates from `ask`, shape (N, H, A).
            values: Their values, shape (N,); a candidate with minus infinity has no influence.
        """

    def advance(self) -> None:
        """End a plan: shift mean and elites by one control step."""
        self._sequences.copy_(shifted(self._sequences))

    def limited(self, actions: torch.Tensor) -> torch.Tensor:
        """Clip sequences to bounds and change limits, shape (..., H, A)."""
        return limit_changes(actions, self._previous, self._max_change)

    def _around_mean(self, noise: torch.Tensor) -> torch.Tensor:
        """Samples from standard normal noise, shape (N, H, A), not limited yet."""
        if self._along is None:
            return torch.addcmul(self.mean, self.std, noise)
        return torch.matmul(self.std * noise, self._along).add_(self.mean)

    def _best(self, actions: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Best K sequences, best first, and their values."""
        best, index = values.topk(len(self.elites))
        return actions.index_select(0, index), best

    def _moved(self, elites: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation moved towards those of elites; `momentum` is the weight of the old ones."""
        moments = finite_moments(elites, values, self._back)
        mean, std = torch._foreach_lerp([self.mean, self.std], moments, 1.0 - self.config.momentum)
        # Rounding may put a mean of actions at a bound beyond the bound.
        return mean.clamp_(-1.0, 1.0), std.clamp_(min=self.config.min_std)

    def _learn(self, is_sound: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, elites: torch.Tensor,
               elite_values: torch.Tensor) -> None:
        """Replace everything learned if `is_sound`, a boolean on the device; otherwise nothing changes."""
        found = torch.cat([mean.flatten(), elites.flatten(), std.flatten(), elite_values])
        torch.where(is_sound, found, self._learned, out=self._learned)


def finite_moments(actions: torch.Tensor, values: torch.Tensor,
                   back: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (each (H, A)) of the sequences (K, H, A) whose values (K,) are not minus infinity.

    NaN where all are. The deviation is along directions; `back`, (A, A), maps a row of differences of actions to them.
    """
    # The clamp makes all finite values equal, so their weights are equal and that of minus infinity is zero.
    weights = torch.softmax(values.clamp(max=torch.finfo(values.dtype).min), dim=0)
    mean = torch.tensordot(weights, actions, dims=1)
    away = actions - mean if back is None else (actions - mean) @ back
    return mean, torch.tensordot(weights, away.square(), dims=1).sqrt()


def limit_changes(actions: torch.Tensor, previous: torch.Tensor, max_change: torch.Tensor | None) -> torch.Tensor:
    """Clip sequences (..., H, A) to [-1, 1], then each action to within `max_change` (A,) of the one before it.

    `previous` (A,), within [-1, 1], is the action before the first. A `max_change` of None is no limit.
    """
    limited = actions.clamp(-1.0, 1.0)
    if max_change is not None:
        for action in limited.unbind(dim=-2):
            previous = action.clamp_(previous - max_change, previous + max_change)
    return limited


def shifted(actions: torch.Tensor) -> torch.Tensor:
    """Sequences one step later, the last action held; shape (..., H, A)."""
    return torch.cat([actions[..., 1:, :], actions[..., -1:, :]], dim=-2)
