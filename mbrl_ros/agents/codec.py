"""Models as bytes: the safetensors format, with text metadata and a digest over every byte.

The header is written here, in one fixed order, so that equal models are equal bytes; it is read by the safetensors
library. The digest is taken over the whole message with its own 64 characters zeroed, so that nothing can change
unnoticed, padding included.
"""

import hashlib
import json
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch

from mbrl_ros.errors import SnapshotError

FORMAT = 'mbrl_ros.dynamics'
FORMAT_VERSION = 1

_LENGTH_BYTES = 8
_ALIGNMENT = 8
_NO_DIGEST = '0' * 64


def encode(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Serialise float32 tensors and text metadata; the same input gives the same bytes."""
    header: dict = {'__metadata__': {
        **metadata, 'format': FORMAT, 'format_version': str(FORMAT_VERSION), 'sha256': _NO_DIGEST}}
    payload = b''
    for name in sorted(tensors):
        data = tensors[name].detach().to('cpu', torch.float32).contiguous().numpy().astype('<f4').tobytes()
        header[name] = {'dtype': 'F32', 'shape': list(tensors[name].shape),
                        'data_offsets': [len(payload), len(payload) + len(data)]}
        payload += data
    text = json.dumps(header, sort_keys=True, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % _ALIGNMENT)
    blank = len(text).to_bytes(_LENGTH_BYTES, 'little') + text + payload
    return blank.replace(_NO_DIGEST.encode(), hashlib.sha256(blank).hexdigest().encode(), 1)


def decode(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of `encode`d bytes.

    Raises:
        SnapshotError: Truncated, foreign, of an unknown format version, or changed since it was written.
    """
    metadata = _metadata(data)
    if metadata.get('format') != FORMAT:
        raise SnapshotError(f'model data are not a dynamics model: the format is {metadata.get("format")!r}, not {FORMAT!r}')
    if metadata.get('format_version') != str(FORMAT_VERSION):
        raise SnapshotError(f'model data have the unknown format version {metadata.get("format_version")!r}; '
                            f'this program reads {FORMAT_VERSION}')
    digest = metadata.get('sha256', '')
    blank = data.replace(digest.encode(), _NO_DIGEST.encode(), 1) if len(digest) == len(_NO_DIGEST) else b''
    if hashlib.sha256(blank).hexdigest() != digest:
        raise SnapshotError(f'model data of {len(data)} bytes are damaged: their SHA-256 is not the one they carry')
    try:
        return safetensors.torch.load(data), metadata
    except (safetensors.SafetensorError, ValueError) as error:
        raise SnapshotError(f'model data are not valid safetensors ({error})') from None


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:_LENGTH_BYTES], 'little')
    if len(data) < _LENGTH_BYTES or length > len(data) - _LENGTH_BYTES:
        raise SnapshotError(f'model data are truncated or no safetensors: {len(data)} bytes hold no complete header')
    try:
        header = json.loads(data[_LENGTH_BYTES:_LENGTH_BYTES + length])
        metadata = header['__metadata__']
        if all(isinstance(value, str) for value in metadata.values()):
            return metadata
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise SnapshotError('model data are damaged or foreign: their header is not safetensors with text metadata')
