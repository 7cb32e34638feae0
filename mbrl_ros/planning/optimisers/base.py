"""What every optimiser promises, and the arithmetic they share.

An optimiser proposes action sequences (`ask`) and learns from what they were worth (`tell`). It knows neither model nor
reward nor clock. `ask` and `tell` never look at a number on the host: all decisions are made on the device by masks, so that
no iteration waits for a GPU and whole iterations can be recorded once and replayed. For the same reason the state lives in
tensors that are made once and only ever written in place, and the number of candidates follows from settings alone. On a GPU
small operations cost what their launches cost, so that what can be done at once is: all chance is drawn when a plan begins, and
what was learned lies in one tensor.
"""

import abc
import math

import torch

from mbrl_ros.planning.planner import PlannerConfig


class Optimiser(abc.ABC):
    """A search for the best action sequence that remembers its last answer, shifted, as the next search's start.

    One plan is `begin`, then `ask` and `tell` in turn, then `advance`. Candidates are clipped, not truncated: what a sample
    wants beyond a bound or a change limit becomes the bound or the limit.

    Args:
        config: Settings.
        action_size: A.
        max_change: Largest change of each action within one step, shape (A,); None: bounds only.
        is_directed: Whether samples of a normal distribution differ from its mean along directions, those of the last `direct`.
            Otherwise, and until then, along each action by itself.
        generator: Source of all randomness; its device is where everything happens.

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
        # Of row vectors, which actions are: from directions to actions, and back.
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
        """All of its state, in tensors that stay where they are."""
        return [value for value in vars(self).values() if isinstance(value, torch.Tensor)]

    def direct(self, directions: torch.Tensor) -> None:
        """Try actions along other directions from now on.

        Args:
            directions: As columns, shape (A, A), invertible, float64, on the host; a column is a change of one
                deviation where that is 1.
        """
        self._along.copy_(directions.T)
        self._back.copy_(torch.linalg.inv(directions).T)

    def begin(self, previous_action: torch.Tensor) -> None:
        """Start a plan from the warm start, and draw all of its chance.

        Args:
            previous_action: Action in effect until the first of the plan, shape (A,), within [-1, 1].
        """
        self._previous.copy_(previous_action)
        self.std.fill_(self.config.init_std)
        self.elite_values.fill_(-torch.inf)

    @abc.abstractmethod
    def ask(self, iteration: int, is_last: bool) -> torch.Tensor:
        """Candidates of one iteration, shape (N, H, A), within bounds and change limits.

        Args:
            iteration: Counted from 0 in each plan, less than `num_iterations`.
            is_last: Whether no further one is expected.
        """

    @abc.abstractmethod
    def tell(self, actions: torch.Tensor, values: torch.Tensor) -> None:
        """Move to what was best. Without a finite value everything stays as it was.

        Args:
            actions: As `ask` gave them, shape (N, H, A).
            values: Their values, shape (N,); minus infinity where not finite, and then without any influence.
        """

    def advance(self) -> None:
        """End a plan: let a control step pass."""
        self._sequences.copy_(shifted(self._sequences))

    def limited(self, actions: torch.Tensor) -> torch.Tensor:
        """Sequences brought within bounds and change limits, shape (..., H, A)."""
        return limit_changes(actions, self._previous, self._max_change)

    def _around_mean(self, noise: torch.Tensor) -> torch.Tensor:
        """Samples for standard normal noise, shape (N, H, A), not limited yet."""
        if self._along is None:
            return torch.addcmul(self.mean, self.std, noise)
        return torch.matmul(self.std * noise, self._along).add_(self.mean)

    def _best(self, actions: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Best K sequences, best first, and their values."""
        best, index = values.topk(len(self.elites))
        return actions.index_select(0, index), best

    def _moved(self, elites: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation moved to those of elites, as far as the momentum lets them."""
        moments = finite_moments(elites, values, self._back)
        mean, std = torch._foreach_lerp([self.mean, self.std], moments, 1.0 - self.config.momentum)
        # A mean of actions at a bound may be beyond it by a rounding error.
        return mean.clamp_(-1.0, 1.0), std.clamp_(min=self.config.min_std)

    def _learn(self, is_sound: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, elites: torch.Tensor,
               elite_values: torch.Tensor) -> None:
        """Take over all that was learned where `is_sound`, a boolean on the device; otherwise everything stays as it was."""
        found = torch.cat([mean.flatten(), elites.flatten(), std.flatten(), elite_values])
        torch.where(is_sound, found, self._learned, out=self._learned)


def finite_moments(actions: torch.Tensor, values: torch.Tensor,
                   back: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (each (H, A)) of the sequences (K, H, A) whose values (K,) are not minus infinity.

    The deviation is along the directions that `back`, (A, A), brings a row of differences to. Not a number without any.
    """
    # Where all that is finite is the same, so are the weights; of minus infinity nothing is left.
    weights = torch.softmax(values.clamp(max=torch.finfo(values.dtype).min), dim=0)
    mean = torch.tensordot(weights, actions, dims=1)
    away = actions - mean if back is None else (actions - mean) @ back
    return mean, torch.tensordot(weights, away.square(), dims=1).sqrt()


def limit_changes(actions: torch.Tensor, previous: torch.Tensor, max_change: torch.Tensor | None) -> torch.Tensor:
    """Clip sequences to [-1, 1] and each action to within `max_change` of the one before it.

    Args:
        actions: Shape (..., H, A).
        previous: Action before the first, shape (A,), within [-1, 1].
        max_change: Shape (A,); None clips to the bounds alone.

    Returns:
        Shape (..., H, A).
    """
    limited = actions.clamp(-1.0, 1.0)
    if max_change is not None:
        for action in limited.unbind(dim=-2):
            previous = action.clamp_(previous - max_change, previous + max_change)
    return limited


def shifted(actions: torch.Tensor) -> torch.Tensor:
    """Sequences one step later, the last action held; shape (..., H, A)."""
    return torch.cat([actions[..., 1:, :], actions[..., -1:, :]], dim=-2)
