"""One plan in the making: its tensors, made once and written in place, and the steps that write them, in order."""

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch

from mbrl_ros.planning.aggregation import Aggregation
from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.planner import Objective, PlannerConfig, most_candidates
from mbrl_ros.planning.propagation import ParticleDraws, disagreement, rollout
from mbrl_ros.planning.returns import particle_returns
from mbrl_ros.types import DynamicsModel

#: Keys of the first and the last step; those between are pairs (iteration, is_last).
BEGIN, FINISH = 'begin', 'finish'


class Search:
    """Looks for the best sequence, all on the device and without a look at any number on the host.

    A plan is `load`, the step `BEGIN`, one step an iteration, the step `FINISH`, and `results`. A step takes nothing and
    returns nothing: it reads and writes tensors that stay where they are, so that what the steps did in one plan may be recorded
    and done again in the next.

    Args:
        config: Settings.
        optimiser: What proposes candidates.
        model: Dynamics on the optimiser's device.
        objective: What to maximise.
        num_parameters: Where `load` is to bring the objective's numbers too, how many they are; see `ParametricObjective`.
        proposals: Sequences that are tried in place of samples of the first iteration, shape (M, H, A); None for none.

    Attributes:
        steps: The steps by their keys, in the order of a plan.
    """

    def __init__(self, config: PlannerConfig, optimiser: Optimiser, model: DynamicsModel, objective: Objective,
                 num_parameters: int = 0, proposals: torch.Tensor | None = None) -> None:
        self._proposals = proposals
        self._optimiser, self._aggregation = optimiser, Aggregation(config)
        device = optimiser.generator.device
        sizes = [model.obs_size, model.action_size, num_parameters]
        # Pinned memory is copied from without waiting, and not written to again before the plan's results are there.
        self._staged = torch.zeros(sum(sizes), pin_memory=device.type == 'cuda')
        self._inputs = self._staged if device.type == 'cpu' else torch.zeros(sum(sizes), device=device)
        self._start, self._previous, parameters = self._inputs.split(sizes)
        self._model, self._objective = model, objective.at(parameters) if num_parameters else objective
        self._draws = ParticleDraws.undrawn(model, config.horizon, config.num_particles, config.propagation, device)
        # Of all candidates, zero where there was none.
        self._values = torch.zeros((config.num_iterations, most_candidates(config)), device=device)
        horizon, particles, *_ = self._draws.noise.shape
        sequence, path = (horizon, model.action_size), (horizon, particles, model.obs_size)
        # Of the best sequence: value, actions, returns and path of its particles.
        self._best = _Packed(((), sequence, (particles,), path), device)
        self._known = _Packed(((), (), (), (), sequence, (horizon + 1, model.obs_size), optimiser.elites.shape,
                               optimiser.elite_values.shape), device)
        self.steps: dict[Hashable, Callable[[], None]] = {BEGIN: self._begin}
        for iteration in range(config.num_iterations):
            # Any iteration may be the last when there is a deadline.
            for is_last in (False, True) if iteration + 1 < config.num_iterations else (True,):
                self.steps[iteration, is_last] = functools.partial(self._iterate, iteration, is_last)
        self.steps[FINISH] = self._finish

    def load(self, start: torch.Tensor, previous: torch.Tensor, parameters: torch.Tensor | None = None) -> None:
        """Bring the numbers of a plan to the device.

        Args:
            start: Observation, shape (O,), float32, on the host.
            previous: Action in effect, shape (A,), within [-1, 1], likewise.
            parameters: The objective's, shape (num_parameters,), on the host; None where that is 0.
        """
        torch.cat([start, previous] if parameters is None else [start, previous, parameters], out=self._staged)
        if self._inputs is not self._staged:
            self._inputs.copy_(self._staged, non_blocking=True)

    def results(self) -> list[np.ndarray]:
        """What the last step left, brought to the host in one transfer, as float64; waits for it.

        Returns:
            Value, standard deviation over particles, count of candidates that were worth minus infinity, disagreement (each ()),
            sequence (H, A), its mean observations with the start (H + 1, O), elites (K, H, A) and their values (K,).
        """
        return self._known.fetch()

    # Steps.

    def _begin(self) -> None:
        self._draws.draw(self._optimiser.generator)
        self._optimiser.begin(self._previous)
        self._values.zero_()

    def _iterate(self, iteration: int, is_last: bool) -> None:
        actions = self._optimiser.ask(iteration, is_last)
        if self._proposals is not None and iteration == 0:
            # The first candidate may be the mean.
            actions[1:1 + len(self._proposals)] = self._optimiser.limited(self._proposals)
        path, returns, values = self._evaluate(actions, out=self._values[iteration, :len(actions)])
        if not self._optimiser.solution_is_mean:
            value, top = values.max(dim=0, keepdim=True)
            rival = value, *_candidate(top, actions, returns, path)
            self._best.write(rival, where=value > self._best.numbers[:1] if iteration else None)
        self._optimiser.tell(actions, values)

    def _finish(self) -> None:
        """Roll out a mean that is to be the plan, and in case it diverges the best elite; put together what is known."""
        optimiser = self._optimiser
        if optimiser.solution_is_mean:
            actions = torch.stack([optimiser.mean, optimiser.elites[0]])
            path, returns, values = self._evaluate(actions)
            chosen = (values[:1] == -torch.inf).long()
            # An elite of the last plan has no value in this one.
            value = torch.cat([values[:1], optimiser.elite_values[:1]]).index_select(0, chosen)
            self._best.write((value, *_candidate(chosen, actions, returns, path)))
        value, actions, returns, path = self._best.parts()
        path = torch.cat([self._start.unsqueeze(0), path.mean(dim=1)])
        num_nonfinite = self._values.eq_(-torch.inf).sum()
        spread = disagreement(self._model, path[:-1], actions)
        self._known.write((value, returns.std(correction=0), num_nonfinite, spread, actions, path, optimiser.elites,
                           optimiser.elite_values))
        optimiser.advance()

    def _evaluate(self, actions: torch.Tensor,
                  out: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Path, returns and values of sequences, the last written to `out`."""
        path = rollout(self._model, self._start, actions, self._draws)
        returns = particle_returns(self._objective, path, actions, self._start, self._model)
        return path, returns, self._aggregation(returns, path, self._model, out=out)


def _candidate(index: torch.Tensor, actions: torch.Tensor, returns: torch.Tensor,
               path: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sequence, returns and path of one of N candidates, by its index, shape (1,), on the device."""
    return actions.index_select(0, index), returns.index_select(1, index), path.index_select(2, index)


class _Packed:
    """Tensors that lie one after another, as it takes one operation to write, to choose between or to bring them to the host.

    Args:
        shapes: Of the tensors.
        device: Where they are.

    Attributes:
        numbers: All of them, one-dimensional.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], device: torch.device) -> None:
        self._shapes, self._sizes = shapes, [math.prod(shape) for shape in shapes]
        self.numbers = torch.zeros(sum(self._sizes), device=device)

    def parts(self) -> list[torch.Tensor]:
        """The tensors."""
        return [part.view(shape) for part, shape in zip(self.numbers.split(self._sizes), self._shapes)]

    def fetch(self) -> list[np.ndarray]:
        """Their numbers on the host, as float64; waits for them."""
        numbers = self.numbers.cpu().numpy().astype(np.float64)
        starts = itertools.accumulate(self._sizes, initial=0)
        return [numbers[start:start + size].reshape(shape) for start, size, shape in zip(starts, self._sizes, self._shapes)]

    def write(self, parts: Sequence[torch.Tensor], where: torch.Tensor | None = None) -> None:
        """Write the tensors, all or none of them, which is up to a boolean on the device."""
        flat = [part.flatten() for part in parts]
        if where is None:
            torch.cat(flat, out=self.numbers)
        else:
            torch.where(where, torch.cat(flat), self.numbers, out=self.numbers)
