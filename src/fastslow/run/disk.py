"""Writing so that neither a killed process nor a power cut leaves half a file behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from fastslow.regular import open_regular


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


def begin(path: Path) -> BinaryIO:
    """A new ``partial(path)`` to write to; what a killed process left there goes. Raises: OSError.

    It is made anew and never written over: the name may be one of another file, by a link.
    """
    partial(path).unlink(missing_ok=True)
    return os.fdopen(open_regular(partial(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def publish(path: Path) -> None:
    """Give the finished ``partial(path)`` its name, replacing a file that has it already."""
    sync(partial(path))
    partial(path).replace(path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file that is either whole or not there. Raises: OSError."""
    try:
        with begin(path) as file:
            file.write(text.encode("utf-8"))
        publish(path)
    except OSError:
        partial(path).unlink(missing_ok=True)
        raise


def unshare(path: Path) -> None:
    """Give ``path`` a file of its own, with the same content: one that has further names, by hard
    links, is not written in place, for it would change under all of them. Raises: OSError."""
    try:
        with os.fdopen(open_regular(path), "rb") as old, begin(path) as new:
            shutil.copyfileobj(old, new)
        publish(path)
    except OSError:
        partial(path).unlink(missing_ok=True)
        raise
