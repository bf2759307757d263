"""Finds the files and problems that a configuration names, and computes their digests."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fastslow.config import RunConfig, TaskConfig, parse_value, split_override
from fastslow.curriculum import Curriculum
from fastslow.errors import InputError
from fastslow.models import EMBEDDED, HUB_ID, decisive_files, resolve
from fastslow.places import given
from fastslow.run.inputs import Input, Inputs, digest_of
from fastslow.tasks import registry
from fastslow.tasks.sources import data_files
from fastslow.types import Problem, Split

MODEL = "model"
ASKED = "slow."
"""Begins the keys of models that a slow learner asks, such as ``slow.opd.teacher``."""


@dataclass(frozen=True)
class Located:
    """A run's configuration and the present places of its files.

    The configuration stays the same if a file moves. So the names of the run and its tasks stay the
    same, and the run computes the same.

    Attributes:
        config: the configuration that the run was started with.
        source: the configuration's file, for messages.
        moved: paths and names that replace those of the configuration, by key.
    """

    config: RunConfig
    source: str
    moved: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def model(self) -> str:
        return self.moved.get(MODEL, self.config.model)

    @property
    def tasks(self) -> dict[str, TaskConfig]:
        """The tasks by name, as ``RunConfig.tasks``."""
        return {self.config.task_name(task): self._now(key) for key, task in self._first.items()}

    @property
    def task_keys(self) -> dict[str, str]:
        """The first table of each task, by the task's name."""
        return {self.config.task_name(task): key for key, task in self._first.items()}

    def names(self) -> Iterator[tuple[str, str]]:
        """The keys that name a model and the classes of tasks, with their values."""
        yield MODEL, self.model
        for key in self._first:
            yield f"{key}.name", self._now(key).name

    def options(self) -> Iterator[tuple[str, str]]:
        """The keys of tasks whose values are, or may be, names of files; with the values."""
        for key in self._first:
            for option, value in registry.places(self._now(key), self.source).items():
                yield f"{key}.{option}", value

    def first_key(self, key: str) -> str:
        """Map a key of a later table of a task to the same key in the task's first table."""
        for table, task in _task_tables(self.config):
            if key.startswith(f"{table}."):
                return self.task_keys[self.config.task_name(task)] + key.removeprefix(table)
        return key

    @property
    def _first(self) -> dict[str, TaskConfig]:
        """Each task, by the key of the first table that contains it."""
        tables: dict[str, TaskConfig] = {}
        for key, task in _task_tables(self.config):
            if task not in tables.values():
                tables[key] = task
        return tables

    def _now(self, key: str) -> TaskConfig:
        own = {
            moved.removeprefix(f"{key}."): value
            for moved, value in self.moved.items()
            if moved.startswith(f"{key}.")
        }
        return TaskConfig.model_validate({**self._first[key].model_dump(), **own})


def locate(
    config: RunConfig, source: str, recorded: Inputs, overrides: Iterable[str], here: Path
) -> tuple[Located, list[str]]:
    """Find the files of a run, and apply the overrides that give new places for them.

    Args:
        config: the run's configuration.
        source: the configuration's file, for messages.
        recorded: the recorded inputs of the run. The working directory must be ``recorded.folder``.
        overrides: ``section.key=value``.
        here: the folder that relative paths in the overrides start at.

    Returns:
        The configuration with the places of its files, and the remaining overrides.

    Raises:
        InputError: a recorded file no longer exists.
    """
    located, left = Located(config, source, recorded.moved), list(overrides)
    told: set[str] = set()
    were_there = {key.partition("/")[0] for key, found in recorded.found.items() if found.path}
    for places in (Located.names, Located.options):
        known, further = dict(places(located)), []
        for override in left:
            key, text = split_override(override)
            key, value = located.first_key(key), parse_value(text)
            value = value if isinstance(value, str) else text
            if key in known and _class_of(key, value) == _class_of(key, known[key]):
                moved = {**located.moved, key: _absolute(key, value, here)}
                located = dataclasses.replace(located, moved=moved)
                told.add(key)
            else:
                further.append(override)
        left = further
        for key, value in places(located):
            file = _file(key, value)
            is_name = key in told and (value in EMBEDDED or HUB_ID.fullmatch(value))
            if key in were_there and not is_name and not os.path.exists(file):
                place = os.path.join(here if key in told else os.getcwd(), file)
                raise InputError(
                    f"{source}: {key}: {value} is not there (looked for at {place}): say where it "
                    f"is now, with --set {key}=..."
                )
    return located, left


def take(
    located: Located,
    curriculum: Curriculum | None,
    models: Mapping[str, str] = MappingProxyType({}),
    files: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, Input]:
    """Every input of a run, by the key that names it.

    This reads weights and data files completely, at one to two gigabytes per second.

    Args:
        curriculum: of ``located.tasks``; None: only the model is taken.
        models: further models by key: those that the slow learner asks.
        files: further files by key: those that the fast learner reads.

    Raises:
        InputError: a file cannot be read.
    """
    try:
        found = dict(_of_model(located, MODEL, located.model))
        for key, model in models.items():
            found |= _of_model(located, key, model)
        for key, file in files.items():
            place = Path(os.path.abspath(_file(key, str(file))))
            found[key] = Input(digest=digest_of(place), what=str(place), path=str(place))
        if curriculum is not None:
            for name, key in located.task_keys.items():
                found |= _of_task(located, key)
                found |= _of_problems(curriculum, name, key, located.config)
    except OSError as error:
        raise InputError(f"{located.source}: {error.filename}: {error.strerror}") from None
    return found


def problems_digest(problems: Sequence[Problem]) -> str:
    """SHA-256 of problems, in order: their ids, questions, and the values in their references."""
    digest = hashlib.sha256()
    for problem in problems:
        parts = (problem.id, problem.question, _described(problem.reference))
        digest.update(repr(parts).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _of_model(located: Located, key: str, model: str) -> Iterator[tuple[str, Input]]:
    source = resolve(model)
    path = os.path.abspath(source.location) if source.kind in ("folder", "gguf", "run") else ""
    trusted = located.config.policy.trust_remote_code
    for name, file in decisive_files(source, trust_remote_code=trusted).items():
        place = f"{key}/{name}" if name else key
        yield place, Input(digest=digest_of(file), what=os.path.abspath(file), path=path)


def _of_task(located: Located, key: str) -> Iterator[tuple[str, Input]]:
    task = located.tasks[next(n for n, k in located.task_keys.items() if k == key)]
    for name, code in registry.code(task, located.source).items():
        place = f"{key}.name/{name}" if name else f"{key}.name"
        is_file = isinstance(code, Path) and task.name.rpartition(":")[0].endswith(".py")
        path = os.path.abspath(_file("name", task.name)) if is_file else ""
        what = str(code) if isinstance(code, Path) else f"the class of {task.name}"
        yield place, Input(digest=digest_of(code), what=what, path=path)
    for option, value in registry.places(task, located.source).items():
        for name, file in data_files(given(value)).items():
            place = f"{key}.{option}/{name}" if name else f"{key}.{option}"
            path = os.path.abspath(file)
            yield place, Input(digest=digest_of(file), what=path, path=path)


def _of_problems(
    curriculum: Curriculum, name: str, key: str, config: RunConfig
) -> Iterator[tuple[str, Input]]:
    splits: list[Split] = ["train", *([config.eval.split] if config.eval.problems else [])]
    for split in dict.fromkeys(splits):
        problems = curriculum.problems(name, split)
        what = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
        yield f"{key}: {split}", Input(digest=problems_digest(problems), what=what)


def _task_tables(config: RunConfig) -> Iterator[tuple[str, TaskConfig]]:
    """Every table of the configuration that names a task, after the table's key."""
    if config.task is not None:
        yield "task", config.task
    for number, stage in enumerate(config.stages):
        if stage.task is not None:
            yield f"stages.{number}.task", stage.task
        for place, share in enumerate(stage.mix):
            yield f"stages.{number}.mix.{place}.task", share.task


def _class_of(key: str, value: str) -> str:
    """The class in the value of a task's ``name``, which must stay the same if the file moves; ""
    for other keys."""
    return value.rpartition(":")[2] if key.endswith("name") else ""


def _file(key: str, value: str) -> Path:
    """The file that a value names."""
    return given(value.rpartition(":")[0] or value if key.endswith("name") else value)


def _absolute(key: str, value: str, here: Path) -> str:
    """Convert the path of an existing file to an absolute path. Other values, such as an id on the
    hub, stay as they are."""
    file = _file(key, value)
    path = os.path.join(here, file)
    if not os.path.exists(path):
        return value
    suffix = f":{_class_of(key, value)}" if key.endswith("name") else ""
    return f"{os.path.abspath(path)}{suffix}"


def _described(value: Any, depth: int = 0) -> str:
    """Describe a value by a text that is the same for equal values in every process."""
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        items = ((_described(k, depth + 1), _described(v, depth + 1)) for k, v in value.items())
        return f"{{{', '.join(f'{k}: {v}' for k, v in items)}}}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_described(item, depth + 1) for item in value))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_described(item, depth + 1) for item in value)}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return f"{type(value).__qualname__}{_described(fields, depth + 1)}"
    if getattr(type(value), "__repr__", None) is object.__repr__:
        return f"{type(value).__qualname__}{_described(getattr(value, '__dict__', {}), depth + 1)}"
    return _ADDRESS.sub("", repr(value))  # an address differs from process to process


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")

_DEEPEST = 50
"""Levels of nested values of a reference that the digest covers."""
