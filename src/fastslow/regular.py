"""Files that somebody else may have made: only regular ones are opened, and no more is read than a
bound.

A name in a folder that was handed on may be a link to a file of yours, a named pipe that never
ends, or a device. None of them is opened, for opening a device may already set it off.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class IrregularFileError(OSError):
    """What a path names is no regular file, or too large."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.filename = str(path)
        self.strerror = reason

    def __str__(self) -> str:
        return str(self.strerror)


def kind(mode: int) -> str | None:
    """What a file of this ``st_mode`` is in words; None if it is regular."""
    return next((words for is_kind, words in _KINDS if is_kind(mode)), None)


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """A descriptor of the regular file at ``path``, made if ``flags`` hold ``O_CREAT``.

    Args:
        path: whose last part is no link unless ``follow``.
        flags: of ``os.open``.
        follow: whether a link to a regular file is as good: of a path that the user gave.

    Raises:
        IrregularFileError: it is a link, a folder, a named pipe, a socket or a device.
        OSError: the system refuses.
    """
    with suppress(FileNotFoundError):  # looked at first: opening a device may already act on it
        _refuse_irregular(path, os.stat(path, follow_symlinks=follow).st_mode)
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, 0o666)
    try:
        _refuse_irregular(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(path: Path, limit: int, *, follow: bool = False) -> bytes:
    """The content of a regular file of at most ``limit`` bytes. Raises: as ``open_regular``."""
    with os.fdopen(open_regular(path, follow=follow), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise IrregularFileError(path, f"holds more than {limit:,} bytes, the most that is read")
    return content


def read_text(path: Path, limit: int, *, follow: bool = False) -> str:
    """The same as UTF-8 text. Raises: also UnicodeDecodeError."""
    return read_bytes(path, limit, follow=follow).decode("utf-8")


def _refuse_irregular(path: Path, mode: int) -> None:
    if (found := kind(mode)) is not None:
        raise IrregularFileError(path, f"is {found}, not a regular file")
