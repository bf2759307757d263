"""Grading in processes of their own, so that no verifier can hang, crash or fill up a run.

A verifier does algebra, parses and searches on texts that nobody has seen before. Sooner or later
one of them keeps it busy for hours, inside calls that nothing in this process could interrupt.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from fastslow.errors import InputError, RunError
from fastslow.tasks.grading_server import READY, Assignment, send, work
from fastslow.tasks.loading import loaded_files
from fastslow.tasks.protocol import Task
from fastslow.types import Failure, Problem, Verdict

logger = logging.getLogger("fastslow.tasks")

RESTARTS = 3
"""Times that a batch may lose its server before the run gives up."""

Item = tuple[Problem, str | None]
"""A completion to grade, or None in its place for a demonstration to make."""


def default_workers() -> int:
    """As many graders as this process may use processors, 4 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(4, len(os.sched_getaffinity(0)))
    return min(4, os.cpu_count() or 1)


class Graders:
    """Grades completions of one task in processes of their own, which start when first needed.

    A verifier that raises, exits or returns something else than a verdict has failed: that is no
    score. A completion scores 0 if its verifier had to be stopped, because it takes longer than
    ``task.grading_seconds``, needs more than ``task.grading_bytes`` or ends its process, and the
    verifier did reach a verdict on another completion of the same call: a policy that can stall its
    verifier must not escape the 0. Where it reached none, it has failed there too. All processes
    that such a verifier started are killed.

    Not guarded against: a verifier that means harm. It has the rights of the run. Code that a model
    wrote belongs in ``sandbox``.

    A task that another process cannot build, such as one defined in a notebook, is graded in this
    one, unguarded; a warning says so.

    Args:
        task: the task, which travels by pickle.
        workers: verdicts at a time.
        here: whether this process grades in any case, unguarded and without the warning.
    """

    def __init__(self, task: Task, workers: int | None = None, *, here: bool = False) -> None:
        self._task = task
        self._workers = workers or default_workers()
        self._server: _Server | None = None
        self._here = here
        self._failures = 0

    def __enter__(self) -> Graders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        """A verdict on each (problem, completion), in order, or the failure to reach one.

        Raises:
            InputError: the task cannot grade on this system, as where it needs a sandbox, or gives
                feedback that is no text.
            RunError: the task gives a score outside [0, 1], the processes cannot be started, or
                something keeps killing them.
        """
        replies = self._ask(list(pairs))
        works = any("score" in reply for reply in replies)
        return [
            self._outcome(problem, reply, works)
            for (problem, _), reply in zip(pairs, replies, strict=True)
        ]

    def demonstrate(self, problem: Problem) -> str | None:
        """What the task shows as this problem's answer, None also where it fails to make one."""
        (reply,) = self._ask([(problem, None)])
        if "text" not in reply:
            self._warn(problem, _reason(reply), reply["trace"])
        text: str | None = reply.get("text")
        return text

    def close(self) -> None:
        """End the processes. They start again if they are needed again."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _outcome(self, problem: Problem, reply: dict[str, Any], works: bool) -> Verdict | Failure:
        """``works``: whether the verifier reached a verdict on any completion of the call."""
        if "score" in reply:
            return Verdict(reply["score"], reply["feedback"])
        reason = _reason(reply)
        self._warn(problem, reason, reply["trace"])
        if "stopped" in reply and works:
            return Verdict(
                0.0,
                f"The answer could not be graded: the verifier was stopped, {reason}. "
                "Write a short and plain answer in the format that was asked for.",
            )
        return Failure(reason, reply["trace"])

    def _warn(self, problem: Problem, reason: str, trace: str) -> None:
        """Tell of a failure; of the first with its traceback, later only now and then."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:  # 1, 2, 4, 8, ...
            logger.warning(
                "%s: the verifier failed on problem %s: %s (failure %d)\n%s",
                self._task.name, problem.id, reason, self._failures,
                trace if self._failures == 1 else "",
            )  # fmt: skip

    def _ask(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """A reply to each item, in order (see ``grading_server.work``). Raises: as ``grade``."""
        replies = self._replies(items)
        for (problem, _), reply in zip(items, replies, strict=True):
            if "refused" in reply:
                raise InputError(f"task {self._task.name}: {reply['refused']}")
            if "fault" in reply:
                raise RunError(
                    f"task {self._task.name}: problem {problem.id!r}: {reply['fault']}. The run "
                    f"ends, for the task has to be mended\n{reply['trace']}".rstrip()
                )
        return replies

    def _replies(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        if not self._here:
            try:
                return self._ask_server(items)
            except _UnfitTaskError as error:
                logger.warning(
                    "%s: completions are graded in this process, without limits on time and "
                    "memory, since another one cannot be given the task: %s. A class in a module, "
                    "or in a file that [task] names, can be; one in a notebook or script cannot",
                    self._task.name, error,
                )  # fmt: skip
                self._here = True
                self.close()
            except BaseException:
                self.close()  # replies to what is under way would be taken for those to come
                raise
        return [work(self._task, *item) for item in items]

    def _ask_server(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        if not hasattr(os, "fork"):
            raise _UnfitTaskError("this system cannot fork processes")
        payloads = [_pickled(item) for item in items]
        replies: dict[int, dict[str, Any]] = {}
        losses = 0
        while missing := [number for number in range(len(items)) if number not in replies]:
            if losses == RESTARTS:
                raise RunError(
                    f"{self._task.name}: the process that grades was killed {losses} times, "
                    "perhaps for want of memory: free some, then resume"
                )
            if self._server is None:
                self._server = _Server(self._assignment())
            for number, reply in self._server.ask({n: payloads[n] for n in missing}):
                if "unfit" in reply:
                    raise _UnfitTaskError(reply["unfit"])
                replies[number] = reply
            if len(replies) < len(items):
                losses += 1
                self.close()
        return [replies[number] for number in range(len(items))]

    def _assignment(self) -> bytes:
        return _pickled(
            Assignment(
                files=loaded_files(),
                task=_pickled(self._task),
                workers=self._workers,
                seconds=self._task.grading_seconds,
                memory=self._task.grading_bytes,
            )
        )


def _reason(reply: dict[str, Any]) -> str:
    """Why there is no verdict."""
    reason: str = reply["stopped"] if "stopped" in reply else reply["failed"]
    return reason


class _UnfitTaskError(Exception):
    """The task, or a problem of it, cannot be built in another process."""


def _pickled(value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:  # pickle has a class of its own for few of the reasons
        raise _UnfitTaskError(f"{type(error).__name__}: {error}") from error


class _Server:
    """The other end of a ``grading_server``.

    Raises:
        _UnfitTaskError: it cannot build the task.
        RunError: it cannot be started.
    """

    def __init__(self, assignment: bytes) -> None:
        scratch = tempfile.mkdtemp(prefix="fastslow-grading-")
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fastslow.tasks.grading_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(scratch),
                start_new_session=True,  # an interruption is this process's affair
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._requests = self._process.stdin.fileno()
            self._replies = self._process.stdout
            self._asked = 0
            self.close = weakref.finalize(self, _end, self._process, scratch)
            with suppress(BrokenPipeError):
                send(self._requests, assignment)
            greeting = self._replies.readline()
            if not greeting:
                errors.seek(0)
                raise RunError(
                    "the process that grades did not start: `python -m "
                    f"fastslow.tasks.grading_server` ended with {self._process.wait()}: "
                    f"{errors.read()[-1000:].decode(errors='replace')}"
                )
        if (problem := json.loads(greeting)) != READY:
            self.close()
            raise _UnfitTaskError(problem)

    def ask(self, payloads: Mapping[int, bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Replies by the number of what was asked, as they come; fewer if the server dies."""
        numbers = list(payloads)
        # The server may have replies to get rid of before it takes in the next question.
        writer = threading.Thread(target=self._write, args=(payloads.values(),), daemon=True)
        writer.start()
        for _ in numbers:
            line = self._replies.readline()
            if not line.endswith(b"\n"):
                break
            place, _, reply = line.partition(b" ")
            yield numbers[int(place) - self._asked], json.loads(reply)
        self._asked += len(numbers)
        writer.join()

    def _write(self, payloads: Iterable[bytes]) -> None:
        with suppress(BrokenPipeError):
            for payload in payloads:
                send(self._requests, payload)


def _end(process: subprocess.Popen[bytes], scratch: str) -> None:
    """End a server, which ends its graders, and remove what they left in their folder."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    shutil.rmtree(scratch, ignore_errors=True)


def _environment(scratch: str) -> dict[str, str]:
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        "TMPDIR": scratch,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONHASHSEED": "0",  # verdicts depend on nothing but the completion, sets' order neither
        **dict.fromkeys(threads, "1"),  # there is a grader for each processor
    }
