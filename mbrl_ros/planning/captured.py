"""Plans without launch gaps: the steps of a `Search`, captured once as CUDA graphs and replayed from then on.

A replayed step is one launch, however many small operations it is made of, and nothing of it is decided in Python any more.
Numbers reach it through tensors alone: observation, previous action and the objective's parameters through those that
`Search.load` writes, a model through a private twin whose tensors are overwritten when another model of the same kind comes.
"""

import copy
from collections.abc import Callable, Hashable
from typing import Protocol

import numpy as np
import torch

from mbrl_ros.planning.optimisers.base import Optimiser
from mbrl_ros.planning.planner import Objective, PlannerConfig
from mbrl_ros.planning.search import Search
from mbrl_ros.types import DynamicsModel

#: The first makes tensors that the second writes into, as every later plan does.
_WARM_UPS = 2


class CapturableModel(DynamicsModel, Protocol):
    """A model whose predictions are torch's operations on tensors, and nothing else.

    Attributes:
        kind: Equal for models that differ in nothing but the numbers in `tensors`; None for one that cannot be captured.
    """

    kind: Hashable

    def tensors(self) -> list[torch.Tensor]:
        """Everything that a prediction depends on, in a fixed order."""


class ParametricObjective(Objective, Protocol):
    """An objective whose changing numbers are one tensor.

    Attributes:
        kind: Equal for objectives that differ in nothing but the numbers in `parameters`.
        parameters: Those numbers, shape (M,) with M above 0, on the host.
    """

    kind: Hashable
    parameters: torch.Tensor

    def at(self, parameters: torch.Tensor) -> Objective:
        """The same objective, which reads its numbers from this tensor whenever it is called, on the tensor's device."""


class Recorder(Protocol):
    """Remembers what functions did to tensors, to have it done again."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call it once, as preparation for `capture`."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """What does the same to the same tensors each time it is called."""


class CudaRecorder:
    """Captures CUDA graphs that share one memory pool; never replay two of them at a time.

    Args:
        generator: Source of randomness of what is captured; seeding it anew holds for replays too.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        # Capturing is not allowed on the default stream. A stream of its own also keeps the workspaces that cuBLAS has for each
        # stream, and that graphs refer to, apart from those of other recorders, which may go away earlier.
        self._stream = torch.cuda.Stream(generator.device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, function: Callable[[], None]) -> None:
        """Have libraries and allocations that come with a first call made outside of any capture."""
        around = torch.cuda.current_stream(self._generator.device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            function()
        around.wait_stream(self._stream)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Replay of a graph of everything that the function launches; capturing launches nothing."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        # Other threads, which may be loading a model meanwhile, are free to do what a capture forbids.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode='thread_local'):
            function()
        return graph.replay


def shared_kind(model: DynamicsModel, objective: Objective) -> Hashable:
    """What has to be equal for plans to share captured steps; None where model or objective cannot be captured."""
    kinds = getattr(model, 'kind', None), getattr(objective, 'kind', None)
    return None if None in kinds else kinds


class CapturedSearch:
    """A `Search` whose steps are replayed: the same plans from the same seed, with any model and objective of one kind.

    Capturing leaves optimiser and generator as they were.

    Args:
        config: Settings.
        optimiser: What proposes candidates; its tensors must stay where they are.
        model: Any model of the kind.
        objective: Any objective of the kind.
        recorder: What captures.

    Attributes:
        kind: As `shared_kind` has it.
        steps: As those of `Search`.
    """

    def __init__(self, config: PlannerConfig, optimiser: Optimiser, model: CapturableModel, objective: ParametricObjective,
                 recorder: Recorder) -> None:
        self.kind = shared_kind(model, objective)
        # Outside of inference mode, as its tensors, the generator's among them, could not be written to in any other mode.
        with torch.inference_mode(False), torch.no_grad():
            self._model, self._twin = model, copy.deepcopy(model)
            self._search = Search(config, optimiser, self._twin, objective, len(objective.parameters))
            state, tensors = optimiser.generator.get_state(), optimiser.tensors()
            kept = [tensor.clone() for tensor in tensors]
            for _ in range(_WARM_UPS):
                for step in self._search.steps.values():
                    recorder.warm_up(step)
            self.steps = {key: recorder.capture(step) for key, step in self._search.steps.items()}
            torch._foreach_copy_(tensors, kept)
            optimiser.generator.set_state(state)

    def load(self, start: torch.Tensor, previous: torch.Tensor, model: CapturableModel, objective: ParametricObjective) -> None:
        """Bring the numbers of a plan to the device; `start` and `previous` as for `Search.load`."""
        if model is not self._model:
            torch._foreach_copy_(self._twin.tensors(), model.tensors())
            self._model = model
        self._search.load(start, previous, objective.parameters)

    def results(self) -> list[np.ndarray]:
        """As `Search.results`."""
        return self._search.results()
