"""The compiled library for learning and prediction, if there is one.

Installing the package compiles it if there is a compiler. It needs AVX2 or AVX-512 for float32, and AVX-512 with the instructions
of the type for bfloat16 and float16. Everywhere else `is_supported` is false and torch does the work. The library shares the
OpenMP threads of torch; with threads of its own, those of torch would spin on the same cores while they wait for work.
"""

import ctypes
import functools
import warnings
from collections.abc import Callable
from importlib import util

#: As `mbrl_interface` in fused.c; increases with every change of the arguments between Python and C.
INTERFACE = 2
#: Kinds of compiled code for a precision, the fastest one first.
_KINDS = {'float32': ('float32', 'avx2'), 'bfloat16': ('bfloat16',), 'float16': ('float16',)}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library; None where it is missing or was compiled from other sources."""
    spec = util.find_spec('mbrl_ros.models.ensemble.kernels._native')
    if spec is None or spec.origin is None:
        return None
    return current(ctypes.CDLL(spec.origin), spec.origin)


def current(found: ctypes.CDLL, origin: str) -> ctypes.CDLL | None:
    """The library if it was compiled from these sources. Another one would read and write outside of its arguments."""
    if getattr(found, 'mbrl_interface', int)() == INTERFACE:
        return found
    warnings.warn(f'{origin} was compiled from other sources, and torch does its work; install the package again', RuntimeWarning,
                  stacklevel=2)
    return None


def is_supported(kind: str) -> bool:
    """Whether the processor can run a kind of code in the library: `avx2`, or `float32`, `bfloat16` or `float16` on AVX-512."""
    found = library()
    return found is not None and bool(getattr(found, f'mbrl_supports_{kind}')())


def fastest(precision: str, is_there: Callable[[str], bool] = is_supported) -> str | None:
    """The fastest kind of compiled code for products in a precision; None where torch does the work."""
    return next((kind for kind in _KINDS[precision] if is_there(kind)), None)


def kind_of(backend: str, precision: str) -> str | None:
    """The kind of compiled code that `backend` names, the fastest one for `auto`; None where torch does the work."""
    return fastest(precision) if backend == 'auto' else None if backend == 'torch' else backend
