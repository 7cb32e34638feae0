"""Hypothesis strategies for any ROS message, and for bytes that claim to be one."""

import importlib
from typing import Any

from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from rosidl_parser import definition

#: Little-endian CDR, as every message on the wire begins.
CDR = b'\x00\x01\x00\x00'

_INTEGERS = {f'{sign}int{bits}': (-2**(bits - 1), 2**(bits - 1) - 1) if not sign else (0, 2**bits - 1)
             for sign in ('', 'u') for bits in (8, 16, 32, 64)}


def message_class(name: str) -> type:
    """Class of a type such as `sensor_msgs/msg/JointState`."""
    package, _, kind = name.partition('/msg/')
    return getattr(importlib.import_module(f'{package}.msg'), kind)


def messages(kind: type, words: list[str]) -> st.SearchStrategy[Any]:
    """Messages of a class with anything in their fields.

    Args:
        kind: The class.
        words: Strings that the receivers know, so that some messages get past the first check.
    """
    fields = {name: _values(slot, words) for name, slot in zip(kind.get_fields_and_field_types(), kind.SLOT_TYPES)}
    return st.builds(kind, **fields)


def random_bytes() -> st.SearchStrategy[bytes]:
    """Bytes, half of them with the beginning of a message."""
    return st.builds(bytes.__add__, st.sampled_from([b'', CDR]), st.binary(max_size=300))


@st.composite
def damaged(draw: st.DrawFn, message: Any) -> bytes:
    """A sound message on the wire, cut short or with some bytes overwritten."""
    data = bytearray(serialize_message(message))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(len(CDR), len(data) - 1))
        patch = draw(st.sampled_from([b'\x00', b'\xff', b'\xff\xff\xff\xff', b'\xff\xff\xff\x7f', b'\x00\x00\xf8\x7f'])
                     | st.binary(min_size=1, max_size=8))
        data[place:place + len(patch)] = patch
    return bytes(data[:draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def _values(slot: Any, words: list[str]) -> st.SearchStrategy[Any]:
    if isinstance(slot, definition.BasicType):
        return _basic(slot.typename)
    if isinstance(slot, definition.AbstractGenericString):
        return st.sampled_from(words) | st.text(max_size=20)
    if isinstance(slot, definition.Array):
        return st.lists(_values(slot.value_type, words), min_size=slot.size, max_size=slot.size)
    if isinstance(slot, definition.AbstractSequence):
        return st.lists(_values(slot.value_type, words), max_size=8)
    return messages(getattr(importlib.import_module('.'.join(slot.namespaces)), slot.name), words)


def _basic(typename: str) -> st.SearchStrategy[Any]:
    if typename in ('double', 'float'):
        return st.floats(width=64 if typename == 'double' else 32) | st.sampled_from([0.0, 1.0, -0.5])
    if typename == 'boolean':
        return st.booleans()
    if typename == 'octet':
        return st.binary(min_size=1, max_size=1)
    return st.integers(*_INTEGERS[typename])
