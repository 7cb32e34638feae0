"""The compiled part of learning and prediction, where there is one.

It is compiled when the package is installed, if there is a compiler, and used where the processor has what it needs: AVX-512, for
bfloat16 and float16 with its instructions for those, or AVX2 for predictions in float32; everywhere else `is_supported` says no
and torch does the work. It takes threads of its own, and they wait without spinning: a neighbour on the same cores costs it its
share of them and no more.
"""

import ctypes
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import util


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled part; None where it was not compiled."""
    spec = util.find_spec('mbrl_ros.learning._native')
    if spec is None or spec.origin is None:
        return None
    return ctypes.CDLL(spec.origin)


def is_supported(kind: str) -> bool:
    """Whether the compiled part is there and the processor has what it needs.

    Args:
        kind: Of vectors.h: `float32`, `bfloat16` or `float16` on AVX-512, or `avx2`.
    """
    found = library()
    return found is not None and bool(getattr(found, f'mbrl_supports_{kind}')())


def on_threads(num_threads: int, call: Callable[[], int]) -> bool:
    """Make the same call on several threads, this one among them; the calls share their work through a counter.

    Returns:
        Whether all of them returned 0.
    """
    helpers = [_threads().submit(call) for _ in range(num_threads - 1)]
    failed = call()
    # By now all work is taken: a helper that has not begun is not waited for.
    return not any([failed, *(helper.result() for helper in helpers if not helper.cancel())])


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix='native')
