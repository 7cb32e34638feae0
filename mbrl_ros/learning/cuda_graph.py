"""A function's work on a GPU without the time that launches take, to measure what remains."""

from collections.abc import Callable

import torch


def captured(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """What does the same to the same tensors, as one launch.

    Args:
        function: Works on tensors of the device and looks at none of them; called once beforehand.
        device: The GPU.
    """
    stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        function()
    stream.synchronize()
    # Other threads, which may be loading a model meanwhile, are free to do what a capture forbids.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
        function()
    return graph.replay
