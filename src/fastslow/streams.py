"""Standard output and standard error that nobody may be reading.

A pipe whose reader has gone, a full disk behind a redirection, a terminal that was closed: none of
them is a reason to end a training. What cannot be shown is dropped.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from fastslow.errors import RunError


class _Tolerant:
    """A text stream that swallows the errors of the one behind it, and is silent from the first
    on.

    Attributes:
        error: what went wrong; None while nothing did.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """None, which Python has for a stream that the process was started without, is silent."""
        self._stream = cast(TextIO, stream)
        self.error: OSError | ValueError | None = None
        if stream is None:
            self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._try(lambda: self._stream.flush())

    def isatty(self) -> bool:
        try:
            return self.error is None and self._stream.isatty()
        except ValueError:  # it is closed
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, work: Callable[[], object]) -> None:
        if self.error is not None:
            return
        try:
            work()
        except UnicodeEncodeError:
            raise  # of what is written, not of where to: see ``tolerant``
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.error = error
            _discard(self._stream)


def tolerant(stream: TextIO | None) -> TextIO:
    """``stream``, but writing to it never fails: a character that it cannot encode becomes a
    question mark, and all is dropped once it is closed, full or broken."""
    if isinstance(stream, _Tolerant):
        return cast(TextIO, stream)
    with suppress(AttributeError, OSError, ValueError):
        cast(Any, stream).reconfigure(errors="replace")
    return cast(TextIO, _Tolerant(stream))


@contextmanager
def tolerant_output() -> Iterator[None]:
    """Make the process's standard output and error ``tolerant`` for a while."""
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def require_output() -> None:
    """For a command whose result is its output: see that it was written.

    A pipe that was closed counts as read: its reader wanted no more.

    Raises:
        RunError: standard output could not be written, on a full disk for instance.
    """
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.EBADF):
        raise RunError(f"standard output could not be written: {error.strerror}")


def _open_closed() -> None:
    """Open /dev/null in place of standard streams that the process was started without. Otherwise
    the next file that is opened, a run's metrics perhaps, takes the descriptor, and receives what
    libraries write there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _discard(stream: TextIO) -> None:
    """Send what the stream still holds to /dev/null: the interpreter flushes it when it ends, and
    would end with exit code 120 where that fails. Only the process's own streams are bent so."""
    with suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()
        if descriptor in (1, 2):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
