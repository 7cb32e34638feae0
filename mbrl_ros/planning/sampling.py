"""The sampling planner: until time is up, an optimiser proposes candidates, which are rolled out and valued."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from mbrl_ros.errors import ConfigError, PlanningError, ShapeError
from mbrl_ros.planning.captured import CapturedSearch, CudaRecorder, Recorder, shared_kind
from mbrl_ros.planning.deadline import Deadline
from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.optimisers.registry import make_optimiser
from mbrl_ros.planning.planner import HIDDEN_UNITS, Objective, PlannerConfig, plan_bytes, resolve_device
from mbrl_ros.planning.search import BEGIN, FINISH, Search
from mbrl_ros.types import DynamicsModel, Plan, is_world_model


def make_planner(config: PlannerConfig, action_size: int, max_action_change: np.ndarray | None = None, is_directed: bool = False,
                 *, seed: int = 0, clock: Callable[[], float] = time.perf_counter) -> 'SamplingPlanner':
    """Planner with the optimiser and on the device that a config names.

    Args:
        config: Settings.
        action_size: A.
        max_action_change: Largest change of a normalised action within one step, shape (A,); None for no limit. Candidates keep
            to it, so that a command filter which limits acceleration does not change the plan.
        is_directed: Whether plans may give directions, along which several entries of an action vary together. Without directions
            each entry varies by itself.
        seed: Seed of all randomness until `reset`.
        clock: As for `SamplingPlanner`.

    Raises:
        ConfigError: The configured device does not exist, or `max_action_change` is negative or NaN.
        ShapeError: `max_action_change` is not (A,).
    """
    device = resolve_device(config.device)
    max_change = None
    if max_action_change is not None:
        max_change = _vector(max_action_change, action_size, 'max_action_change').to(device)
        if not bool((max_change >= 0.0).all()):
            raise ConfigError(f'max_action_change needs values of at least 0, got {np.asarray(max_action_change).tolist()}')
    generator = torch.Generator(device).manual_seed(seed)
    optimiser = make_optimiser(config, action_size, max_change, is_directed, generator=generator)
    return SamplingPlanner(config, optimiser, clock=clock, make_recorder=CudaRecorder if device.type == 'cuda' else None)


class SamplingPlanner:
    """Plans with any `Optimiser` over trajectory-sampled particles; implements `Planner`.

    All candidates of a plan share their particle draws, so values of different iterations can be compared. The result is the
    best candidate of all iterations. An optimiser whose `solution_is_mean` is true returns its final mean instead, or the best
    elite where the rollout of the mean is not finite.

    On a GPU a plan with a `CapturableModel` and a `ParametricObjective` is a few launches of captured graphs; see `captured`.
    The first such plan captures them, and so does the first with a model or objective of another kind, which takes about a
    second; `prepare` captures them beforehand. The graphs keep the memory of one plan.

    Args:
        config: Settings; those of the distribution are the optimiser's.
        optimiser: Proposes candidates; no other object may use it.
        clock: Seconds, monotonic; read only to honour deadlines and to report the planning time.
        make_recorder: Makes the recorder that captures the steps of plans, from the generator; None captures nothing.

    Attributes:
        device: Device of the planning; models must be on it.
        num_captures: How often steps were captured; a plan that captures takes longer.
    """

    def __init__(self, config: PlannerConfig, optimiser: Optimiser, *, clock: Callable[[], float] = time.perf_counter,
                 make_recorder: Callable[[torch.Generator], Recorder] | None = None) -> None:
        self.config, self.optimiser = config, optimiser
        self.device = optimiser.generator.device
        self.num_captures = 0
        self._clock, self._make_recorder = clock, make_recorder
        self._finish_s = 0.0
        self._captured: CapturedSearch | None = None

    def reset(self, seed: int) -> None:
        """Forget the warm start and seed all randomness anew."""
        self.optimiser.reset(seed)

    def prepare(self, model: DynamicsModel, obs: np.ndarray, objective: Objective) -> None:
        """Plan a few times and forget the plans; later ones are fast with any model and objective of the same kinds.

        Raises:
            PlanningError, ShapeError, ConfigError: As for `plan`.
        """
        seed = self.optimiser.generator.initial_seed()
        for deadline_s in (None, 0.0, None, None, None):
            self.plan(model, obs, objective, deadline_s=deadline_s)
        self.reset(seed)

    def check(self, model: DynamicsModel) -> None:
        """Check that plans with this model are possible.

        Raises:
            ShapeError: The model takes other actions, or is on another device.
            ConfigError: A plan would need more memory than `max_memory_mb`.
        """
        action_size = self.optimiser.mean.shape[1]
        if model.action_size != action_size:
            raise ShapeError(f'the planner plans {action_size} actions, the model takes {model.action_size}')
        device = model.output_scale.device
        if device.type != self.device.type or self.device.index not in (None, device.index):
            raise ShapeError(f'the planner plans on {self.device}, the model is on {device}')
        self.check_memory(model.obs_size, model.ensemble_size, getattr(model, 'hidden_units', HIDDEN_UNITS))

    def check_memory(self, obs_size: int, ensemble_size: int, hidden_units: int) -> None:
        """See `Planner.check_memory`.

        Raises:
            ConfigError: A plan would need more memory than `max_memory_mb`.
        """
        action_size = self.optimiser.mean.shape[1]
        needed_mb = plan_bytes(self.config, obs_size, action_size, ensemble_size, hidden_units) / 1e6
        if needed_mb > self.config.max_memory_mb:
            raise ConfigError(
                f'a plan of horizon {self.config.horizon}, population_size {self.config.population_size} and num_particles '
                f'{self.config.num_particles} with {ensemble_size} members and {obs_size} observations needs about '
                f'{needed_mb:.0f} MB, max_memory_mb allows {self.config.max_memory_mb}')

    @torch.inference_mode()
    def plan(self, model: DynamicsModel, obs: np.ndarray, objective: Objective, *, previous_action: np.ndarray | None = None,
             directions: np.ndarray | None = None, proposals: np.ndarray | None = None, deadline_s: float | None = None) -> Plan:
        """Plan one control tick; see `Planner.plan`.

        The first iteration always runs, whatever the deadline. Another one starts only if there is time left for the slowest
        iteration so far and for the final step of the last plan. Where the population shrinks, this estimate is too high.

        Raises:
            PlanningError: As for `Planner.plan`, or the deadline is NaN.
            ShapeError, ConfigError: As for `Planner.plan`.
        """
        deadline = Deadline(deadline_s, self._finish_s, self._clock, self.device)
        if directions is not None:
            self._direct(directions)
        search = self._loaded(model, obs, objective, previous_action, proposals)
        search.steps[BEGIN]()
        num_iterations, done = self.config.num_iterations, 0
        while done < num_iterations and (not done or deadline.leaves(1)):
            search.steps[done, done + 1 == num_iterations or not deadline.leaves(2)]()
            deadline.end_part()
            done += 1
        search.steps[FINISH]()
        plan = self._result(search, done, deadline.begin)
        self._finish_s = plan.elapsed_s - (deadline.ended - deadline.begin)
        return plan

    def _direct(self, directions: np.ndarray) -> None:
        size = self.optimiser.mean.shape[1]
        if not self.optimiser.is_directed:
            raise ShapeError('this planner tries each action by itself, and was given directions')
        matrix = np.asarray(directions, dtype=np.float64)
        if matrix.shape != (size, size) or not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < size:
            raise ShapeError(f'directions needs an invertible matrix of shape ({size}, {size}), got {matrix.tolist()}')
        self.optimiser.direct(torch.from_numpy(matrix))

    def _loaded(self, model: DynamicsModel, obs: np.ndarray, objective: Objective,
                previous_action: np.ndarray | None, proposals: np.ndarray | None) -> Search | CapturedSearch:
        """The search with its inputs loaded. It is never a captured one with proposals, whose number may change."""
        self.check(model)
        action_size = self.optimiser.mean.shape[1]
        first = _start(model, obs)
        previous = np.zeros(action_size) if previous_action is None else previous_action
        previous = _finite(_vector(previous, action_size, 'previous_action'), 'previous_action').clamp_(-1.0, 1.0)
        kind = shared_kind(model, objective) if self._make_recorder and proposals is None else None
        if kind is None:
            proposed = None if proposals is None else self._proposed(proposals)
            search = Search(self.config, self.optimiser, model, objective, proposals=proposed)
            search.load(first, previous)
            return search
        if self._captured is None or self._captured.kind != kind:
            self._captured = None  # Frees its memory before the next is allocated.
            self._captured = CapturedSearch(self.config, self.optimiser, model, objective,
                                            self._make_recorder(self.optimiser.generator))
            self.num_captures += 1
        self._captured.load(first, previous, model, objective)
        return self._captured

    def _proposed(self, proposals: np.ndarray) -> torch.Tensor:
        """Proposals on the device."""
        array, shape = np.asarray(proposals, dtype=np.float32), self.optimiser.mean.shape
        if array.ndim != 3 or array.shape[1:] != shape or not len(array) < self.config.population_size:
            raise ShapeError(f'proposals need shape (M, {shape[0]}, {shape[1]}) with M below {self.config.population_size}, '
                             f'got {array.shape}')
        if not np.isfinite(array).all():
            raise PlanningError('proposals need finite numbers')
        return torch.from_numpy(array).to(self.device)

    def _result(self, search: Search | CapturedSearch, iterations: int, start: float) -> Plan:
        """The plan; the only place where numbers come to the host."""
        value, value_std, num_nonfinite, spread, actions, path, elites, elite_values = search.results()
        if not math.isfinite(value):
            self.optimiser.forget()
            raise PlanningError(f'none of {int(num_nonfinite)} candidates has a finite return; '
                                'the model or the reward is not finite around the present state')
        is_elite = np.isfinite(elite_values)
        return Plan(actions, float(value), float(value_std), path, float(spread), elites[is_elite], elite_values[is_elite],
                    iterations, int(num_nonfinite), self._clock() - start)


def _start(model: DynamicsModel, obs: np.ndarray) -> torch.Tensor:
    """State that the plan starts from, shape (S,), on the host."""
    if not is_world_model(model):
        return _finite(_vector(obs, model.obs_size, 'obs'), 'obs')
    sensed = _finite(_vector(obs, model.sensed_size, 'obs'), 'obs').to(model.output_scale.device)
    return _finite(_vector(model.start(sensed).cpu().numpy(), model.obs_size, 'the state'), 'the state')


def _vector(values: np.ndarray, size: int, name: str) -> torch.Tensor:
    """One-dimensional array of real numbers as float32, on the host."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ShapeError(f'{name} needs shape ({size},): {error}') from None
    if array.dtype.kind not in 'fiu':
        raise ShapeError(f'{name} needs real numbers, got dtype {array.dtype}')
    if array.shape != (size,):
        raise ShapeError(f'{name} needs shape ({size},), got {array.shape}')
    return torch.as_tensor(array.astype(np.float64), dtype=torch.float32)


def _finite(vector: torch.Tensor, name: str) -> torch.Tensor:
    if not np.isfinite(vector.numpy()).all():
        broken = ', '.join(f'{index} ({vector[index]})' for index in torch.nonzero(~torch.isfinite(vector)).flatten().tolist())
        raise PlanningError(f'{name} needs finite numbers, got others in entries {broken}')
    return vector
