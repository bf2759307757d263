"""One client for all reflection servers: it asks from a process of its own, and ends that process
at the deadline. Whatever a server sends, it costs this process neither time nor memory beyond.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastslow.fast.client_process import GRACE

_START = 120.0
"""Seconds that the process may take to start. litellm takes some to import."""

_PIECE = 2**16


class ExchangeError(Exception):
    """A server that was asked gave no answer.

    Attributes:
        kind: what went wrong, in a word: the name of an exception, or the status.
        words: what the server or the library said, at length and not yet fit to be shown.
        status: of HTTP, where there is one.
        is_cut_off: whether the model reached its token limit.
    """

    def __init__(
        self, kind: str, words: str, status: int | None = None, is_cut_off: bool = False
    ) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind, self.words, self.status, self.is_cut_off = kind, words, status, is_cut_off


class Client:
    """Asks servers, one exchange at a time (see ``client_process`` for what can be asked).

    The process is kept from one exchange to the next, but not after one that it did not end itself.

    Args:
        *libraries: "litellm", if the process is to import that before it is asked.
    """

    def __init__(self, *libraries: str) -> None:
        self._libraries = libraries
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Have the process ready, so that no exchange waits for it. Raises: ExchangeError."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._finalizer()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fastslow.fast.client_process", *self._libraries],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interruption is this process's affair
        )
        self._finalizer = weakref.finalize(self, _end, self._process)
        self._exchange(b"", _START, _PIECE)

    def ask(self, job: dict[str, Any], timeout: float, limit: int) -> str:
        """The text of the answer.

        Args:
            job: what is asked, without ``timeout`` and ``limit``.
            timeout: seconds for the whole exchange.
            limit: bytes that the server may send, headers included.

        Raises:
            ExchangeError: there is none. What a signal raises ends the exchange and comes out.
        """
        self.start()
        line = json.dumps({**job, "timeout": timeout, "limit": limit}).encode() + b"\n"
        # JSON may write a byte of the server's as six, and an error quotes its words.
        reply = self._exchange(line, timeout + GRACE, 8 * limit + 2**20)
        if "text" in reply:
            return str(reply["text"])
        raise ExchangeError(reply["error"], reply["words"], reply["status"], reply["cut_off"])

    def _exchange(self, line: bytes, seconds: float, limit: int) -> dict[str, Any]:
        """Pass a line on and read one back; end the process if that does not come off."""
        assert self._process is not None
        whole = False
        try:
            reply = _talk(self._process, line, time.monotonic() + seconds, limit)
            whole = True
            return reply
        finally:
            if not whole:
                self._finalizer()
                self._process = None


def _talk(
    process: subprocess.Popen[bytes], line: bytes, deadline: float, limit: int
) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    to, back = process.stdin.fileno(), process.stdout.fileno()
    os.set_blocking(to, False)
    found = bytearray()
    while not found.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise ExchangeError("TimeoutError", "the reply did not end in time")
        readable, writable, _ = select.select([back], [to] if line else [], [], left)
        if writable:
            with suppress(BrokenPipeError):  # its end is read below
                line = line[os.write(to, line[:_PIECE]) :]
        if readable:
            if not (piece := os.read(back, _PIECE)):
                ended = f"the process that asks ended with {process.wait()}"
                raise ExchangeError("RuntimeError", ended)
            found += piece
            if len(found) > limit:
                raise ExchangeError("ValueError", f"the reply takes more than {limit} bytes")
    reply: dict[str, Any] = json.loads(found)
    return reply


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
