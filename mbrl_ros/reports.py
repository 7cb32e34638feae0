"""Reports as named texts, the form that diagnostic messages and bags have; pure, so that both can use it."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from mbrl_ros.errors import MeasurementError
from mbrl_ros.types import EpisodeReport, Phase, TrainingReport

ReportT = TypeVar('ReportT', EpisodeReport, TrainingReport)


def report_to_texts(report: EpisodeReport | TrainingReport) -> dict[str, str]:
    """Every field except the stamp as a text; `report_from_texts` restores the exact value."""
    return {field.name: text_of(getattr(report, field.name)) for field in dataclasses.fields(report) if field.name != 'stamp_ns'}


def report_from_texts(texts: Mapping[str, str], stamp_ns: int, kind: type[ReportT]) -> ReportT:
    """Parse a report from the texts of its fields; other texts are ignored.

    Fields with a default may be missing, as in recordings from before they existed.

    Raises:
        MeasurementError: Another field is missing, its text does not parse, or a count is negative.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {'stamp_ns': stamp_ns}
    for field in dataclasses.fields(kind):
        if field.name == 'stamp_ns':
            continue
        if field.name not in texts:
            if (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING):
                continue
            raise MeasurementError(f'{kind.__name__} lacks the field {field.name!r}')
        try:
            values[field.name] = _parse(texts[field.name], hints[field.name])
        except ValueError:
            raise MeasurementError(f'{kind.__name__}.{field.name} cannot be {texts[field.name]!r}') from None
    return kind(**values)


def text_of(value: Any) -> str:
    """Text of a value; of a float, the shortest text that parses to the same float; of sentences, a line each.

    Named numbers become `name=number`, with blanks between them.
    """
    if isinstance(value, Phase):
        return value.value
    if isinstance(value, Mapping):
        return ' '.join(f'{name}={text_of(number)}' for name, number in value.items())
    if isinstance(value, tuple):
        return ('\n' if value and isinstance(value[0], str) else ' ').join(map(text_of, value))
    return repr(float(value)) if isinstance(value, float) else str(value)


def _parse(text: str, hint: Any) -> Any:
    if hint is bool:
        if text not in ('True', 'False'):
            raise ValueError(text)
        return text == 'True'
    if hint == tuple[str, ...]:
        return tuple(text.splitlines())
    if typing.get_origin(hint) is Mapping:
        return {name: float(number) for name, _, number in (pair.partition('=') for pair in text.split())}
    if typing.get_origin(hint) is tuple:
        numbers = tuple(map(float, text.split()))
        if len(numbers) != len(typing.get_args(hint)) or not all(map(math.isfinite, numbers)):
            raise ValueError(text)
        return numbers
    return hint(text)
