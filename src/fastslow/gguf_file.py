"""Checks a GGUF file before a library reads it.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The check compares every
length in the file with the file's size, and the sizes of the model with its tensors.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastslow.errors import InputError

MAGIC = b"GGUF"

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS |= {12: "d"}
_STRING, _ARRAY = 8, 9

_MAX_DIMENSIONS = 4
_MAX_NESTING = 3
_MAX_ALIGNMENT = 2**16
_MAX_POSITIONS = 2**31

_SIZES = (
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "vocab_size",
    "expert_count",
    "expert_used_count",
)
"""Keys of an architecture whose values cannot exceed the largest dimension of its tensors."""


def check_gguf(name: str, path: Path) -> None:
    """Check that a GGUF file is complete and that its metadata agree with its tensors.

    Args:
        name: the model's name as the user wrote it.
        path: the file.

    Raises:
        InputError: it is no GGUF file, or it is truncated, damaged or inconsistent.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise _DamageError("it is truncated")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                reader = _Reader(data)
                values, shapes = _header(reader)
                _check_architecture(values, shapes)
    except OSError as error:
        raise InputError(f'model = "{name}": cannot be read: {error.strerror}') from None
    except (_DamageError, UnicodeDecodeError) as error:
        raise InputError(f'model = "{name}": cannot read the GGUF file {path}: {error}') from None


class _DamageError(Exception):
    """The file is damaged. The message says how."""


class _Reader:
    """Reads little-endian values in sequence and raises an error at the end of the data."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.position

    def scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        return self._bytes(self.scalar("Q")).decode("utf-8")

    def value(self, kind: int, depth: int = 0) -> Any:
        """Read a value of the metadata. An array gives ``range(length)``: its numbers are skipped,
        its texts and nested arrays are read to find their end."""
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY or depth == _MAX_NESTING:
            raise _DamageError(f"its metadata have a value of the unknown type {kind}")
        of, length = self.scalar("I"), self.scalar("Q")
        if of in _SCALARS:
            self._bytes(length * struct.calcsize(f"<{_SCALARS[of]}"))
            return range(length)
        if length * 8 > self.left:  # a text and an array state their own length in 8 bytes
            raise _DamageError(f"an array of its metadata has {length} members, and too few bytes")
        for _ in range(length):
            self.value(of, depth + 1)
        return range(length)

    def _bytes(self, count: int) -> bytes:
        if count > self.left:
            raise _DamageError(
                f"it is truncated or damaged: {count} bytes should stand at byte {self.position}, "
                f"and {self.left} are left"
            )
        self.position += count
        return self._data[self.position - count : self.position]


def _header(reader: _Reader) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Read the metadata and the shape of every tensor."""
    magic, version = reader.scalar("4s"), reader.scalar("I")
    if magic != MAGIC:
        raise _DamageError(f"it starts with {magic!r}, not with {MAGIC!r}")
    if version not in (2, 3):
        raise _DamageError(f"its version is {version}; allowed are 2 and 3")
    tensors, entries = reader.scalar("Q"), reader.scalar("Q")
    values: dict[str, Any] = {}
    for _ in range(entries):  # each entry takes bytes, so an excessive count fails soon
        key = reader.text()
        if key in values:
            raise _DamageError(f"its metadata have {key!r} twice")
        values[key] = reader.value(reader.scalar("I"))
    found: dict[str, tuple[int, ...]] = {}
    ends = [0]
    for _ in range(tensors):
        tensor, dimensions = reader.text(), reader.scalar("I")
        if tensor in found:
            raise _DamageError(f"it has the tensor {tensor!r} twice")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise _DamageError(f"its tensor {tensor!r} has {dimensions} dimensions")
        found[tensor] = tuple(reader.scalar("Q") for _ in range(dimensions))
        ends.append(_end(tensor, found[tensor], reader.scalar("I"), reader.scalar("Q")))
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= _MAX_ALIGNMENT:
        raise _DamageError(f"its general.alignment is {alignment!r}")
    left = reader.left - -reader.position % alignment
    if max(ends) > left:
        raise _DamageError(f"it is truncated: its tensors take {max(ends)} bytes of {left}")
    return values, found


def _end(tensor: str, shape: tuple[int, ...], kind: int, offset: int) -> int:
    """The end of a tensor, in bytes from the start of the first tensor."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise _DamageError(f"its tensor {tensor!r} has the unknown type {kind}") from None
    elements = math.prod(shape)
    if elements == 0 or elements % block:
        raise _DamageError(f"its tensor {tensor!r} has {elements} elements, in blocks of {block}")
    return offset + elements // block * size


def _check_architecture(values: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise _DamageError("its metadata have no general.architecture")
    if not shapes:
        raise _DamageError("it has no tensors: it holds no model, or a tokenizer alone")
    if values.get("split.count", 1) not in (0, 1):
        raise _DamageError(
            f"it is one of {values['split.count']} parts: merge them first, as by "
            "`llama-gguf-split --merge`"
        )
    blocks = {match[1] for name in shapes if (match := re.search(r"\bblk\.(\d+)\.", name))}
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    limits = {f"{architecture}.{key}": largest for key in _SIZES}
    limits[f"{architecture}.block_count"] = len(blocks)
    limits[f"{architecture}.context_length"] = _MAX_POSITIONS
    for key, limit in limits.items():
        value = values.get(key)
        if value is None:  # transformers uses its default and then needs those tensors
            continue
        if isinstance(value, range):  # one number for each block
            continue
        least = 1 if key.endswith("block_count") else 0
        if type(value) is not int or not least <= value <= limit:
            raise _DamageError(
                f"{key} is {value!r}; allowed are {least} to {limit}, judged by the file's "
                f"{len(shapes)} tensors"
            )
