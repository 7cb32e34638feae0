"""The machine at hand, in words, for whoever prints a figure measured on it."""

import os
import platform
from pathlib import Path
from typing import Any

_MATRIX_FLAGS = ('amx_bf16', 'avx512_bf16', 'avx512f', 'avx2')


def processor() -> str:
    """Name of the processor, as the operating system gives it."""
    return _cpu_info('model name') or platform.machine()


def matrix_instructions() -> str:
    """Instructions for matrix products that the processor has, the fastest first."""
    flags = _cpu_info('flags').split()
    return ', '.join(flag for flag in _MATRIX_FLAGS if flag in flags) or 'unknown'


def describe_machine() -> str:
    """Processor, cores and Python."""
    return f'{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}'


def machine_figures(threads: int) -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {'description': describe_machine(), 'cores': os.cpu_count(), 'instructions': matrix_instructions(),
            'torch': torch.__version__, 'threads': threads, 'gpu': gpu}


def machine_line(machine: dict[str, Any]) -> str:
    """The same in a line."""
    gpu = f', {machine["gpu"]}' if machine['gpu'] else ''
    return f'{machine["description"]}{gpu}; torch {machine["torch"]}, {machine["threads"]} threads; {machine["instructions"]}'


def _cpu_info(key: str) -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return ''
    return next((line.partition(':')[2].strip() for line in lines if line.partition(':')[0].strip() == key), '')
