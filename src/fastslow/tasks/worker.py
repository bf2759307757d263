"""Scoring an answer in a child process that is killed when it takes too long.

Scorers that do algebra, or that repeat a move as often as they are told to, can be kept busy for
hours by a short answer, inside calls that nothing in this process could interrupt.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from typing import IO, Any

from fastslow.errors import RunError

MEMORY = 4 * 2**30
"""Bytes of address space of the child, where the system can limit it."""


class ScoreWorker:
    """A reasoning-gym dataset's scorer in a process of its own, started when first needed.

    Args:
        dataset: name of the dataset.
        config: its configuration object.
        seconds: time for one answer. The process is killed after it, and started anew for the next.
    """

    def __init__(self, dataset: str, config: Any, seconds: float = 3.0) -> None:
        self._job = pickle.dumps((dataset, config))
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def score(self, answer: str, entry: dict[str, Any]) -> float:
        """The scorer's score, NaN if it raised.

        Raises:
            TimeoutError: it took longer than the limit, or died of the memory that it asked for.
            RunError: the process cannot be started.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(self._seconds, process.kill)
        timer.start()
        try:
            pickle.dump((answer, entry), process.stdin)
            process.stdin.flush()
            reply = process.stdout.readline()
        except BrokenPipeError:
            reply = b""
        finally:
            timer.cancel()
        if not reply:
            self._process = None
            self._stop()
            raise TimeoutError(f"the scorer did not come to an end within {self._seconds:g} s")
        return float(reply)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fastslow.tasks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._stop = weakref.finalize(self, _stop, process)
        process.stdin.write(self._job)
        process.stdin.flush()
        if not process.stdout.readline():  # "ready": the limit is for scoring, not for imports
            raise RunError(
                "the process that scores answers did not start: "
                f"`{sys.executable} -m fastslow.tasks.worker` ended at once. Check that fastslow "
                "and reasoning-gym can be imported there"
            )
        self._process = process
        return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with contextlib.suppress(BrokenPipeError):
        process.communicate()


def safe_score(dataset: Any, answer: str, entry: dict[str, Any]) -> float:
    """``dataset.score_answer`` without what it prints or warns of; NaN if it raises."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(dataset.score_answer(answer, entry))
    except Exception:  # whatever a scorer trips over in a text that a model wrote
        return math.nan


def _serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests until the parent closes the pipe. Pickles come from the parent alone."""
    from reasoning_gym.factory import DATASETS

    name, config = pickle.load(requests)
    dataset = DATASETS[name][0](config=config)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies.write(b"ready\n")
    replies.flush()
    while True:
        try:
            answer, entry = pickle.load(requests)
        except EOFError:
            return
        replies.write(f"{safe_score(dataset, answer, entry)!r}\n".encode())
        replies.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
