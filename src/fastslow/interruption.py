"""Stopping a run from outside without leaving anything half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fastslow.errors import FastslowError


class InterruptedRunError(FastslowError):
    """The run was asked to stop, and has been saved (exit code 130)."""

    exit_code = 130


class Interruption:
    """Listens for SIGINT and SIGTERM while it is entered, and raises where the run can stop.

    The first signal only takes note: ``check`` raises at the next place where nothing is half
    done, and ``break_off`` lets it raise at once. A second one acts as if nobody listened. Outside
    the main thread, where Python handles no signals, it never raises.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}
        self._is_waiting = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
            _listening.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in _listening:
            _listening.remove(self)
        self._restore()

    def check(self) -> None:
        """Raise InterruptedRunError if a signal has come."""
        if self._received is not None:
            raise InterruptedRunError(f"stopped by {signal.Signals(self._received).name}")

    @contextmanager
    def break_off(self) -> Iterator[None]:
        """What stands inside is broken off by a signal, wherever it is, or not begun after one."""
        self._is_waiting = True
        try:
            self.check()
            yield
        finally:
            self._is_waiting = False

    def _note(self, number: int, _: FrameType | None) -> None:
        self._received = number
        self._restore()
        if self._is_waiting:
            self.check()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


_listening: list[Interruption] = []
"""Signals are the whole process's, and so is who listens to them: the last one does."""


@contextmanager
def waiting() -> Iterator[None]:
    """For waiting on somebody else, a server for instance, for long and with nothing half done: a
    signal to stop ends it at once. Raises: InterruptedRunError."""
    if not _listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _listening[-1].break_off():
        yield
