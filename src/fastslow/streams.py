"""Standard output and standard error that survive a lost reader.

A closed pipe, a full disk behind a redirection or a closed terminal must not end a training run.
Output that cannot be written is dropped.
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
    """A text stream that ignores the errors of the stream behind it. After the first error it
    writes nothing more.

    Attributes:
        error: the first error; None if there was none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """``stream`` is None if the process was started without it. Then nothing is written."""
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
            raise  # the text is at fault, not the stream: see ``tolerant``
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.error = error
            _discard(self._stream)


def tolerant(stream: TextIO | None) -> TextIO:
    """Wrap ``stream`` so that writing never fails. A character that it cannot encode becomes a
    question mark. After the stream is closed, full or broken, output is dropped."""
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
    """Check that standard output was written, for a command whose result is its output.

    A closed pipe is no error: its reader has read enough.

    Raises:
        RunError: standard output could not be written, on a full disk for instance.
    """
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.EBADF):
        raise RunError(f"standard output could not be written: {error.strerror}")


def _open_closed() -> None:
    """Open /dev/null for each standard stream that the process was started without. Otherwise the
    next file that is opened, such as a run's metrics, gets the stream's descriptor, and libraries
    write their output into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free descriptor: this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _discard(stream: TextIO) -> None:
    """Redirect a standard stream to /dev/null. The interpreter flushes the stream at exit, and
    exits with code 120 if that fails. Streams other than stdout and stderr stay as they are."""
    with suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()
        if descriptor in (1, 2):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
