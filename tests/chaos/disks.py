"""Disks of any size, for processes that may mount them: real ones that are full or read-only."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _RECURSIVE, _PRIVATE = 1, 32, 1 << 14, 1 << 18


class Disk:
    """A file system in memory at ``folder``, which no other process sees.

    To be made in a process of its own that has a single thread: its view of all disks changes.

    Raises:
        OSError: this system does not let it.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        user, group = os.getuid(), os.getgid()
        if _LIBC.unshare(_NEW_MOUNTS):  # somebody without rights asks for a world of their own
            _check(_LIBC.unshare(_NEW_USER | _NEW_MOUNTS))
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _check(_LIBC.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None))
        folder.mkdir(exist_ok=True)
        self._mount(0, size)

    def resize(self, size: int) -> None:
        """Give it another size in bytes, and let it be written."""
        self._mount(_REMOUNT, size)

    def protect(self) -> None:
        """Make it read-only."""
        self._mount(_REMOUNT | _READ_ONLY, None)

    def _mount(self, flags: int, size: int | None) -> None:
        options = None if size is None else f"size={size}".encode()
        _check(_LIBC.mount(b"tmpfs", str(self._folder).encode(), b"tmpfs", flags, options))


def _check(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
