"""The work that planners are measured on: one network, reward and stream of observations for all, and the floor of any planner.

The yardstick is the setting of PETS (Chua et al. 2018); the everyday setting is what the controller plans with by default.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from mbrl_ros.models.ensemble.ensemble import Ensemble, EnsembleConfig
from mbrl_ros.models.ensemble.kernels.cuda_graph import Captured
from mbrl_ros.models.ensemble.linear import LinearPart
from mbrl_ros.models.ensemble.normalizer import Normalizer
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.predictor import tf32_products

#: Log-variance bounds of the measured networks; steps stay so small that 30 of them do not leave the useful range of inputs.
_LOGVAR_BOUNDS = (-12.0, -6.0)
_ACTION_COST = 0.1


@dataclasses.dataclass(frozen=True)
class NetworkSize:
    """Sizes of an ensemble of `ensemble_size` probabilistic networks."""

    obs_size: int = 25
    action_size: int = 8
    ensemble_size: int = 5
    hidden_layers: int = 4
    hidden_size: int = 200

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each weight matrix of one member."""
        sizes = [self.obs_size + self.action_size, *[self.hidden_size] * self.hidden_layers, 2 * self.obs_size]
        return list(zip(sizes, sizes[1:]))

    @property
    def flops(self) -> int:
        """Floating-point operations of one member's matrix products for one row."""
        return 2 * sum(rows * columns for rows, columns in self.layers)


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """Rollouts evaluated at once: H steps of P particles of N candidates.

    Attributes:
        horizon: H.
        particles: P.
        candidates: N.
        first_particles: Particles that the first step was computed for. Fewer than P if all particles of a member, which start
            from one state, share it; 0 for all.
    """

    horizon: int
    particles: int
    candidates: int
    first_particles: int = 0

    @property
    def rows(self) -> list[int]:
        """Rows of each step that went through one member of the ensemble, summed over members."""
        first = (self.first_particles or self.particles) * self.candidates
        return [first, *[self.particles * self.candidates] * (self.horizon - 1)]

    @property
    def evaluations(self) -> int:
        """Model evaluations: rows of all steps."""
        return sum(self.rows)


class CountedObjective:
    """A reward that records what it scored; implements `planning.Objective`.

    Args:
        reward: Reward whose calls are counted.
        ensemble_size: E; each member predicts the first step of all its particles at once.
        num_particles: P, rounded up to a multiple of E. The planner may score the particles a few at a time.

    Attributes:
        scored: One entry for each time that all particles were scored.
    """

    def __init__(self, reward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], ensemble_size: int,
                 num_particles: int) -> None:
        self._reward, self._ensemble_size = reward, ensemble_size
        self._num_particles = ensemble_size * math.ceil(num_particles / ensemble_size)
        self._particles = 0
        self.scored: list[Rollouts] = []

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Reward of each step, shape (H, P, N); obs (H, P, N, O), action broadcast against it."""
        reward = self._reward(obs, action)
        horizon, particles, candidates = reward.shape
        self._particles += particles
        if self._particles == self._num_particles:
            self.scored.append(Rollouts(horizon, self._particles, candidates, first_particles=self._ensemble_size))
            self._particles = 0
        return reward


def quadratic_reward(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Reward for being near the origin with little effort; shapes (..., O) and (..., A) to (...)."""
    return -(obs.square().mean(dim=-1) + _ACTION_COST * action.square().mean(dim=-1))


class QuadraticObjective:
    """`quadratic_reward` as a `planning.captured.ParametricObjective`, which a GPU plans with without launch gaps.

    Its parameter, shape (1,), is the weight of the squared action; below zero, because effort costs.
    """

    kind = 'quadratic'

    def __init__(self, parameters: torch.Tensor | None = None) -> None:
        self.parameters = torch.tensor([-_ACTION_COST]) if parameters is None else parameters

    def at(self, parameters: torch.Tensor) -> 'QuadraticObjective':
        """The same function with its parameters in another tensor."""
        return QuadraticObjective(parameters)

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """As `quadratic_reward`."""
        return self.parameters[0] * action.square().mean(dim=-1) - obs.square().mean(dim=-1)


def random_parameters(size: NetworkSize, seed: int = 0) -> DynamicsParameters:
    """An untrained ensemble, which costs as much as a trained one; the same seed gives the same weights."""
    config = EnsembleConfig(ensemble_size=size.ensemble_size, hidden_layers=size.hidden_layers, hidden_size=size.hidden_size)
    inputs = size.obs_size + size.action_size
    network = Ensemble(inputs, size.obs_size, config, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        network.min_logvar.fill_(_LOGVAR_BOUNDS[0])
        network.max_logvar.fill_(_LOGVAR_BOUNDS[1])
    linear = LinearPart(torch.zeros(size.ensemble_size, inputs, size.obs_size), torch.zeros(size.ensemble_size, 1, size.obs_size))
    weights = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    return DynamicsParameters(Normalizer.identity(inputs), Normalizer.identity(size.obs_size), linear,
                              torch.ones(size.obs_size), weights)


def observation_stream(size: NetworkSize, count: int, seed: int = 0) -> np.ndarray:
    """Successive observations like those of a wandering arm, shape (count, O), float64."""
    steps = np.random.default_rng(seed).normal(scale=0.2, size=(count, size.obs_size))
    stream = np.zeros((count, size.obs_size))
    for index in range(1, count):
        stream[index] = 0.9 * stream[index - 1] + steps[index]
    return stream


class MatrixProducts:
    """The floor: only the matrix products of given rollouts, in order, in a precision as for `Predictor`.

    The products are written into buffers made beforehand, as one batched product over members or one product a member,
    whichever is faster in the warm-up.

    Raises:
        ValueError: Particles times candidates are no multiple of the ensemble size.
    """

    def __init__(self, size: NetworkSize, scored: Sequence[Rollouts], precision: str = 'float32',
                 device: torch.device | str = 'cpu') -> None:
        self._size, self._scored, self._device = size, list(scored), torch.device(device)
        self._is_tf32, dtype = precision == 'tf32', getattr(torch, 'float32' if precision == 'tf32' else precision)
        self._weights = [(torch.randn(size.ensemble_size, *shape) / shape[0] ** 0.5).to(device, dtype) for shape in size.layers]
        self._buffers = {}
        for rows in {rows for rollouts in scored for rows in self._member_rows(rollouts)}:
            self._buffers[rows] = [torch.randn(size.ensemble_size, rows, columns).to(device, dtype)
                                   for columns in [size.layers[0][0], *(columns for _, columns in size.layers)]]
        self._run = min(map(self._products, (_batched, _by_member)), key=self._trial_s)

    @property
    def num_products(self) -> int:
        """Products of a (rows, inputs) and an (inputs, outputs) matrix, counted for each member."""
        return sum(rollouts.horizon for rollouts in self._scored) * self._size.ensemble_size * len(self._size.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations of all products."""
        return sum(rollouts.evaluations for rollouts in self._scored) * self._size.flops

    @torch.inference_mode()
    def run(self) -> None:
        """Compute all products."""
        self._run()
        synchronize(self._device)

    def _products(self, multiply: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]) -> Callable[[], None]:
        """A function that computes all products; on a GPU one launch."""
        def run() -> None:
            with tf32_products(self._is_tf32):
                for rollouts in self._scored:
                    for rows in self._member_rows(rollouts):
                        buffers = self._buffers[rows]
                        for inputs, weight, outputs in zip(buffers, self._weights, buffers[1:]):
                            multiply(inputs, weight, outputs)

        return Captured(run, self._device) if self._device.type == 'cuda' else run

    def _member_rows(self, rollouts: Rollouts) -> list[int]:
        """Rows of each member at each step."""
        if any(rows % self._size.ensemble_size for rows in rollouts.rows):
            raise ValueError(f'{rollouts} cannot be shared evenly among {self._size.ensemble_size} members')
        return [rows // self._size.ensemble_size for rows in rollouts.rows]

    def _trial_s(self, run: Callable[[], None]) -> float:
        self._run = run
        times = []
        for _ in range(3):
            start = time.perf_counter()
            self.run()
            times.append(time.perf_counter() - start)
        return min(times)


def _batched(inputs: torch.Tensor, weight: torch.Tensor, outputs: torch.Tensor) -> None:
    torch.bmm(inputs, weight, out=outputs)


def _by_member(inputs: torch.Tensor, weight: torch.Tensor, outputs: torch.Tensor) -> None:
    for member in range(len(inputs)):
        torch.mm(inputs[member], weight[member], out=outputs[member])


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def time_interleaved(contenders: Mapping[str, Callable[[int], object]], *, calls: int, warmup: int = 2) -> dict[str, list[float]]:
    """Wall times of contenders that take turns, so that other load on the machine slows all of them alike.

    Args:
        contenders: Functions of the number of the call, by name; the number selects their input.
        calls: Timed calls of each contender.
        warmup: Calls of each contender beforehand, not timed.

    Returns:
        Milliseconds of each call, by contender.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in range(-warmup, calls):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender(call + warmup)
            if call >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def summary(times_ms: Sequence[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile."""
    return {'median_ms': statistics.median(times_ms), 'p95_ms': float(np.percentile(times_ms, 95)),
            'p99_ms': float(np.percentile(times_ms, 99))}
