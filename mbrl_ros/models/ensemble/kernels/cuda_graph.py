"""A function's work on a GPU without the time that launches take, to measure what remains."""

from collections.abc import Callable

import torch


class Captured:
    """Does the same to the same tensors as a function, as one launch; does not wait for it.

    Args:
        function: Works on tensors of the device and looks at none of them; called once beforehand.
        device: The GPU.
    """

    def __init__(self, function: Callable[[], object], device: torch.device) -> None:
        # Nobody else may hold the tensors that the function works on.
        self._function, self._graph = function, torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            function()
        stream.synchronize()
        # Other threads, which may be loading a model meanwhile, are free to do what a capture forbids.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode='thread_local'):
            function()

    def __call__(self) -> None:
        """Do it again."""
        self._graph.replay()
