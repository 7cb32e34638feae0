"""One plan in the making: its tensors, made once and written in place, and the steps that write them, in order."""

import functools
from collections.abc import Callable, Hashable, Sequence

import torch

from mbrl_ros.errors import ShapeError
from mbrl_ros.planning.aggregation import Aggregation
from mbrl_ros.planning.optimisers import Optimiser
from mbrl_ros.planning.planner import Objective, PlannerConfig
from mbrl_ros.planning.propagation import ParticleDraws, disagreement, particle_returns, rollout
from mbrl_ros.types import DynamicsModel

#: Keys of the first and the last step; those between are pairs (iteration, is_last).
BEGIN, FINISH = 'begin', 'finish'


class Search:
    """Looks for the best sequence, all on the device and without a look at any number on the host.

    A plan is `load`, the step `BEGIN`, one step an iteration, the step `FINISH`, and `results`. A step takes nothing and
    returns nothing: it reads and writes tensors that stay where they are from the second plan on, so that what the steps did
    in one plan may be recorded and done again in the next.

    Args:
        config: Settings.
        optimiser: What proposes candidates.
        model: Dynamics on the optimiser's device.
        objective: What to maximise.
        num_parameters: Where `load` is to bring the objective's numbers too, how many they are; see `ParametricObjective`.

    Attributes:
        steps: The steps by their keys, in the order of a plan.
    """

    def __init__(self, config: PlannerConfig, optimiser: Optimiser, model: DynamicsModel, objective: Objective,
                 num_parameters: int = 0) -> None:
        self._config, self._optimiser, self._aggregation = config, optimiser, Aggregation(config)
        device = optimiser.generator.device
        sizes = [model.obs_size, model.action_size, num_parameters]
        # Pinned memory is copied from without waiting, and not written to again before the plan's results are there.
        self._staged = torch.zeros(sum(sizes), pin_memory=device.type == 'cuda')
        self._inputs = self._staged if device.type == 'cpu' else torch.zeros(sum(sizes), device=device)
        self._start, self._previous, parameters = self._inputs.split(sizes)
        self._model, self._objective = model, objective.at(parameters) if num_parameters else objective
        self._num_nonfinite = torch.zeros((), device=device)
        self._draws: ParticleDraws | None = None
        self._best: tuple[torch.Tensor, ...] = ()
        self._packed: torch.Tensor | None = None
        self._shapes: list[torch.Size] = []
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

    def results(self) -> list[torch.Tensor]:
        """What the last step left, brought to the host in one transfer, as float64; waits for it.

        Returns:
            Value, standard deviation over particles, count of candidates that were worth minus infinity, disagreement (each ()),
            sequence (H, A), its mean observations with the start (H + 1, O), elites (K, H, A) and their values (K,).
        """
        parts = self._packed.cpu().double().split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes)]

    # Steps.

    def _begin(self) -> None:
        config, optimiser = self._config, self._optimiser
        draws = ParticleDraws.sample(self._model, config.horizon, config.num_particles, config.propagation, optimiser.generator)
        if self._draws is None:
            self._draws = draws
        else:
            for name in ('order', 'members', 'noise', 'recast'):
                if getattr(draws, name) is not None:
                    getattr(self._draws, name).copy_(getattr(draws, name))
        optimiser.begin(self._previous)
        self._num_nonfinite.zero_()
        if self._best:
            self._best[0].fill_(-torch.inf)

    def _iterate(self, iteration: int, is_last: bool) -> None:
        actions = self._optimiser.ask(iteration, is_last)
        path, returns, values = self._evaluate(actions)
        self._num_nonfinite += (values == -torch.inf).sum()
        value, top = values.max(dim=0, keepdim=True)
        rival = (value, actions.index_select(0, top), returns.index_select(1, top), path.index_select(2, top).mean(dim=1))
        if self._best:
            self._replace_best(rival, where=value > self._best[0])
        else:
            self._best = rival
        self._optimiser.tell(actions, values)

    def _finish(self) -> None:
        """Roll out a mean that is to be the plan, unless it diverges, and put together what is known about the best."""
        optimiser = self._optimiser
        if optimiser.solution_is_mean:
            actions = optimiser.mean.unsqueeze(0)
            path, returns, value = self._evaluate(actions)
            self._replace_best((value, actions, returns, path.mean(dim=1)), where=torch.isfinite(value))
        value, actions, returns, path = self._best
        path = torch.cat([self._start.unsqueeze(0), path[:, 0]])
        spread = disagreement(self._model, path[:-1], actions[0])
        known = (value[0], returns.std(correction=0), self._num_nonfinite, spread, actions[0], path, optimiser.elites,
                 optimiser.elite_values)
        self._shapes = [tensor.shape for tensor in known]
        packed = torch.cat([tensor.flatten() for tensor in known])
        self._packed = packed if self._packed is None else self._packed.copy_(packed)
        optimiser.advance()

    def _evaluate(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        path = rollout(self._model, self._start, actions, self._draws)
        returns = particle_returns(self._score, path, actions)
        return path, returns, self._aggregation(returns, path, self._model)

    def _score(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The objective's answer, looked at before it is summed up, as shapes that broadcast add up to nonsense."""
        rewards = self._objective(obs, action)
        if not isinstance(rewards, torch.Tensor) or not rewards.is_floating_point() or rewards.device != obs.device:
            kind = f'{rewards.dtype} on {rewards.device}' if isinstance(rewards, torch.Tensor) else type(rewards).__name__
            raise ShapeError(f'the objective needs to return a floating-point tensor on {obs.device}, got {kind}')
        if rewards.shape not in (obs.shape[:-1], action.shape[:-1]):  # The second where only actions matter.
            raise ShapeError(f'the objective needs to return shape {tuple(obs.shape[:-1])} for obs of shape {tuple(obs.shape)}, '
                             f'got {tuple(rewards.shape)}')
        return rewards.expand(obs.shape[:-1])

    def _replace_best(self, rival: Sequence[torch.Tensor], where: torch.Tensor) -> None:
        for new, kept in zip(rival, self._best):
            torch.where(where, new, kept, out=kept)
