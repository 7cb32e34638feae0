"""A captured function, for measuring its time on a GPU without the time of its launches."""

from collections.abc import Callable

import torch


class Captured:
    """Replays the operations of a function on the same tensors in one launch, without waiting for the GPU.

    Args:
        function: Computes on tensors of the device and reads no number on the host; called once before the capture.
        device: The GPU.
    """

    def __init__(self, function: Callable[[], object], device: torch.device) -> None:
        # The function is kept, because it may hold the only references to the graph's tensors.
        self._function, self._graph = function, torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            function()
        stream.synchronize()
        # Other threads may be loading a model meanwhile; `thread_local` allows them the calls that a capture forbids.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode='thread_local'):
            function()

    def __call__(self) -> None:
        """Replay."""
        self._graph.replay()
