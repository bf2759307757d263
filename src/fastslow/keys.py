"""Every key of a configuration: its type in plain words, its default and what it means.

The tables are the source. ``fastslow keys`` and docs/config.md show what stands there.
"""

from __future__ import annotations

import difflib
import json
import shutil
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fastslow.config import RunConfig
from fastslow.errors import InputError
from fastslow.slow.registry import LEARNERS
from fastslow.tasks.registry import available

_PLAIN = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    date: "date",
}


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: with its tables, between dots; ``[]`` stands for the elements of an array of tables.
        type: what it takes, in words, with the values or the range allowed.
        default: as TOML writes it; None where the key is required or is absent by default.
        required: whether there is no default.
        description: what it does.
    """

    name: str
    type: str
    default: str | None
    required: bool
    description: str


def keys(prefix: str = "") -> list[Key]:
    """The keys that ``prefix`` names, or that stand below it; "": all.

    Raises:
        InputError: there are none.
    """
    known = [*_of(RunConfig, ""), *_of_learners(), *_of_tasks()]
    if not prefix:
        return known
    found = [key for key in known if f"{key.name}.".startswith(f"{prefix.rstrip('.')}.")]
    if not found:
        parts = [key.name.split(".") for key in known]
        prefixes = {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
        near = difflib.get_close_matches(prefix, sorted(prefixes), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "fastslow keys lists all."
        raise InputError(f"fastslow keys: there is no key {prefix!r}; {hint}")
    return found


def lines(found: Sequence[Key], *, as_json: bool = False) -> Iterator[str]:
    """Lines for a terminal, no wider than it is; or one object of JSON for each key."""
    if as_json:
        yield from (json.dumps(asdict(key), ensure_ascii=False) for key in found)
        return
    width = max(40, shutil.get_terminal_size().columns)
    for key in found:
        yield key.name
        for text in (f"{key.type}; {_default(key)}", key.description):
            yield from textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ")


def markdown(found: Sequence[Key]) -> str:
    """docs/config.md: a list of all keys, by table."""
    text = [
        "# Keys of a configuration\n",
        "`make docs` writes this page from the tables in the code; `fastslow keys` shows the same.",
        "The own keys of a task stand in `[task]` beside its name; here they stand below the name:",
        '`task.jsonl.path` is `path` where `name = "jsonl"`.',
    ]
    tables: dict[str, list[Key]] = {}
    for key in found:
        tables.setdefault(key.name.rpartition(".")[0], []).append(key)
    for table, members in tables.items():
        text.append(f"\n## {f'`{table}`' if table else 'The run'}\n")
        for key in members:
            text.append(f"- `{key.name}`: {key.type}; {_default(key)}. {key.description}")
    return "\n".join(text) + "\n"


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return "left out by default" if key.default is None else f"default {key.default}"


def _of_learners() -> Iterator[Key]:
    for name in LEARNERS.names:
        yield from _of(LEARNERS.find(name, "fastslow keys").Options, f"slow.{name}.")


def _of_tasks() -> Iterator[Key]:
    for name, _, options in available():
        yield from _of(options, f"task.{name}.")


def _of(table: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in table.model_fields.items():
        key = f"{prefix}{name}"
        inner = _tables(field.annotation)
        if not inner or prefix.startswith("stages[]"):
            yield _key(key, field)
        elif name == "task":
            yield from _of(inner[0], f"{key}.")
        else:
            array = get_origin(field.annotation) is tuple
            yield _key(key, field)
            yield from _of(inner[0], f"{key}[]." if array else f"{key}.")


def _key(name: str, field: FieldInfo) -> Key:
    required = field.is_required()
    value = None if required else field.get_default(call_default_factory=True)
    default = None if value is None or isinstance(value, BaseModel) else _written(value)
    kind = _type(field.annotation, field.metadata)
    return Key(name, kind, default, required, " ".join((field.description or "").split()))


def _tables(annotation: Any) -> list[type[BaseModel]]:
    """The tables that an annotation holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for argument in get_args(annotation) for table in _tables(argument)]


def _written(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What an annotation allows, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0], [*annotation.__metadata__, *metadata])
    if origin in (types.UnionType, typing.Union):
        kinds = [_type(one, metadata) for one in arguments if one is not type(None)]
        return " or ".join(kinds)
    if origin is Literal:
        return " or ".join(map(_written, arguments))
    if origin is tuple:
        return _array(arguments) + _bounds(metadata, "elements")
    if origin is dict:
        return "table"
    if _tables(annotation):
        return "table"
    word = _PLAIN.get(annotation, "value")
    return word + _bounds(metadata, "characters" if annotation is str else "")


def _array(arguments: tuple[Any, ...]) -> str:
    if arguments[-1] is Ellipsis:
        return f"list of ({_type(arguments[0])})"
    return f"list of {len(arguments)} ({', '.join(map(_type, arguments))})"


def _bounds(metadata: Iterable[Any], unit: str) -> str:
    """The range that constraints allow, in words: " (at least 1, below 5)"."""
    words = {
        "ge": "at least",
        "gt": "above",
        "le": "at most",
        "lt": "below",
        "min_length": "at least",
        "max_length": "at most",
    }
    found = []
    for constraint in metadata:
        for part in [constraint, *getattr(constraint, "metadata", ())]:
            for attribute, word in words.items():
                value = getattr(part, attribute, None)
                if isinstance(value, (int, float)):
                    size = f" {unit}" if attribute.endswith("length") and unit else ""
                    found.append(f"{word} {_number(value)}{size}")
    return f" ({', '.join(dict.fromkeys(found))})" if found else ""


def _number(value: float) -> str:
    return {2**63: "2^63"}.get(int(value), f"{value:,}") if isinstance(value, int) else f"{value:g}"
