"""Bundles as bytes: the safetensors format, with text metadata and a digest over every byte.

This module writes the header, in a fixed order, so that equal bundles give equal bytes; the safetensors library reads it. The
digest covers the whole message, with zeros for its own 64 characters, so that no byte can change unnoticed.
"""

import hashlib
import json
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch

from mbrl_ros.errors import BundleError

#: Formats of a bundle, and of the earlier dynamics models, whose tensors have no groups.
AGENT, DYNAMICS = 'mbrl_ros.agent', 'mbrl_ros.dynamics'
FORMAT_VERSION = 1

#: Longest header that is read or written, in bytes; those of the agents here have about two thousand.
LARGEST_HEADER = 65_536
_LENGTH_BYTES = 8
_ALIGNMENT = 8
_NO_DIGEST = '0' * 64
#: Types of tensors: name in the format, and layout on disk.
_KINDS = {torch.float32: ('F32', '<f4'), torch.float64: ('F64', '<f8'), torch.int64: ('I64', '<i8'), torch.uint8: ('U8', '|u1')}


def encode(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Serialise tensors and text metadata, `format` among these; the same input gives the same bytes.

    Raises:
        BundleError: A tensor has a type that the format lacks, or the header would be longer than `LARGEST_HEADER`.
    """
    header: dict = {'__metadata__': {**metadata, 'format_version': str(FORMAT_VERSION), 'sha256': _NO_DIGEST}}
    payload = b''
    # Wide numbers first, so that each tensor is aligned to the size of its numbers.
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.dtype not in _KINDS:
            raise BundleError(f'tensor {name!r} needs to be of {", ".join(map(str, _KINDS))}, got {tensor.dtype}')
        kind, layout = _KINDS[tensor.dtype]
        data = tensor.numpy().astype(layout).tobytes()
        header[name] = {'dtype': kind, 'shape': list(tensor.shape), 'data_offsets': [len(payload), len(payload) + len(data)]}
        payload += data
    text = json.dumps(header, sort_keys=True, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % _ALIGNMENT)
    _check_header(len(text))
    blank = len(text).to_bytes(_LENGTH_BYTES, 'little') + text + payload
    return blank.replace(_NO_DIGEST.encode(), hashlib.sha256(blank).hexdigest().encode(), 1)


def decode(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a bundle or of an earlier dynamics model; the metadata's `format` tells which.

    Raises:
        BundleError: The data are truncated, foreign, of an unknown format version, or changed since they were written.
    """
    metadata = _metadata(data)
    if metadata.get('format') not in (AGENT, DYNAMICS):
        raise BundleError(f'model data are not an agent bundle: the format is {metadata.get("format")!r}, not {AGENT!r}')
    if metadata.get('format_version') != str(FORMAT_VERSION):
        raise BundleError(f'model data have the unknown format version {metadata.get("format_version")!r}; '
                            f'this program reads {FORMAT_VERSION}')
    digest = metadata.get('sha256', '')
    blank = data.replace(digest.encode(), _NO_DIGEST.encode(), 1) if len(digest) == len(_NO_DIGEST) else b''
    if hashlib.sha256(blank).hexdigest() != digest:
        raise BundleError(f'model data of {len(data)} bytes are damaged: their SHA-256 is not the one they carry')
    try:
        return safetensors.torch.load(data), metadata
    except (safetensors.SafetensorError, ValueError) as error:
        raise BundleError(f'model data are not valid safetensors ({error})') from None


def _check_header(length: int) -> None:
    if length > LARGEST_HEADER:
        raise BundleError(f'model data have a header of {length} bytes; at most {LARGEST_HEADER} are read')


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:_LENGTH_BYTES], 'little')
    if len(data) < _LENGTH_BYTES or length > len(data) - _LENGTH_BYTES:
        raise BundleError(f'model data are truncated or no safetensors: {len(data)} bytes hold no complete header')
    _check_header(length)
    try:
        header = json.loads(data[_LENGTH_BYTES:_LENGTH_BYTES + length])
        metadata = header['__metadata__']
        if all(isinstance(value, str) for value in metadata.values()):
            return metadata
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise BundleError('model data are damaged or foreign: their header is not safetensors with text metadata')
