"""The compiled part of learning and prediction, where there is one.

It is compiled when the package is installed, if there is a compiler, and used where the processor has what it needs: AVX-512, for
bfloat16 and float16 with its instructions for those, or AVX2 for float32; everywhere else `is_supported` says no and torch does
the work. Its threads are those of the OpenMP runtime that torch has loaded, so that none of torch's is still waiting for work,
and spinning, on a core that is needed here.
"""

import ctypes
import functools
import warnings
from collections.abc import Callable
from importlib import util

#: As `mbrl_interface` in fused.c; counts changes of what the two sides hand each other.
INTERFACE = 2
#: Kinds of compiled code for a precision, the fastest one first.
_KINDS = {'float32': ('float32', 'avx2'), 'bfloat16': ('bfloat16',), 'float16': ('float16',)}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled part; None where it was not compiled, or from other sources."""
    spec = util.find_spec('mbrl_ros.models.ensemble.kernels._native')
    if spec is None or spec.origin is None:
        return None
    return current(ctypes.CDLL(spec.origin), spec.origin)


def current(found: ctypes.CDLL, origin: str) -> ctypes.CDLL | None:
    """A compiled part, if it is of these sources; otherwise it would read and write past what it is handed."""
    if getattr(found, 'mbrl_interface', int)() == INTERFACE:
        return found
    warnings.warn(f'{origin} was compiled from other sources, and torch does its work; install the package again', RuntimeWarning,
                  stacklevel=2)
    return None


def is_supported(kind: str) -> bool:
    """Whether the compiled part is there and the processor has what it needs.

    Args:
        kind: Of vectors.h: `float32`, `bfloat16` or `float16` on AVX-512, or `avx2`.
    """
    found = library()
    return found is not None and bool(getattr(found, f'mbrl_supports_{kind}')())


def fastest(precision: str, is_there: Callable[[str], bool] = is_supported) -> str | None:
    """The kind of compiled code that is fastest here; None where torch does the work.

    Args:
        precision: Of products, `float32`, `bfloat16` or `float16`.
        is_there: Whether there is a kind.
    """
    return next((kind for kind in _KINDS[precision] if is_there(kind)), None)


def kind_of(backend: str, precision: str) -> str | None:
    """Kind of compiled code that is meant; None where torch does the work.

    Args:
        backend: `auto` for the fastest, `torch`, or a kind by name.
        precision: As for `fastest`.
    """
    return fastest(precision) if backend == 'auto' else None if backend == 'torch' else backend
