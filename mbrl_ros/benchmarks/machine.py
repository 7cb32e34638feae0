"""Description of this machine, printed beside figures measured on it."""

import os
import platform
from pathlib import Path
from typing import Any

#: Flags of instructions for matrix products, the fastest first.
_MATRIX_FLAGS = ('amx_bf16', 'avx512_bf16', 'avx512f', 'avx2')


def describe_machine() -> str:
    """Processor, cores and Python."""
    return f'{_cpu_info("model name") or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}'


def machine_figures(threads: int) -> dict[str, Any]:
    """Description of the machine and of torch, for figures measured with these threads."""
    import torch

    flags = _cpu_info('flags').split()
    return {'description': describe_machine(), 'cores': os.cpu_count(),
            'instructions': ', '.join(flag for flag in _MATRIX_FLAGS if flag in flags) or 'unknown',
            'torch': torch.__version__, 'threads': threads,
            'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None}


def machine_line(machine: dict[str, Any]) -> str:
    """The description as one line."""
    gpu = f', {machine["gpu"]}' if machine['gpu'] else ''
    return f'{machine["description"]}{gpu}; torch {machine["torch"]}, {machine["threads"]} threads; {machine["instructions"]}'


def _cpu_info(key: str) -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return ''
    return next((line.partition(':')[2].strip() for line in lines if line.partition(':')[0].strip() == key), '')
