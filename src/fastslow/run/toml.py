"""A configuration as the text of a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import tomli_w
from pydantic import BaseModel

from fastslow.config import RunConfig
from fastslow.errors import InputError


def to_toml(config: RunConfig) -> str:
    """The resolved configuration, defaults included; ``config.load`` reads an equal one back.

    TOML has no null: a key that is None is left out, which says the same where None is its default.

    Raises:
        InputError: if a value cannot be said in TOML. That happens only to configurations built in
            Python: None where it is not the default, an object of one's own among a task's options.
    """
    _refuse_unsayable_none(config, "")
    try:
        text = tomli_w.dumps(_plain(config.model_dump()))
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(f"the configuration cannot be written as TOML: {error}") from None
    return text


def _refuse_unsayable_none(section: BaseModel, prefix: str) -> None:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value is None and field.default is not None:
            raise InputError(
                f"{prefix}{name}: None cannot be written in a configuration file, where a key left "
                f"out means {field.default!r}; give a number (inf for no bound)"
            )
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                _refuse_unsayable_none(item, f"{prefix}{name}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value
