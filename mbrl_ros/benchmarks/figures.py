"""Figures of a benchmark as a JSON file."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write mappings, sequences, texts and numbers as JSON, and make the folder; numbers that are not finite become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(figures), indent=2, allow_nan=False) + '\n', encoding='utf-8')


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
