"""Overrides: ``section.key=value`` on the command line."""

from __future__ import annotations

import tomllib
from typing import Any

from fastslow.errors import InputError

MAX_DEPTH = 64
"""Tables and arrays within one another; a configuration needs six."""

Key = tuple[str | int, ...]
"""The parts of a key; a whole number is a place in an array."""


def split_override(override: str) -> tuple[str, str]:
    """The key and the text of ``section.key=value``. Raises: InputError if it is none."""
    key, separator, text = override.partition("=")
    if not separator or not all(key.strip().split(".")):
        raise InputError(f"--set {_cut(override)}: expected section.key=value")
    return key.strip(), text.strip()


def apply_override(data: dict[str, Any], override: str) -> tuple[Key, str]:
    """Set a key of nested mappings, in place, as ``--set section.key=value`` says.

    A whole number names an element of an array: ``stages.0.steps=5``.

    Returns:
        The key and the text of its value, as it was written.

    Raises:
        InputError: it does not say a key and a value, or goes through a key that is no table.
    """
    name, text = split_override(override)
    parts = name.split(".")
    if len(parts) > MAX_DEPTH:
        raise InputError(f"--set {_cut(override)}: a key has {MAX_DEPTH} parts at most")
    key: list[str | int] = []
    table: Any = data
    for depth, part in enumerate(parts):
        place = _place_in(table, part)
        if place is None:
            where = ".".join(parts[:depth])
            raise InputError(f"--set {_cut(override)}: {where} {_kind(table)}")
        key.append(place)
        if depth == len(parts) - 1:
            table[place] = parse_value(text)
        elif isinstance(table, dict):
            table = table.setdefault(part, {})
        else:
            table = table[place]
    return tuple(key), text


def _place_in(table: Any, part: str) -> str | int | None:
    """Where ``part`` of a key leads in a table or array; None: nowhere."""
    if isinstance(table, dict):
        return part
    if isinstance(table, list) and part.isdecimal() and int(part[:9]) < len(table):
        return int(part)
    return None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"is an array of {len(value)}: its elements are 0 to {len(value) - 1}"
    return "is a value, not a table"


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def parse_value(text: str) -> Any:
    """A TOML value; text that is none is taken as a string, so that shells need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
