"""The search for one plan as a list of steps that write fixed tensors in place."""

import functools
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
    """Searches for the best sequence on the device; no step reads a number on the host.

    A plan is `load`, the step `BEGIN`, one step an iteration, the step `FINISH`, and `results`. A step takes and returns
    nothing: it reads and writes tensors at fixed addresses, so that it can be recorded in one plan and replayed in the next.

    Args:
        config: Settings.
        optimiser: Proposes candidates.
        model: Dynamics on the optimiser's device.
        objective: What to maximise.
        num_parameters: Count of the objective's parameters that `load` copies; 0 for none. See `ParametricObjective`.
        proposals: Sequences that replace samples of the first iteration, shape (M, H, A); None for none.

    Attributes:
        steps: The steps by their keys, in the order of a plan.
    """

    def __init__(self, config: PlannerConfig, optimiser: Optimiser, model: DynamicsModel, objective: Objective,
                 num_parameters: int = 0, proposals: torch.Tensor | None = None) -> None:
        self._proposals = proposals
        self._optimiser, self._aggregation = optimiser, Aggregation(config)
        device = optimiser.generator.device
        sizes = [model.obs_size, model.action_size, num_parameters]
        # Copies from pinned memory do not wait. It is written again only after the plan's results have arrived.
        self._staged = torch.zeros(sum(sizes), pin_memory=device.type == 'cuda')
        self._inputs = self._staged if device.type == 'cpu' else torch.zeros(sum(sizes), device=device)
        self._start, self._previous, parameters = self._inputs.split(sizes)
        self._model, self._objective = model, objective.at(parameters) if num_parameters else objective
        self._draws = ParticleDraws.undrawn(model, config.horizon, config.num_particles, config.propagation, device)
        # Values of all candidates of all iterations; zero at unused places.
        self._values = torch.zeros((config.num_iterations, most_candidates(config)), device=device)
        horizon, particles, *_ = self._draws.noise.shape
        sequence, path = (horizon, model.action_size), (horizon, particles, model.obs_size)
        # Value and actions of the best sequence, returns and path of its particles.
        self._best = _Packed(((), sequence, (particles,), path), device)
        self._results = _Packed(((), (), (), (), sequence, (horizon + 1, model.obs_size), optimiser.elites.shape,
                                 optimiser.elite_values.shape), device)
        self.steps: dict[Hashable, Callable[[], None]] = {BEGIN: self._begin}
        for iteration in range(config.num_iterations):
            # With a deadline any iteration may be the last.
            for is_last in (False, True) if iteration + 1 < config.num_iterations else (True,):
                self.steps[iteration, is_last] = functools.partial(self._iterate, iteration, is_last)
        self.steps[FINISH] = self._finish

    def load(self, start: torch.Tensor, previous: torch.Tensor, parameters: torch.Tensor | None = None) -> None:
        """Copy the inputs of a plan from the host to the device, float32.

        Args:
            start: Observation, shape (O,).
            previous: Action in effect, shape (A,), within [-1, 1].
            parameters: Parameters of the objective, shape (num_parameters,); None where num_parameters is 0.
        """
        torch.cat([start, previous] if parameters is None else [start, previous, parameters], out=self._staged)
        if self._inputs is not self._staged:
            self._inputs.copy_(self._staged, non_blocking=True)

    def results(self) -> list[np.ndarray]:
        """Results of the last step as float64 arrays on the host, in one transfer; waits for the device.

        Returns:
            Value, standard deviation over particles, number of candidates whose value is minus infinity, disagreement (each ()),
            sequence (H, A), its mean observations with the start (H + 1, O), elites (K, H, A) and their values (K,).
        """
        return [part.numpy() for part in self._results.split(self._results.numbers.cpu().double())]

    def _begin(self) -> None:
        self._draws.draw(self._optimiser.generator)
        self._optimiser.begin(self._previous)
        self._values.zero_()

    def _iterate(self, iteration: int, is_last: bool) -> None:
        actions = self._optimiser.ask(iteration, is_last)
        if self._proposals is not None and iteration == 0:
            # Candidate 0 may be the mean.
            actions[1:1 + len(self._proposals)] = self._optimiser.limited(self._proposals)
        path, returns, values = self._evaluate(actions, out=self._values[iteration, :len(actions)])
        if not self._optimiser.solution_is_mean:
            value, top = values.max(dim=0, keepdim=True)
            rival = value, *_candidate(top, actions, returns, path)
            self._best.write(rival, where=value > self._best.numbers[:1] if iteration else None)
        self._optimiser.tell(actions, values)

    def _finish(self) -> None:
        """Write the results. If the mean is the answer, roll it out; where it diverges, the best elite is the answer."""
        optimiser = self._optimiser
        if optimiser.solution_is_mean:
            actions = torch.stack([optimiser.mean, optimiser.elites[0]])
            path, returns, values = self._evaluate(actions)
            chosen = (values[:1] == -torch.inf).long()
            # `elite_values` is minus infinity for an elite of the last plan.
            value = torch.cat([values[:1], optimiser.elite_values[:1]]).index_select(0, chosen)
            self._best.write((value, *_candidate(chosen, actions, returns, path)))
        value, actions, returns, path = self._best.split(self._best.numbers)
        path = torch.cat([self._start.unsqueeze(0), path.mean(dim=1)])
        num_nonfinite = self._values.eq_(-torch.inf).sum()
        spread = disagreement(self._model, path[:-1], actions)
        self._results.write((value, returns.std(correction=0), num_nonfinite, spread, actions, path, optimiser.elites,
                             optimiser.elite_values))
        optimiser.advance()

    def _evaluate(self, actions: torch.Tensor,
                  out: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Path, returns and values of sequences; the values are written to `out`."""
        path = rollout(self._model, self._start, actions, self._draws)
        returns = particle_returns(self._objective, path, actions, self._start, self._model)
        return path, returns, self._aggregation(returns, path, self._model, out=out)


def _candidate(index: torch.Tensor, actions: torch.Tensor, returns: torch.Tensor,
               path: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sequence, returns and path of the candidate whose index, shape (1,), is on the device."""
    return actions.index_select(0, index), returns.index_select(1, index), path.index_select(2, index)


class _Packed:
    """Tensors in one buffer, so that one operation writes, selects or copies all of them.

    Args:
        shapes: Shapes of the tensors.
        device: Device of the buffer.

    Attributes:
        numbers: The buffer, one-dimensional.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], device: torch.device) -> None:
        self._shapes, self._sizes = shapes, [math.prod(shape) for shape in shapes]
        self.numbers = torch.zeros(sum(self._sizes), device=device)

    def split(self, numbers: torch.Tensor) -> list[torch.Tensor]:
        """The tensors as views of `numbers`, which is the buffer or a copy of it."""
        return [part.view(shape) for part, shape in zip(numbers.split(self._sizes), self._shapes)]

    def write(self, parts: Sequence[torch.Tensor], where: torch.Tensor | None = None) -> None:
        """Write all tensors if `where`, a boolean on the device, is true or None; otherwise none."""
        flat = [part.flatten() for part in parts]
        if where is None:
            torch.cat(flat, out=self.numbers)
        else:
            torch.where(where, torch.cat(flat), self.numbers, out=self.numbers)
