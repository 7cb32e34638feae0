"""PyBullet without the line about its build that it prints on stderr in each process that imports it."""

import os
from types import ModuleType

_STDERR = 2


def _silently() -> ModuleType:
    kept, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        import pybullet
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nowhere)
    return pybullet


pybullet = _silently()
