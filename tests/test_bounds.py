"""Every number and every collection of a configuration has bounds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

import fastslow
from fastslow.config import Section

PACKAGES = ("config", "fast", "slow", "tasks", "studies")
WITHOUT_TABLES = ("fastslow.tasks.solution_runner", "fastslow.tasks.program_runner")
"""Scripts, not modules: they run on import."""


def _option_models() -> list[type[BaseModel]]:
    for package in PACKAGES:
        path = importlib.import_module(f"fastslow.{package}").__path__
        for module in pkgutil.iter_modules(path, f"fastslow.{package}."):
            if module.name not in WITHOUT_TABLES:
                importlib.import_module(module.name)
    found = {fastslow.config.TaskConfig, *_descendants(Section)}
    packages = tuple(f"fastslow.{package}." for package in PACKAGES)
    own = [model for model in found if model.__module__.startswith(packages)]
    return sorted(own, key=lambda model: (model.__module__, model.__name__))


def _descendants(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from _descendants(child)


def unbounded(kind: Any, metadata: tuple[Any, ...] = ()) -> Iterator[str]:
    """The parts of an annotation that may grow without a bound."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from unbounded(arguments[0], (*metadata, *arguments[1:]))
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from unbounded(argument, metadata)
    elif kind in (int, float):
        if not _has_bounds(metadata):
            yield f"{kind.__name__} without bounds"
    elif origin is tuple and arguments[-1] is not ...:
        for argument in arguments:
            yield from unbounded(argument)
    elif origin in (tuple, list, set, frozenset, dict, Mapping):
        if not any(_limit(item, "max_length") is not None for item in _flat(metadata)):
            yield f"{kind} without max_length"
        for argument in arguments:
            if argument is not ...:
                yield from unbounded(argument)
    elif kind in (tuple, list, set, frozenset, dict):
        yield f"{kind.__name__} of anything"


def _flat(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for item in metadata:
        yield from _flat(tuple(item.metadata)) if isinstance(item, FieldInfo) else (item,)


def _limit(item: Any, name: str) -> Any:
    return getattr(item, name, None)


def _has_bounds(metadata: tuple[Any, ...]) -> bool:
    items = list(_flat(metadata))

    def has(*names: str) -> bool:
        return any(_limit(item, name) is not None for item in items for name in names)

    # A number that may be infinite has no upper bound on purpose.
    return has("ge", "gt") and (has("le", "lt") or any(_limit(i, "allow_inf_nan") for i in items))


FIELDS = [
    pytest.param(
        field.annotation,
        tuple(field.metadata),
        id=f"{model.__module__[9:]}.{model.__name__}.{name}",
    )
    for model in _option_models()
    for name, field in model.model_fields.items()
]


@pytest.mark.parametrize(("annotation", "metadata"), FIELDS)
def test_every_number_and_collection_has_bounds(annotation: Any, metadata: tuple[Any, ...]) -> None:
    assert list(unbounded(annotation, metadata)) == []


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        float | None,
        Annotated[int, Field(ge=0)],
        Annotated[float, Field(lt=1)],
        Annotated[float, annotated_types.Gt(0)] | Literal["auto"],
        tuple[str, ...],
        Annotated[tuple[int, ...], Field(max_length=3)],
        Annotated[dict[str, Any], Field(min_length=1)],
        tuple[int, Annotated[int, Field(ge=0, le=1)]],
        dict,
    ],
)
def test_what_has_no_bounds_is_found(annotation: Any) -> None:
    assert list(unbounded(annotation))


@pytest.mark.parametrize(
    "annotation",
    [
        str,
        bool,
        NoneType,
        Literal[1, 2],
        Annotated[int, Field(ge=0, lt=9)] | None,
        Annotated[float, Field(gt=0, allow_inf_nan=True)],
        Annotated[tuple[Annotated[int, Field(ge=0, le=1)], ...], Field(max_length=3)],
    ],
)
def test_what_has_bounds_passes(annotation: Any) -> None:
    assert not list(unbounded(annotation))
