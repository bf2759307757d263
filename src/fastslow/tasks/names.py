"""Classes of tasks by the name that ``[task]`` knows them by.

A task's module needs this to register its class, and a process that grades imports that module: so
it imports neither the configuration nor pydantic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fastslow.errors import InputError
from fastslow.tasks.protocol import Task

if TYPE_CHECKING:
    from fastslow.config import Section

BUILT_IN = {
    "reasoning_gym": "fastslow.tasks.reasoning_gym",
    "star_graph": "fastslow.tasks.star_graph",
    "math": "fastslow.tasks.math",
    "hover": "fastslow.tasks.hover",
    "physics": "fastslow.tasks.sciknoweval",
    "chemistry": "fastslow.tasks.sciknoweval",
    "biology": "fastslow.tasks.sciknoweval",
    "materials": "fastslow.tasks.sciknoweval",
    "verifiers": "fastslow.tasks.environments",
    "jsonl": "fastslow.tasks.jsonl",
    "codeio": "fastslow.tasks.codeio",
    "livecodebench": "fastslow.tasks.livecodebench",
}
"""Modules of the built-in tasks, each imported when first asked for."""

TaskClass = TypeVar("TaskClass", bound=type[Task])


@dataclass(frozen=True)
class Entry:
    """A registered class.

    Attributes:
        task: the class.
        options: model of its own keys of ``[task]``; None: it has none.
    """

    task: type[Task]
    options: type[Section] | None


registered: dict[str, Entry] = {}
"""What ``register`` was given, by name. A built-in task is in it once its module was imported."""


def register(name: str, options: type[Section] | None = None) -> Callable[[TaskClass], TaskClass]:
    """Make a task class available as ``name`` in ``[task]``.

    Registering a name anew replaces it, as when a notebook cell is run twice.

    Args:
        name: what stands in ``[task] name = ...``.
        options: model of the other keys of ``[task]``; None: it has none. The class gets what it
            names among its constructor's parameters: ``options``, an instance of this model, and
            ``seed``, the run's (data had better not depend on it).

    Raises:
        InputError: the name belongs to a built-in task.
    """

    def decorate(task: TaskClass) -> TaskClass:
        module = BUILT_IN.get(name)
        if module is not None and task.__module__ != module:
            raise InputError(f"register({name!r}): a built-in task has this name; take another")
        task.name = name
        registered[name] = Entry(task, options)
        return task

    return decorate
