"""Reading a configuration: from TOML, with overrides, into a ``RunConfig``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastslow.config.explain import is_branch, validate
from fastslow.config.overrides import MAX_DEPTH, Key, apply_override
from fastslow.config.schema import RunConfig
from fastslow.config.secrets import refuse_secrets
from fastslow.errors import InputError
from fastslow.places import given
from fastslow.regular import read_bytes

_LARGEST_NUMBER = 10**100
"""Of whole numbers: Python does not write those of thousands of digits."""

_MAX_BYTES = 2**22
"""Of a configuration: the longest instructions and a thousand stages are a tenth of it."""


def load(path: Path | str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a configuration file and apply ``section.key=value`` overrides.

    Raises:
        InputError: naming the file, the key, what was found and what is allowed.
    """
    path = given(path)
    return parse(read_toml(path), overrides, source=str(path))


def parse(
    data: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "config"
) -> RunConfig:
    """Validate a configuration given as nested mappings. Raises: InputError, as ``load``."""
    _refuse_unreadable(data, source)
    merged = _copy(data)
    texts = dict(apply_override(merged, override) for override in overrides)
    _refuse_unreadable(merged, source)
    refuse_secrets(merged, source)
    for key in _texts_expected(merged, texts):
        _assign(merged, key, texts[key])
    return validate(RunConfig, merged, source)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file in UTF-8, with a byte order mark or without, as nested mappings.

    Raises: InputError if it cannot be read or is no TOML.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; expected a configuration file (TOML)")
        read = read_bytes(path, _MAX_BYTES, follow=True)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such configuration file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        return tomllib.loads(read.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read: {error}: save it as UTF-8") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply to be a configuration") from None
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python reads
        raise InputError(f"{path}: is not valid TOML: {error}") from None


def _texts_expected(data: Mapping[str, Any], texts: Mapping[Key, str]) -> list[Key]:
    """Which of the overridden keys hold text, though what was written reads as something else in
    TOML: ``--set name=123`` names a run "123"."""
    if not texts:
        return []
    try:
        RunConfig.model_validate(data)
    except ValidationError as error:
        wrong = {
            tuple(part for part in item["loc"] if not is_branch(part))
            for item in error.errors()
            if item["type"] in ("string_type", "path_type")
        }
        return [key for key in texts if key in wrong]
    return []


def _assign(data: Any, key: Key, value: Any) -> None:
    for part in key[:-1]:
        data = data[part]
    data[key[-1]] = value


def _refuse_unreadable(data: Mapping[str, Any], source: str) -> None:
    """Raises: InputError, if ``data`` is nested too deeply or a number cannot be shown."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        items = [item for value in level for item in _items(value)]
        for item in items:
            if isinstance(item, int) and abs(item) >= _LARGEST_NUMBER:
                raise InputError(f"{source}: holds a whole number of more than 100 digits")
        level = [item for item in items if isinstance(item, (Mapping, list, tuple))]
        if not level:
            return
    raise InputError(f"{source}: is nested more than {MAX_DEPTH} tables and arrays deep")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    return value
