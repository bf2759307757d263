"""One process to a run: a lock that goes when its process does, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fastslow.errors import InputError
from fastslow.regular import open_regular

_LONGEST_HOLDER = 32
"""Bytes that are read of who holds a lock."""


class Lock:
    """Holds the file ``lock`` in a run's folder until ``release`` or the end of the process.

    Raises:
        InputError: another process holds it.
        OSError: it is not a regular file, or cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.fdopen(open_regular(folder / "lock", os.O_RDWR | os.O_CREAT), "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._file.read(_LONGEST_HOLDER).decode("ascii", "replace").strip()
            self._file.close()
            raise InputError(
                f"{folder}: another process{f' ({holder})' if holder else ''} is at work on this "
                "run: wait until it ends, or stop it"
            ) from None
        if os.fstat(self._file.fileno()).st_nlink == 1:  # else it is another file's content too
            self._file.truncate(0)
            self._file.write(f"pid {os.getpid()}".encode("ascii"))
            self._file.flush()

    def release(self) -> None:
        self._file.close()
