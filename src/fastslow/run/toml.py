"""A configuration as the text of a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import tomli_w

from fastslow.config import RunConfig
from fastslow.errors import InputError


def to_toml(config: RunConfig) -> str:
    """The resolved configuration, defaults included; ``config.load`` reads an equal one back.

    TOML has no null: a key that is None is left out, which says the same, since a key that may be
    None is None by default.

    Raises:
        InputError: if a value cannot be said in TOML, such as an object of one's own among a task's
            options: only configurations built in Python can hold one.
    """
    try:
        text = tomli_w.dumps(_plain(config.model_dump()))
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(f"the configuration cannot be written as TOML: {error}") from None
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value
