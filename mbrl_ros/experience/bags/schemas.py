"""Message definitions as texts for a bag, read from the installed message packages.

A bag with the definitions of its messages can be decoded on a machine without those packages.
"""

import functools
import json
import os
import re
import sys
from pathlib import Path

from mbrl_ros.errors import BagError

_SEPARATOR = '=' * 80
_BUILT_IN = frozenset(('bool', 'byte', 'char', 'float32', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32',
                       'int64', 'uint64', 'string', 'wstring', 'duration', 'time'))
_FIELD = re.compile(r'^\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[a-z]\w*')


@functools.cache
def schema_text(message_type: str) -> str:
    """Definition of a type, then the definitions of every type that it uses (encoding `ros2msg`).

    Args:
        message_type: As `sensor_msgs/msg/JointState`.

    Raises:
        BagError: The type, or a type that it uses, is not installed.
    """
    texts: dict[str, str] = {}
    waiting = [message_type]
    while waiting:
        name = waiting.pop(0)
        if name not in texts:
            texts[name] = _share_file(name, '.msg').read_text(encoding='utf-8')
            waiting += _used_types(name, texts[name])
    first, *others = texts
    return texts[first] + ''.join(f'\n{_SEPARATOR}\nMSG: {name.replace("/msg/", "/")}\n{texts[name]}' for name in others)


@functools.cache
def type_hash(message_type: str) -> str:
    """Hash of a type (REP 2016); empty if the installation does not record it."""
    try:
        entries = json.loads(_share_file(message_type, '.json').read_text(encoding='utf-8'))['type_hashes']
    except (BagError, ValueError, KeyError):
        return ''
    return next((entry['hash_string'] for entry in entries if entry['type_name'] == message_type), '')


def _share_file(message_type: str, suffix: str) -> Path:
    package, _, name = message_type.partition('/msg/')
    prefixes = [*filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    for prefix in prefixes:
        path = Path(prefix) / 'share' / package / 'msg' / f'{name}{suffix}'
        if name and path.is_file():
            return path
    raise BagError(f'the message type {message_type!r} is not installed under {", ".join(prefixes)}')


def _used_types(message_type: str, text: str) -> list[str]:
    package = message_type.partition('/')[0]
    used = []
    for line in text.splitlines():
        match = _FIELD.match(line.partition('#')[0])
        if not match or match[1] in _BUILT_IN:
            continue
        owner, _, name = match[1].rpartition('/')
        used.append(f'{owner.removesuffix("/msg") or package}/msg/{name}')
    return used
