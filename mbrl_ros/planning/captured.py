"""Plans without launch gaps: the steps of a `Search`, captured once as CUDA graphs and then replayed.

A replayed step is one launch, whatever the number of its operations, and runs no Python. Its inputs are tensors only.
`Search.load` writes observation, previous action and the objective's parameters. The model of the graphs is a private copy,
whose tensors are overwritten when a plan comes with another model of the same kind.
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

#: The first allocates tensors; the second writes into them, as every later plan does.
_WARM_UPS = 2


class CapturableModel(DynamicsModel, Protocol):
    """A model whose predictions consist of torch operations on tensors.

    Attributes:
        kind: Equal for models that differ only in the values of `tensors`; None for a model that cannot be captured.
    """

    kind: Hashable

    def tensors(self) -> list[torch.Tensor]:
        """All tensors that a prediction depends on, in a fixed order."""


class ParametricObjective(Objective, Protocol):
    """An objective with all of its changing numbers in one tensor.

    Attributes:
        kind: Equal for objectives that differ only in the values of `parameters`.
        parameters: The changing numbers, shape (M,) with M above 0, on the host.
    """

    kind: Hashable
    parameters: torch.Tensor

    def at(self, parameters: torch.Tensor) -> Objective:
        """The same objective, which reads this tensor at each call and computes on the tensor's device."""


class Recorder(Protocol):
    """Records the operations of a function on tensors for replay."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call it once, as preparation for `capture`."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """A callable that repeats the operations of the function on the same tensors."""


class CudaRecorder:
    """Captures CUDA graphs that share one memory pool; two of them must not be replayed at the same time.

    Args:
        generator: Source of randomness of the captured functions; replays follow its seed too.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        # Capturing is not allowed on the default stream. Graphs also refer to the workspace that cuBLAS has for each stream;
        # a stream shared with another recorder would share one that may be freed earlier.
        self._stream = torch.cuda.Stream(generator.device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call it outside of any capture, where a first call may initialise libraries and allocate memory."""
        around = torch.cuda.current_stream(self._generator.device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            function()
        around.wait_stream(self._stream)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Replay of a graph of all launches of the function; capturing launches nothing."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        # Other threads may be loading a model meanwhile; `thread_local` allows them the calls that a capture forbids.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode='thread_local'):
            function()
        return graph.replay


def shared_kind(model: DynamicsModel, objective: Objective) -> Hashable:
    """Key of the captured steps that plans can share; None where model or objective cannot be captured."""
    kinds = getattr(model, 'kind', None), getattr(objective, 'kind', None)
    return None if None in kinds else kinds


class CapturedSearch:
    """A `Search` with replayed steps, for any model and objective of one kind; the same seed gives the same plans.

    Capturing leaves optimiser and generator as they were.

    Args:
        config: Settings.
        optimiser: Proposes candidates; its tensors must keep their addresses.
        model: Any model of the kind.
        objective: Any objective of the kind.
        recorder: Captures the steps.

    Attributes:
        kind: The `shared_kind` of model and objective.
        steps: As for `Search`.
    """

    def __init__(self, config: PlannerConfig, optimiser: Optimiser, model: CapturableModel, objective: ParametricObjective,
                 recorder: Recorder) -> None:
        self.kind = shared_kind(model, objective)
        # Tensors made in inference mode, the generator's among them, could not be written to in any other mode.
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
        """Copy the inputs of a plan to the device; `start` and `previous` as for `Search.load`."""
        if model is not self._model:
            torch._foreach_copy_(self._twin.tensors(), model.tensors())
            self._model = model
        self._search.load(start, previous, objective.parameters)

    def results(self) -> list[np.ndarray]:
        """As `Search.results`."""
        return self._search.results()
