"""What every optimiser promises, and the arithmetic they share.

An optimiser proposes action sequences (`ask`) and learns from what they were worth (`tell`). It knows neither model nor
reward nor clock. `ask` and `tell` never look at a number on the host: all decisions are made on the device by masks, so that
no iteration waits for a GPU and whole iterations can be recorded once and replayed. For the same reason the state lives in
tensors that are made once and only ever written in place, and the number of candidates follows from settings alone.
"""

import abc

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
        generator: Source of all randomness; its device is where everything happens.

    Attributes:
        solution_is_mean: Whether a plan's answer is the final `mean`; otherwise it is the best candidate of all iterations.
        generator: As given.
        mean: Centre of the distribution, shape (H, A), within [-1, 1].
        std: Standard deviation around it, shape (H, A).
        elites: Best candidates of the last `tell`, best first, shape (K, H, A).
        elite_values: Their values, shape (K,); minus infinity where there were fewer finite ones.
    """

    solution_is_mean = False

    def __init__(self, config: PlannerConfig, action_size: int, max_change: torch.Tensor | None = None, *,
                 generator: torch.Generator) -> None:
        self.config, self.generator = config, generator
        shape, device = (config.horizon, action_size), generator.device
        self._max_change = max_change
        self._previous = torch.zeros(action_size, device=device)
        self.mean = torch.zeros(shape, device=device)
        self.std = torch.full(shape, config.init_std, device=device)
        self.elites = torch.zeros((config.num_elites, *shape), device=device)
        self.elite_values = torch.full((config.num_elites,), -torch.inf, device=device)

    def reset(self, seed: int) -> None:
        """Forget the warm start and seed all randomness anew."""
        self.generator.manual_seed(seed)
        self.forget()

    def forget(self) -> None:
        """Forget the warm start."""
        self.mean.zero_()
        self.elites.zero_()
        self.elite_values.fill_(-torch.inf)

    def tensors(self) -> list[torch.Tensor]:
        """All of its state, in tensors that stay where they are."""
        return [value for value in vars(self).values() if isinstance(value, torch.Tensor)]

    def begin(self, previous_action: torch.Tensor) -> None:
        """Start a plan from the warm start.

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
            iteration: Counted from 0 in each plan.
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
        self.mean.copy_(shifted(self.mean))
        self.elites.copy_(shifted(self.elites))

    def _limited(self, actions: torch.Tensor) -> torch.Tensor:
        return limit_changes(actions, self._previous, self._max_change)

    def _select_elites(self, actions: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Take over the best K as elites; returns whether any value was finite, a boolean on the device."""
        alive = (values > -torch.inf).any()
        best, index = values.topk(len(self.elites))
        torch.where(alive, actions.index_select(0, index), self.elites, out=self.elites)
        torch.where(alive, best, self.elite_values, out=self.elite_values)
        return alive

    def _fit_elites(self, alive: torch.Tensor) -> None:
        """Move mean and deviation to the elites', as far as the momentum lets them."""
        momentum, floor = self.config.momentum, self.config.min_std
        mean, std = finite_moments(self.elites, self.elite_values)
        mean = momentum * self.mean + (1.0 - momentum) * mean
        std = (momentum * self.std + (1.0 - momentum) * std).clamp(min=floor)
        # A mean of actions at a bound may be beyond it by a rounding error.
        torch.where(alive, mean.clamp(-1.0, 1.0), self.mean, out=self.mean)
        torch.where(alive, std, self.std, out=self.std)


def finite_moments(actions: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (each (H, A)) of the sequences (K, H, A) whose values (K,) are finite; zeros without any."""
    finite = values > -torch.inf
    weights, count = finite.to(actions.dtype).view(-1, 1, 1), finite.sum().clamp(min=1)
    mean = (weights * actions).sum(dim=0) / count
    variance = (weights * (actions - mean).square()).sum(dim=0) / count
    return mean, variance.sqrt()


def limit_changes(actions: torch.Tensor, previous: torch.Tensor, max_change: torch.Tensor | None) -> torch.Tensor:
    """Clip sequences to [-1, 1] and each action to within `max_change` of the one before it.

    Args:
        actions: Shape (..., H, A).
        previous: Action before the first, shape (A,), within [-1, 1].
        max_change: Shape (A,); None clips to the bounds alone.

    Returns:
        Shape (..., H, A).
    """
    clipped = actions.clamp(-1.0, 1.0)
    if max_change is None:
        return clipped
    limited = []
    for wanted in clipped.unbind(dim=-2):
        previous = wanted.clamp(previous - max_change, previous + max_change)
        limited.append(previous)
    return torch.stack(limited, dim=-2)


def shifted(actions: torch.Tensor) -> torch.Tensor:
    """Sequences one step later, the last action held; shape (..., H, A)."""
    return torch.cat([actions[..., 1:, :], actions[..., -1:, :]], dim=-2)
