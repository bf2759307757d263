"""The process that grades: it loads a task once and forks the graders that do the work.

``tasks.grading`` starts it. The server runs none of the verifier's code once it has loaded the
task; its children, the graders, do. A grader that takes too long, or dies, is killed with
everything that it started, and another is forked in its place within milliseconds. Nothing here
imports torch, so forking is safe: the server has one thread.

In both directions a pipe carries the traffic: towards the graders frames, a length and a pickle
that the run itself made; back from them lines of JSON, which cannot do what a pickle can.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import pickle
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fastslow.errors import InputError
from fastslow.redaction import redact
from fastslow.tasks.loading import load_file
from fastslow.tasks.protocol import Task
from fastslow.types import FeedbackError, Problem, ScoreError, Verdict

READY = "ready"
"""What a server says first if it could build the task; otherwise it says why not, and ends."""
HEADER = struct.Struct(">I")
TICK = 0.05
"""Seconds between two looks whether a grader died that says nothing."""

LINUX = sys.platform.startswith("linux")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True)
class Assignment:
    """All that a server is told when it starts.

    Attributes:
        files: modules that were loaded from files, by path, before the task can be unpickled.
        task: the pickled task.
        workers: graders at a time.
        seconds: for one verdict.
        memory: bytes for one verdict.
    """

    files: tuple[str, ...]
    task: bytes
    workers: int
    seconds: float
    memory: int


def work(task: Task, problem: Problem, completion: str | None) -> dict[str, Any]:
    """Grade a completion or, without one, make a demonstration.

    Nothing but an interruption gets out of it. What a verifier raises becomes text here and nowhere
    else: without secrets, for it may quote a key, and without what steers a terminal.

    Returns:
        ``score`` and ``feedback``, or ``text``; otherwise one of these, with the verifier's
        traceback in ``trace``:

        - ``failed``: what the verifier did instead of reaching a verdict;
        - ``stopped``: the limit that it ran into;
        - ``fault``: what is wrong with its score;
        - ``refused``: why the task cannot be worked on: this system, or a mistake in its code.
    """
    try:
        if completion is None:
            return {"text": _text(task.demonstrate(problem), problem)}
        verdict = _verdict(task.grade(problem, completion))
        return {"score": verdict.score, "feedback": verdict.feedback}
    except InputError as error:
        return {"refused": _told(error)}
    except FeedbackError as error:
        return {"refused": f"problem {problem.id!r}: {_told(error)}"}
    except ScoreError as error:
        return {"fault": _told(error), "trace": _trace()}
    except MemoryError:
        return {"stopped": "it needed more memory than it may have", "trace": ""}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _failed(error)


def _verdict(found: object) -> Verdict:
    """What ``grade`` returned, as a verdict of ours: a subclass may have changed what it holds."""
    if isinstance(found, Verdict):
        return Verdict(found.score, found.feedback)
    raise TypeError(f"grade() returned {_kind(found)}, not a Verdict")


def _text(found: object, problem: Problem) -> str | None:
    if found is None or isinstance(found, str):
        return found
    raise InputError(
        f"problem {problem.id!r}: demonstrate() returned {_kind(found)}; expected text or None"
    )


def _kind(found: object) -> str:
    if inspect.iscoroutine(found):
        found.close()
        return "a coroutine (it is declared with async def; nothing awaits it)"
    return type(found).__name__


def _failed(error: BaseException) -> dict[str, Any]:
    exited = isinstance(error, SystemExit)
    what = "called sys.exit" if exited else f"raised {type(error).__name__}: {_told(error)}"
    what = what.removesuffix(": ")
    return {"failed": f"it {what}", "trace": _trace()}


def _told(error: BaseException) -> str:
    """The message of an error, on a line."""
    try:
        text = str(error)
    except Exception:
        text = "(an error without a message that could be read)"
    return _plain(" ".join(redact(text).split()))[:500]


def _trace() -> str:
    """The traceback of the error that is being handled."""
    return _plain(redact(traceback.format_exc()))[-4000:]


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class Grader:
    """A child that grades one item at a time.

    Attributes:
        pid: of the child, which leads a process group of its own.
        requests: where it reads.
        replies: where it writes.
        scratch: its folder for temporary files, which goes when it goes.
        item: the number of the item that it is at, None while it waits.
        deadline: on the monotonic clock, for that item.
    """

    def __init__(self, task: Task, memory: int, inherited: Iterable[int]) -> None:
        read_request, self.requests = os.pipe()
        self.replies, write_reply = os.pipe()
        self.scratch = tempfile.mkdtemp()
        self.item: int | None = None
        self.deadline = 0.0
        self._buffer = b""
        self._reaped = False
        self.pid = os.fork()
        if not self.pid:
            for descriptor in (self.requests, self.replies, *inherited):
                os.close(descriptor)
            os.environ["TMPDIR"] = tempfile.tempdir = self.scratch
            _serve(task, memory, read_request, write_reply)
        os.close(read_request)
        os.close(write_reply)

    def begin(self, number: int, payload: bytes, seconds: float) -> None:
        self.item, self.deadline = number, time.monotonic() + seconds
        with suppress(BrokenPipeError):  # it died while it waited: found out at the next look
            send(self.requests, payload)

    def read(self) -> bytes | None:
        """Its reply if that is complete by now. Raises: EOFError, if it died."""
        part = os.read(self.replies, 1 << 20)
        if not part:
            raise EOFError
        self._buffer += part
        if b"\n" not in part:
            return None
        reply, self._buffer, self.item = self._buffer, b"", None
        return reply.rstrip(b"\n")

    def is_dead(self) -> bool:
        """Whether it died, even if something that it started still holds its pipe."""
        self._reaped = self._reaped or os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return self._reaped

    def kill(self) -> None:
        """Kill it with everything that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL)  # in case it is not yet, or no longer, in its group
            os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.replies)
        shutil.rmtree(self.scratch, ignore_errors=True)


class Server:
    """Deals items to graders, in order, and passes on what they say."""

    def __init__(self, task: Task, assignment: Assignment, requests: int, replies: int) -> None:
        self._task, self._assignment = task, assignment
        self._requests, self._replies = requests, replies
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._graders: list[Grader] = []
        self._input = bytearray()
        self._count = 0

    def run(self) -> None:
        """Until the run closes its end of the pipe, or is no more."""
        try:
            while self._listen():
                self._deal()
        finally:
            for grader in self._graders:
                grader.kill()
            kill_orphans()

    def _listen(self) -> bool:
        """Wait for something to happen and take note of it. Returns: whether to go on."""
        busy = {grader.replies: grader for grader in self._graders if grader.item is not None}
        ready, _, _ = select.select([self._requests, *busy], [], [], TICK if busy else None)
        for descriptor in ready:
            if descriptor != self._requests:
                self._hear(busy.pop(descriptor))
        for grader in busy.values():
            if time.monotonic() >= grader.deadline:
                self._lose(grader, f"it took longer than {self._assignment.seconds:g} seconds")
            elif not ready and grader.is_dead():
                self._lose(grader, "it ended its process")
        return self._requests not in ready or self._receive()

    def _receive(self) -> bool:
        part = os.read(self._requests, 1 << 20)
        self._input += part
        while len(self._input) >= HEADER.size:
            end = HEADER.size + HEADER.unpack_from(self._input)[0]
            if len(self._input) < end:
                break
            self._waiting.append((self._count, bytes(self._input[HEADER.size : end])))
            self._count += 1
            del self._input[:end]
        return bool(part)

    def _deal(self) -> None:
        """Give every idle grader something to do."""
        while self._waiting:
            grader = next((grader for grader in self._graders if grader.item is None), None)
            if grader is None:
                if len(self._graders) == self._assignment.workers:
                    return
                grader = self._fork()
            grader.begin(*self._waiting.popleft(), self._assignment.seconds)

    def _fork(self) -> Grader:
        pipes = [pipe for other in self._graders for pipe in (other.requests, other.replies)]
        inherited = [self._requests, self._replies, *pipes]
        grader = Grader(self._task, self._assignment.memory, inherited)
        self._graders.append(grader)
        return grader

    def _hear(self, grader: Grader) -> None:
        number = grader.item
        assert number is not None
        try:
            reply = grader.read()
        except EOFError:
            self._lose(grader, "it ended its process")
            return
        if reply is None:
            return
        self._tell(number, reply)
        if b'"trace"' in reply:  # its memory may be full, or half changed
            self._bury(grader)

    def _lose(self, grader: Grader, reason: str) -> None:
        assert grader.item is not None
        self._tell(grader.item, json.dumps({"stopped": reason, "trace": ""}).encode())
        self._bury(grader)

    def _bury(self, grader: Grader) -> None:
        self._graders.remove(grader)
        grader.kill()
        kill_orphans(spare={other.pid for other in self._graders})

    def _tell(self, number: int, reply: bytes) -> None:
        write(self._replies, b"%d %s\n" % (number, reply))


def _serve(task: Task, memory: int, requests: int, replies: int) -> NoReturn:
    """A grader's life: read an item, grade it, say so."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    limit_memory(memory)
    own = os.getpid()
    try:
        while (payload := receive(requests)) is not None:
            try:
                problem, completion = pickle.loads(payload)
            except Exception as error:  # of a class that only the run knows
                reply: dict[str, Any] = {"unfit": f"{type(error).__name__}: {error}"}
            else:
                try:
                    reply = work(task, problem, completion)
                except KeyboardInterrupt as error:  # nobody interrupts a grader but its verifier
                    reply = _failed(error)
            if os.getpid() != own:
                break  # the verifier forked, and this is the copy: the original replies
            write(replies, json.dumps(reply).encode() + b"\n")
    finally:
        os._exit(0)


def limit_memory(allowance: int) -> None:
    """Let this process take ``allowance`` bytes more than it has, where the system can tell."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + allowance
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def kill_orphans(spare: Iterable[int] = ()) -> None:
    """Kill what dead graders left behind outside their group; Linux gives it to this process."""
    spared = set(spare)
    while orphans := [pid for pid in _children() if pid not in spared]:
        for pid in orphans:  # their own children come to this process next
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    """The children of this process, as far as the system tells."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state parent ...; the name may hold anything, brackets too
            parent = stat.read_bytes().rpartition(b")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def send(descriptor: int, payload: bytes) -> None:
    """Write a frame."""
    write(descriptor, HEADER.pack(len(payload)) + payload)


def write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int) -> bytes | None:
    """A frame, None at the end of the pipe."""
    header = _exactly(descriptor, HEADER.size)
    return None if header is None else _exactly(descriptor, HEADER.unpack(header)[0])


def _exactly(descriptor: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = os.read(descriptor, size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value))


def main() -> None:
    """Read the assignment from standard input, build the task, say how that went, and serve."""
    requests, replies = os.dup(0), os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)  # what verifiers print must not stand between the replies
    payload = receive(requests)
    if payload is None:
        return
    assignment: Assignment = pickle.loads(payload)
    try:
        for path in assignment.files:
            load_file(Path(path))
        task: Task = pickle.loads(assignment.task)
        task.warm_up()
    except Exception as error:
        write(replies, json.dumps(f"{type(error).__name__}: {error}").encode() + b"\n")
        return
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    os.dup2(silence, 2)
    write(replies, json.dumps(READY).encode() + b"\n")
    Server(task, assignment, requests, replies).run()


if __name__ == "__main__":
    from fastslow.tasks import grading_server

    grading_server.main()  # of the module, not of its copy: pickles name the module's classes
