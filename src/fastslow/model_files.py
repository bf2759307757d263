"""Checks every file of a model folder before a library reads it.

Models consist of safetensors, JSON and text files. Pickles are never read. Shards and counts must
agree with the tensors, so that no weight keeps its random initial value, and no count in a file
makes a loop run without end.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastslow.errors import InputError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.safetensors"

_READ = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "*.py")
"""The files that libraries look for."""

_LAYERS = {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers"}
_EXPERTS = {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}
"""Counts of modules that a model creates in a loop."""

_MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format allows."""

_MAX_JSON = 1_000_000_000
"""Bytes of a JSON file: the largest, of tokenizers, have some 30 million."""

Shapes = Mapping[str, tuple[int, ...]]


def check_folder(name: str, folder: Path) -> None:
    """Check that a folder contains a complete model and no file that must not be read.

    Args:
        name: the model's name as the user wrote it.
        folder: the output of ``save_pretrained`` of a model and of its tokenizer.

    Raises:
        InputError: a file is missing, damaged, not a regular file, outside the folder, or
            inconsistent with the other files.
    """
    lacking = []
    if not (folder / "config.json").is_file():
        lacking.append("config.json")
    if not ((folder / WEIGHTS).is_file() or (folder / INDEX).is_file()):
        lacking.append(f"weights ({WEIGHTS}, or its shards with {INDEX})")
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        lacking.append(f"a tokenizer ({', '.join(TOKENIZER_FILES[:-1])} or {TOKENIZER_FILES[-1]})")
    if lacking:
        raise InputError(
            f'model = "{name}": the folder {folder} lacks {"; ".join(lacking)}: it should be what '
            "save_pretrained of a model and of its tokenizer write"
        )
    if (folder / ADAPTER_CONFIG).exists():
        raise InputError(
            f'model = "{name}": the folder {folder} holds {ADAPTER_CONFIG}, so its weights are '
            "changes to another model: merge the two with peft and save the result, or remove "
            "that file if the weights are whole"
        )
    try:
        _check_plain_files(folder)
        shapes = _weights(folder)
        for file in ("config.json", "generation_config.json"):
            if (folder / file).exists():
                config = _object(folder / file)
                _check_counts(folder / file, config, shapes)
                _check_end_tokens(folder / file, config)
    except _DamageError as error:
        raise InputError(f'model = "{name}": {error}') from None


def check_adapter(name: str, folder: Path) -> None:
    """Check the folder of an adapter that a run trained.

    Raises:
        InputError: it contains no LoRA adapter in safetensors, or the rank does not fit
            its tensors.
    """
    try:
        _check_plain_files(folder)
        shapes = _tensors(folder / ADAPTER)
        path = folder / ADAPTER_CONFIG
        config = _object(path)
        if config.get("peft_type") != "LORA":
            raise _DamageError(
                f'{path}: peft_type is {config.get("peft_type")!r}; allowed is "LORA"'
            )
        largest = max((size for shape in shapes.values() for size in shape), default=0)
        patterns = config.get("rank_pattern") or {}
        for rank in (config.get("r"), *(patterns.values() if isinstance(patterns, dict) else [0])):
            if not _is_count(rank, largest):
                raise _DamageError(
                    f"{path}: a rank is {_shown(rank)}, which no tensor of {ADAPTER} has"
                )
        if config.get("layer_replication"):
            raise _DamageError(f"{path}: layer_replication is set, which no run writes")
    except _DamageError as error:
        raise InputError(f'model = "{name}": {error}') from None


class _DamageError(Exception):
    """A file is damaged. The message begins with its path and says how."""


def _check_plain_files(folder: Path) -> None:
    """Check that every file that a library may open is a file in the folder, or a link within it.

    A folder of the hub's cache (``snapshots/COMMIT``) may also link to the cache's ``blobs``.
    """
    real = folder.resolve()
    roots = [real]
    if real.parent.name == "snapshots":
        roots.append(real.parent.parent / "blobs")
    for path in (path for pattern in _READ for path in folder.rglob(pattern)):
        try:
            target = path.resolve()
        except RuntimeError:
            raise _DamageError(f"{path}: is a link that leads to itself") from None
        if not any(target.is_relative_to(root) for root in roots):
            raise _DamageError(
                f"{path}: is a link to {target}, outside of the folder: a model's files are read "
                "from its folder only. Copy the file there, or give the folder that it is in"
            )
        if path.parent == folder and not target.is_file():
            raise _DamageError(f"{path}: is no plain file")


def _weights(folder: Path) -> Shapes:
    """The shapes of all tensors, in one file or in shards."""
    if not (folder / INDEX).exists():
        return _tensors(folder / WEIGHTS)
    path = folder / INDEX
    places = _object(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise _DamageError(f"{path}: has no weight_map from tensors to files")
    for tensor, file in places.items():
        plain = isinstance(file, str) and Path(file).name == file and "\\" not in file
        if not plain or not file.endswith(".safetensors"):
            raise _DamageError(
                f"{path}: places {tensor} in {_shown(file)}; allowed is the name of a "
                ".safetensors file in the same folder, since only those are read"
            )
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(set(places.values())):
        found = _tensors(folder / file)
        for tensor in found:
            if tensor in shapes:
                raise _DamageError(f"{folder / file}: holds {tensor}, as another shard does")
        shapes |= found
        for tensor in (tensor for tensor, place in places.items() if place == file):
            if tensor not in found:
                raise _DamageError(
                    f"{folder / file}: lacks {tensor}, which {INDEX} places there: the shards are "
                    "incomplete, or of another model"
                )
    return _tensors(folder / WEIGHTS) if (folder / WEIGHTS).exists() else shapes


def _tensors(path: Path) -> Shapes:
    """The shapes in the header of a safetensors file. The library checks the rest when it reads."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else None
            if length is None or length > min(size - 8, _MAX_HEADER):
                raise _DamageError(
                    f"cannot read the file {path}: it is truncated, or no safetensors file"
                )
            header = _parse(file.read(length))
        tensors = {tensor: entry for tensor, entry in header.items() if tensor != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        if end != size - 8 - length:
            raise ValueError(f"it holds {size - 8 - length} bytes of tensors instead of {end}")
        return {tensor: tuple(entry["shape"]) for tensor, entry in tensors.items()}
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise _DamageError(f"cannot read the file {path}: {_reason(error)}") from None


def _object(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"it is larger than {_MAX_JSON} bytes")
        return _parse(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _DamageError(f"cannot read the file {path}: {_reason(error)}") from None


def _parse(data: bytes) -> dict[str, Any]:
    value = json.loads(data, object_pairs_hook=_without_doubles)
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {_shown(value)}")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def _check_counts(path: Path, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Check that no count of modules exceeds what the tensors allow."""
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    for key, value in _entries(config):
        limit = len(shapes) if key in _LAYERS else max(len(shapes), largest)
        if value is not None and not _is_count(value, limit):
            raise _DamageError(
                f"{path}: {key} is {_shown(value)}; allowed are 1 to {limit}, judged by the "
                f"{len(shapes)} tensors of the weights"
            )


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The counts of a configuration and of its nested configurations, which models of text and
    images have."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _entries(value)
        elif key in _LAYERS or key in _EXPERTS:
            yield key, value


def _check_end_tokens(path: Path, config: Mapping[str, Any]) -> None:
    value = config.get("eos_token_id")
    tokens = value if isinstance(value, list) else [] if value is None else [value]
    if not all(_is_count(token + 1, math.inf) if type(token) is int else False for token in tokens):
        raise _DamageError(
            f"{path}: eos_token_id is {_shown(value)}; allowed are a token id and a list of them"
        )


def _is_count(value: Any, limit: float) -> bool:
    return type(value) is int and 1 <= value <= limit


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error) if type(error) is ValueError or isinstance(error, ValueError) else repr(error)
