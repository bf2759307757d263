"""Running Python code that a model, or a data set, wrote: in a process that can do no harm.

The process is confined by Linux itself (``tasks.jail``) and killed when its time is up. Where the
system has not got what that takes, nothing is run: there is no weaker sandbox to fall back on.
``docs/sandbox.md`` says what it protects against, and against what it does not.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from fastslow.errors import InputError, RunError

JAIL = Path(__file__).with_name("jail.py")

LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
"""Where the interpreter's libraries may lie, beside its own folder."""

OPEN_FILES = 64
MOST_FILES = 1000
"""Files in the temporary folder, at most."""
TICK = 0.05
"""Seconds between two looks at the temporary folder."""


@dataclass(frozen=True)
class Limits:
    """What one program may use. Beyond any of them it is stopped.

    Attributes:
        seconds: of the clock, with the start of the interpreter (about 0.05).
        cpu_seconds: of all its threads together, rounded up to whole ones.
        memory_bytes: of address space; the interpreter itself takes about 40 MB.
        output_bytes: of standard output and of standard error, each; more is cut off.
        file_bytes: in its temporary folder, all files together.
    """

    seconds: float = 10.0
    cpu_seconds: float = 10.0
    memory_bytes: int = 2**30
    output_bytes: int = 2**20
    file_bytes: int = 2**24


@dataclass(frozen=True)
class SandboxResult:
    """How a program ended.

    Attributes:
        returncode: its exit code, minus the signal's number where one killed it; None if it was
            stopped by the sandbox.
        stdout: what it wrote, as UTF-8, at most ``Limits.output_bytes`` of it.
        stderr: as ``stdout``; a traceback if it raised.
        timed_out: whether its time was up, on the clock or of the processor.
        reason: which limit it went beyond, or which signal killed it; None if neither.
    """

    returncode: int | None
    stdout: str
    stderr: str
    timed_out: bool = False
    reason: str | None = None


def run_python(
    code: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] = MappingProxyType({}),
    limits: Limits = Limits(),
) -> SandboxResult:
    """Run a Python program in the sandbox and wait for its end.

    It may import what is installed beside this interpreter, but no part of a package that is
    installed from a working tree. It starts in an empty temporary folder, the only place where it
    may write: files, no folders. It can reach no network, start no process and see no other file.
    Hashing is not randomised, so equal programs print their sets in equal order.

    Args:
        code: the text of the program.
        stdin: what it reads from standard input.
        files: texts by path, relative to the temporary folder, that lie there when it starts.
        limits: see ``Limits``.

    Raises:
        InputError: this system cannot confine a process; the message says what is missing.
        RunError: the interpreter did not start.
        ValueError: a path of ``files`` leads out of the folder.
    """
    if not sys.platform.startswith("linux"):
        raise _impossible(f"Linux; found {sys.platform}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastslow-")))
        _lay(files, folder)
        job = stack.enter_context(_in_memory(marshal.dumps(_job(code, folder, limits))))
        given = stack.enter_context(_in_memory(stdin.encode("utf-8", "replace")))
        stdout, stderr = (stack.enter_context(_in_memory()) for _ in range(2))
        told, tell = os.pipe()
        stack.callback(os.close, told)
        try:
            process = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-B", JAIL, str(job.fileno()), str(tell)],
                stdin=given,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(job.fileno(), tell),
                cwd=folder,
                env=_environment(folder),
            )
        finally:
            os.close(tell)
        try:
            reason, timed_out = _watch(process, folder, limits)
        finally:
            process.kill()  # it has no children, so this is all there is to kill
            process.wait()
        _check_confined(os.read(told, 4096).decode(), reason is not None, process, stderr)
        return _result(process.returncode, stdout, stderr, limits, reason, timed_out)


def _watch(
    process: subprocess.Popen[bytes], folder: Path, limits: Limits
) -> tuple[str | None, bool]:
    """Wait for the end of a program. Returns why it must be stopped, and if that is its time."""
    deadline = time.monotonic() + limits.seconds
    end = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        while not poll.poll(1000 * min(TICK, max(deadline - time.monotonic(), 0))):
            if time.monotonic() >= deadline:
                return f"it took longer than {limits.seconds:g} seconds", True
            if excess := _excess(folder, limits):
                return excess, False
    finally:
        os.close(end)
    return None, False


def _excess(folder: Path, limits: Limits) -> str | None:
    """Which limit the files of a program exceed. The kernel limits each file, not their sum."""
    count = size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            count += 1
            with suppress(FileNotFoundError):
                size += os.stat(os.path.join(parent, name), follow_symlinks=False).st_blocks * 512
            if size > limits.file_bytes:
                return f"its files grew beyond {limits.file_bytes} bytes"
            if count > MOST_FILES:
                return f"it made more than {MOST_FILES} files"
    return None


def _check_confined(
    status: str, stopped: bool, process: subprocess.Popen[bytes], stderr: BinaryIO
) -> None:
    """Whether the jail closed before the program began, by its own word. Raises: as run_python."""
    if status.startswith("no "):
        raise _impossible(status.removeprefix("no "))
    if not status and not stopped:
        raise RunError(
            "the sandbox did not start: its interpreter ended with exit code "
            f"{process.returncode}: {_read(stderr, 2000).strip()}"
        )


def _result(
    returncode: int,
    stdout: BinaryIO,
    stderr: BinaryIO,
    limits: Limits,
    stopped: str | None,
    timed_out: bool,
) -> SandboxResult:
    """How a program ended that was stopped for a reason, or came to its own end."""
    reason = stopped
    if stopped is None and returncode == -signal.SIGXCPU:
        timed_out = True
        reason = f"it took longer than {ceil(limits.cpu_seconds)} seconds of processor time"
    elif stopped is None and max(map(_size, (stdout, stderr))) > limits.output_bytes:
        reason = f"it wrote more than {limits.output_bytes} bytes of output"
    elif stopped is None and returncode < 0:
        reason = f"it was killed by {signal.Signals(-returncode).name}"
    return SandboxResult(
        returncode=returncode if stopped is None else None,
        stdout=_read(stdout, limits.output_bytes),
        stderr=_read(stderr, limits.output_bytes),
        timed_out=timed_out,
        reason=reason,
    )


def _job(code: str, folder: Path, limits: Limits) -> dict[str, Any]:
    """What ``jail.py`` is told."""
    packages = [*site.getsitepackages(), *_user_packages()]
    return {
        "code": code,
        "folder": str(folder),
        "packages": packages,
        "readable": [sys.base_prefix, *packages, *LIBRARIES],
        "limits": {
            "RLIMIT_CPU": ceil(limits.cpu_seconds),
            "RLIMIT_AS": limits.memory_bytes,
            # Of one file. That of the outputs lies in memory, so it is no larger than need be.
            "RLIMIT_FSIZE": max(limits.file_bytes, limits.output_bytes + 1),
            "RLIMIT_NOFILE": OPEN_FILES,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
        },
    }


def _user_packages() -> list[str]:
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of this process's environment, which may hold keys, but where libraries lie."""
    libraries = os.environ.get("LD_LIBRARY_PATH")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "MPLCONFIGDIR": str(folder),  # matplotlib makes itself a folder otherwise, or fails
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        **({"LD_LIBRARY_PATH": libraries} if libraries else {}),
        **dict.fromkeys(threads, "1"),  # each thread would take address space, which is limited
    }


def _lay(files: Mapping[str, str], folder: Path) -> None:
    for name, text in files.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f"files: {name!r} leads out of the program's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@contextmanager
def _in_memory(content: bytes = b"") -> Iterator[BinaryIO]:
    """A file that lies in no folder, ready to be read from its beginning."""
    with open(os.memfd_create("sandbox"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _read(file: BinaryIO, most: int) -> str:
    return os.pread(file.fileno(), most, 0).decode("utf-8", "replace")


def _impossible(missing: str) -> InputError:
    return InputError(
        "this task runs code that a model or a data set wrote, which fastslow does only in a "
        f"sandbox, and this system cannot make one: it needs {missing}. Run it on Linux 6.2 or "
        "newer with Landlock, on x86_64 or aarch64; a virtual machine will do. Nothing was run"
    )
