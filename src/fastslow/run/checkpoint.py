"""Checkpoints: ``checkpoints/step_NNNNNN/`` holds what the policy saved and ``state.json``.

A checkpoint is written in a hidden sibling folder, brought to the disk and only then given its
name; an older one is removed only after that. At every moment a killed process leaves at least one
checkpoint that is whole, if there was one.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fastslow.run import disk
from fastslow.run.serial import dumps, state_from_json, state_to_json
from fastslow.run.state import LoopState

log = logging.getLogger(__name__)

STATE = "state.json"


@dataclass(frozen=True)
class Mark:
    """The loop's state, and what the run's files held when the loop told it.

    Attributes:
        state: where the loop stood.
        metrics_bytes: length of ``metrics.jsonl``.
        contexts_bytes: length of ``contexts.jsonl``.
        rollout_files: names of the files in ``rollouts/``.
    """

    state: LoopState
    metrics_bytes: int
    contexts_bytes: int
    rollout_files: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole: its folder, from which the policy loads, and its mark."""

    path: Path
    mark: Mark

    @property
    def state(self) -> LoopState:
        return self.mark.state


def save(folder: Path, mark: Mark, policy_save: Callable[[Path], None], keep: int) -> Checkpoint:
    """Write the checkpoint of ``mark`` into ``folder``, then ``prune``.

    ``policy_save`` writes weights and optimiser state into the folder it is given. A checkpoint of
    the same step is replaced. Whatever is raised leaves the folder as it was.
    """
    path = folder / f"step_{mark.state.step:06d}"
    partial = disk.partial(path)
    try:
        partial.mkdir()
        policy_save(partial)
        disk.write_text(partial / STATE, _to_json(mark, partial))
        disk.sync_tree(partial)
        _replace(path, partial)
    except BaseException:
        recover(folder)
        raise
    checkpoint = Checkpoint(path, mark)
    prune(folder, checkpoint, keep)
    return checkpoint


def latest(folder: Path) -> Checkpoint | None:
    """The latest checkpoint in ``folder`` that is whole; damaged ones are passed over, and named
    in a warning."""
    for path in reversed(_folders(folder)):
        try:
            return _load(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged and is passed over: %s", path, _reason(error))
    return None


def prune(folder: Path, current: Checkpoint, keep: int) -> None:
    """Keep ``current`` and the ``keep`` - 1 before it. Those of later steps go as well: they belong
    to a course that the run gave up when it went on from ``current``."""
    present = _folders(folder)
    kept = present[: present.index(current.path) + 1][-keep:]
    for path in present:
        if path not in kept:
            shutil.rmtree(path)


def recover(folder: Path) -> None:
    """Clear away what was left behind where the writing of a checkpoint broke off."""
    for partial in folder.glob(".step_*.partial"):
        shutil.rmtree(partial)
    for replaced in folder.glob(".step_*.replaced"):
        path = folder / replaced.name.removeprefix(".").removesuffix(".replaced")
        if path.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(path)


def _folders(folder: Path) -> list[Path]:
    # Shorter names first, for a run of more than a million steps.
    return sorted(folder.glob("step_*"), key=lambda path: (len(path.name), path.name))


def _replace(path: Path, partial: Path) -> None:
    """Give ``partial`` the name ``path``. A folder cannot be renamed onto one that holds files, so
    for an instant the old one stands under a name from which ``recover`` brings it back."""
    replaced = path.with_name(f".{path.name}.replaced")
    if path.exists():
        path.rename(replaced)
    partial.rename(path)
    disk.sync(path.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def _to_json(mark: Mark, folder: Path) -> str:
    files = {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    return dumps(
        {
            "state": state_to_json(mark.state),
            "metrics_bytes": mark.metrics_bytes,
            "contexts_bytes": mark.contexts_bytes,
            "rollout_files": mark.rollout_files,
            "files": files,
            "versions": _versions(),
        }
    )


def _load(path: Path) -> Checkpoint:
    data = json.loads((path / STATE).read_text(encoding="ascii"))
    for name, size in data["files"].items():
        found = (path / name).stat().st_size
        if found != size:
            raise ValueError(f"{name} holds {found} bytes, not {size}")
    mark = Mark(
        state=state_from_json(data["state"]),
        metrics_bytes=data["metrics_bytes"],
        contexts_bytes=data["contexts_bytes"],
        rollout_files=tuple(data["rollout_files"]),
    )
    return Checkpoint(path, mark)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return f"{STATE} has no {error}" if isinstance(error, KeyError) else str(error)


def _versions() -> dict[str, str]:
    """For whoever wonders why a resumed run took another course."""
    found = {}
    for name in ("fastslow", "torch", "transformers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # fastslow run from its source folder
            continue
    return found
