"""Checkpoints: ``checkpoints/step_NNNNNN/`` holds what the policy saved and ``state.json``.

A checkpoint is written in a hidden sibling folder, brought to the disk and only then given its
name; an older one is removed only after that. At every moment a killed process leaves at least one
checkpoint that is whole, if there was one.

``checksums.sha256`` lists every other file of a checkpoint in the format of ``sha256sum``, which
can check it too. One that does not hold exactly these files, bit for bit, is not read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from fastslow.errors import InputError
from fastslow.regular import open_regular, read_bytes, read_text
from fastslow.run import disk, inside
from fastslow.run.serial import dumps, state_from_json, state_to_json
from fastslow.run.state import LoopState
from fastslow.run.stored import CheckpointState, check
from fastslow.run.strict_json import parse
from fastslow.types import Problem

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
STATE = "state.json"
CHECKSUMS = "checksums.sha256"

_MAX_STATE = 2**30
"""Bytes of ``state.json``, at most: it holds the rollouts that a cycle may reuse."""
_MAX_CHECKSUMS = 2**24

_PACKAGES = ("fastslow", "torch", "transformers", "tokenizers", "safetensors", "numpy", "gepa")
"""Those whose versions may decide the last bit of a number, or more."""

_NAME = re.compile(r"step_[0-9]{6,10}")

_DAMAGES = (OSError, ValueError)
"""What reading a checkpoint that is not whole comes to."""


@dataclass(frozen=True)
class Mark:
    """The loop's state, and what the run's files held when the loop told it.

    Attributes:
        state: where the loop stood.
        metrics_bytes: length of ``metrics.jsonl``.
        contexts_bytes: length of ``contexts.jsonl``.
        rollout_files: names of the files in ``rollouts/``.
        answers_bytes: length of ``reflections.jsonl``.
    """

    state: LoopState
    metrics_bytes: int
    contexts_bytes: int
    rollout_files: tuple[str, ...]
    answers_bytes: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole.

    Attributes:
        path: its folder, from which the trainer loads.
        mark: where the run stood, without reusable rollouts: see ``state_with``.
        versions: of Python and of packages that wrote it.
        data: the whole state, as ``state.json`` has it.
    """

    path: Path
    mark: Mark
    versions: Mapping[str, str]
    data: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def state(self) -> LoopState:
        """The loop's state, without reusable rollouts."""
        return self.mark.state

    def state_with(self, problems: Mapping[str, Problem]) -> LoopState:
        """The loop's state with its reusable rollouts, of these problems by id."""
        return state_from_json(dict(self.data), problems)


def save(folder: Path, mark: Mark, write: Callable[[Path], None]) -> Checkpoint:
    """Write the checkpoint of ``mark`` into ``folder``.

    ``write`` writes what belongs to it, weights and optimiser state, into the folder it is given. A
    checkpoint of the same step is replaced. Whatever is raised leaves the folder as it was.
    """
    versions = current_versions()
    path = path_of(folder, mark.state.step)
    partial = disk.partial(path)
    try:
        partial.mkdir()
        write(partial)
        (partial / STATE).write_text(_to_json(mark, versions), encoding="ascii")
        (partial / CHECKSUMS).write_text(_checksums(partial), encoding="utf-8")
        disk.sync_tree(partial)
        _replace(path, partial)
    except BaseException:
        recover(folder)
        raise
    data = state_to_json(mark.state)
    state = replace(mark.state, rollouts={})
    return Checkpoint(path, replace(mark, state=state), versions, data)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands in ``folder``."""
    return folder / f"step_{step:06d}"


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint's, whole or damaged: by its files, wherever it stands, or by
    its place in a run."""
    if any(os.path.isfile(path / name) for name in (STATE, CHECKSUMS)):
        return True
    name = os.path.basename(os.path.realpath(path))
    return _NAME.fullmatch(name) is not None and run_of(path) is not None and path.is_dir()


def run_of(path: Path) -> Path | None:
    """The folder of the run that a checkpoint stands in; None: it was taken out of it."""
    folder = Path(os.path.realpath(path)).parent
    return folder.parent if folder.name == FOLDER else None


def latest(folder: Path, *, read: bool = True) -> Checkpoint | None:
    """The latest checkpoint in ``folder`` that is whole; damaged ones are passed over, and named
    in a warning.

    Args:
        read: whether every byte of what is looked at is read and compared. If not, a file that was
            not written to since its checksum was taken counts as what it was then: enough to tell
            how far a run has come, at no cost, and not enough to go on from there.
    """
    for path in reversed(_folders(folder)):
        try:
            return _load(path, read)
        except _DAMAGES as error:
            log.warning("%s is damaged and is passed over: %s", path, _reason(error))
    return None


def load(path: Path) -> Checkpoint:
    """The checkpoint at ``path``, of which every byte is read. Raises: InputError if it is not
    whole."""
    try:
        return _load(path, read=True)
    except _DAMAGES as error:
        run = run_of(path)
        remedy = (
            f"`fastslow resume {run}` goes on from the one before and makes it again"
            if run
            else "copy it again"
        )
        raise InputError(
            f"{path}: this checkpoint is damaged: {_reason(error)}. {remedy}"
        ) from None


def steps(folder: Path) -> list[int]:
    """Steps of all checkpoints in ``folder``, whole or not, in order."""
    return [_step(path) for path in _folders(folder)]


def prune(
    folder: Path,
    current: Checkpoint,
    keep: int,
    best: int | None = None,
    discard: Callable[[Path], None] = lambda path: None,
) -> None:
    """Keep ``current``, the ``keep`` - 1 before it, and that of step ``best``. Those of later steps
    go as well: they belong to a course that the run gave up when it went on from ``current``.

    ``discard`` is called before a checkpoint is removed: see ``Trainer.discard``.
    """
    present = _folders(folder)
    course = present[: present.index(current.path) + 1]
    kept = {*course[-keep:], *(path for path in course if _step(path) == best)}
    for path in present:
        if path not in kept:
            discard(path)
            inside.remove(path)


def recover(folder: Path) -> None:
    """Clear away what was left behind where the writing of a checkpoint broke off."""
    for partial in folder.glob(".step_*.partial"):
        inside.remove(partial)
    for replaced in folder.glob(".step_*.replaced"):
        path = folder / replaced.name.removeprefix(".").removesuffix(".replaced")
        if path.exists():
            inside.remove(replaced)
        else:
            replaced.rename(path)


def current_versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter here, as checkpoints record them."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # fastslow run from its source folder
            continue
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step_*") if _NAME.fullmatch(p.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _replace(path: Path, partial: Path) -> None:
    """Give ``partial`` the name ``path``. A folder cannot be renamed onto one that holds files, so
    for an instant the old one stands under a name from which ``recover`` brings it back."""
    replaced = path.with_name(f".{path.name}.replaced")
    if path.exists():
        path.rename(replaced)
    partial.rename(path)
    disk.sync(path.parent)
    if replaced.exists():
        inside.remove(replaced)


def _to_json(mark: Mark, versions: Mapping[str, str]) -> str:
    return dumps(
        {
            "state": state_to_json(mark.state),
            "metrics_bytes": mark.metrics_bytes,
            "contexts_bytes": mark.contexts_bytes,
            "rollout_files": mark.rollout_files,
            "answers_bytes": mark.answers_bytes,
            "versions": versions,
        }
    )


def _load(path: Path, read: bool) -> Checkpoint:
    _verify(path, read)
    try:
        data = parse(read_bytes(path / STATE, _MAX_STATE))
        check(CheckpointState, data)
    except ValueError as error:
        raise ValueError(f"{STATE}: {error}") from None
    # One that was taken out of its run may have any name.
    if _NAME.fullmatch(path.name) and data["state"]["step"] != _step(path):
        raise ValueError(f"{STATE} is of step {data['state']['step']}")
    mark = Mark(
        state=state_from_json(data["state"], {}),
        metrics_bytes=data["metrics_bytes"],
        contexts_bytes=data["contexts_bytes"],
        rollout_files=tuple(data["rollout_files"]),
        answers_bytes=data["answers_bytes"],
    )
    return Checkpoint(path, mark, data["versions"], data["state"])


def _checksums(folder: Path) -> str:
    return "".join(f"{_digest(folder / name)}  {name}\n" for name in _files(folder))


def _verify(path: Path, read: bool) -> None:
    """Raises: OSError, ValueError if the folder holds anything but what its checksums say.

    The checksums are written last. Unless all is to be ``read``, files older than they are count as
    unchanged, as they would to make.
    """
    found = _files(path)
    written = (path / CHECKSUMS).stat().st_mtime_ns
    listed: dict[str, str] = {}
    for line in read_text(path / CHECKSUMS, _MAX_CHECKSUMS).split("\n")[:-1]:
        entry = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if entry is None:
            raise ValueError(f"{CHECKSUMS} holds a line that is no checksum: {line[:80]!r}")
        listed[entry[2]] = entry[1]
    for name in sorted(listed.keys() ^ set(found)):
        raise ValueError(f"{name} is {'missing' if name in listed else f'not in {CHECKSUMS}'}")
    for name in found:
        if not read and (path / name).stat().st_mtime_ns <= written:
            continue
        if _digest(path / name) != listed[name]:
            raise ValueError(f"{name} is not what was written: its SHA-256 differs")


def _files(folder: Path) -> list[str]:
    """Every file below ``folder`` but the checksums themselves, by its path from there. Hidden ones
    do not count: a file browser may leave its own. Raises: ValueError if there are links."""
    names = (name for name in inside.files_below(folder) if name != CHECKSUMS)
    return sorted(name for name in names if not name.rpartition("/")[2].startswith("."))


def _digest(path: Path) -> str:
    with os.fdopen(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)
