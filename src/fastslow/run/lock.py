"""One process to a run: a lock that goes when its process does, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fastslow.errors import InputError


class Lock:
    """Holds the file ``lock`` in a run's folder until ``release`` or the end of the process.

    Raises:
        InputError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise InputError(
                f"{folder}: another process{f' ({holder})' if holder else ''} is at work on this "
                "run: wait until it ends, or stop it"
            ) from None
        self._file.truncate(0)
        self._file.write(f"pid {os.getpid()}")
        self._file.flush()

    def release(self) -> None:
        self._file.close()
