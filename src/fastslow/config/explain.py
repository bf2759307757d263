"""Building a table from what was written, and saying what is wrong with it."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from fastslow.errors import InputError
from fastslow.redaction import is_secret_name
from fastslow.terminal import name as name_shown

Model = typing.TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], data: Mapping[str, Any], source: str, prefix: str = "") -> Model:
    """Build ``model`` from ``data``; every problem found becomes a line of one InputError.

    ``source`` is the file that the message names, ``prefix`` the table that the keys stand in.
    Tasks use it for their own options.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        lines = [_explain(model, item, prefix) for item in error.errors()]
        raise InputError("\n".join(f"{source}: {line}" for line in lines)) from None


def _explain(model: type[BaseModel], item: Any, prefix: str) -> str:
    kind, found = item["type"], item["input"]
    location = [part for part in item["loc"] if not is_branch(part)]
    if kind == "extra_forbidden" and is_branch(item["loc"][-1]):
        location.append(item["loc"][-1])  # it only looks like one: a person wrote it
    key = ".".join([*([prefix] if prefix else []), *map(name_shown, location)])
    if kind == "extra_forbidden":
        return unknown_key(key, str(location[-1]), _fields_at(model, location[:-1]))
    if kind == "unknown_key":
        return str(item["msg"])
    if kind == "missing":
        return f"{key}: this key is missing"
    message = item["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    quoted = isinstance(found, (int, float)) and kind in ("string_type", "path_type")
    hint = f': a text stands in quotes, {key} = "..."' if quoted else ""
    return f"{key}: {message[0].lower()}{message[1:]}; found {shown(key, found)}{hint}"


def shown(key: str, value: Any) -> str:
    """What stands at a key, as far as a message may say: not where keys of servers may stand."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if key.startswith("fast.reflection") or any(map(is_secret_name, key.split("."))):
        return f"{type(value).__name__} (not shown: it may be secret)"
    if isinstance(value, (dict, list, tuple)):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text):,} characters)"


def unknown_key(key: str, name: str, known: Iterable[str]) -> str:
    """What is said of a key that nobody knows, whose last part is ``name``."""
    allowed = sorted(known)
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{key}: unknown key{hint} Allowed: {', '.join(allowed)}"


def is_branch(part: int | str) -> bool:
    """Whether pydantic put the name of a union's branch into a location, which no person wrote."""
    return isinstance(part, str) and (
        any(mark in part for mark in "[(-") or part in {"int", "str", "float", "bool", "none"}
    )


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> set[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        current = _section_of(current.model_fields[part].annotation)
        if current is None:
            return set()
    return set(current.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The table that an annotation such as ``LoraConfig | None`` or ``tuple[X, ...]`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            if (section := _section_of(argument)) is not None:
                return section
    return None
