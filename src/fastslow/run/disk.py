"""Writing so that neither a killed process nor a power cut leaves half a file behind."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the file or folder at ``path`` stands on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until every file and folder below ``folder``, and the folder itself, is on the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def partial(path: Path) -> Path:
    """The hidden sibling in which ``path`` is written before it is given its name."""
    return path.with_name(f".{path.name}.partial")


def publish(path: Path) -> None:
    """Give the finished ``partial(path)`` its name, replacing a file that has it already."""
    sync(partial(path))
    partial(path).replace(path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file that is either whole or not there. Raises: OSError."""
    try:
        partial(path).write_bytes(text.encode("utf-8"))
        publish(path)
    except OSError:
        partial(path).unlink(missing_ok=True)
        raise
