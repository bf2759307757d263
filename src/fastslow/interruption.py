"""Stopping a run from outside without leaving anything half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from fastslow.errors import FastslowError


class InterruptedRunError(FastslowError):
    """The run was asked to stop, and has been saved (exit code 130)."""

    exit_code = 130


class Interruption:
    """Listens for SIGINT and SIGTERM while it is entered, and raises where the run can stop.

    The first signal only takes note: ``check`` raises at the next place where nothing is half
    done. A second one acts as if nobody listened. Outside the main thread, where Python handles no
    signals, it never raises.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raise InterruptedRunError if a signal has come."""
        if self._received is not None:
            raise InterruptedRunError(f"stopped by {signal.Signals(self._received).name}")

    def _note(self, number: int, _: FrameType | None) -> None:
        self._received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
