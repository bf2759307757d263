"""The built-in sandbox: programs confined by Linux itself, each in a process of its own.

A jail starts one Python process, which forks a child for each program (``sandbox.inside``). So a
program costs some milliseconds, and can do nothing to the next one. Where the system lacks what
that takes, nothing is run: there is no weaker sandbox to fall back on.
"""

from __future__ import annotations

import marshal
import os
import platform
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from math import ceil
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self

from fastslow.errors import InputError, RunError
from fastslow.sandbox import system_calls
from fastslow.sandbox.base import DEFAULT_LIMITS, Limits, Outcome, Program

INSIDE = Path(__file__).with_name("inside.py")

LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
"""Where the interpreter's libraries may lie, beside its own folder."""

PREFIX = "fastslow-"
"""Of the names of temporary folders."""
OPEN_FILES = 64
FILES = 1000
"""Files in a program's folder, at most."""
PAGE = 4096
"""Bytes in which the space of files is counted."""


class Jail:
    """A sandbox of Linux, which runs one program at a time.

    Close it, or use it in ``with``. One that is neither ends when nothing refers to it any more.

    A program may import what is installed beside this interpreter, but no part of a package that
    is installed from a working tree. It starts in an empty temporary folder, the only place where
    it may write: files, no folders. It can reach no network, start no process and see no other
    file. Hashing is not randomised, so equal programs print their sets in equal order.

    Args:
        preload: names of modules that are imported once, before the programs run. They must be
            the caller's choice, since they are imported outside the walls.
        modules: the caller's own modules, by name, as texts. They too are loaded once, outside the
            walls, behind ``preload``.
    """

    def __init__(
        self, preload: Sequence[str] = (), modules: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._preload = tuple(preload)
        self._modules = dict(modules)
        self._resources = ExitStack()
        weakref.finalize(self, _close, self._resources, os.getpid())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process that the programs are forked from. A later program starts another."""
        self._process = None
        self._resources.close()

    def run(self, program: Program, limits: Limits = DEFAULT_LIMITS) -> Outcome:
        """Run a program and wait for its end. As ``Sandbox.run``."""
        files = {_inner(name): text for name, text in program.files.items()}
        try:
            if self._process is None:
                self._start()
            return self._run(program, files, limits)
        except BaseException:
            self.close()  # a program may still be running
            raise

    def _start(self) -> None:
        if not sys.platform.startswith("linux"):
            raise _impossible(f"Linux; found {sys.platform}")
        setup = self._resources.enter_context(
            _in_memory(marshal.dumps(_setup(self._preload, self._modules)))
        )
        folder = tempfile.mkdtemp(prefix=PREFIX)
        self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
        self._errors = self._resources.enter_context(_in_memory())
        self._channel, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._resources.enter_context(self._channel)
        with inner:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-s", "-S", "-P", "-B", INSIDE),
                    *(str(setup.fileno()), str(inner.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(setup.fileno(), inner.fileno()),
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,  # the keyboard's interrupt is for the run
            )
        self._resources.callback(_end, self._process)

    def _run(self, program: Program, files: Mapping[str, str], limits: Limits) -> Outcome:
        with ExitStack() as stack:
            has_folder = bool(files) or limits.file_bytes > 0
            made = tempfile.TemporaryDirectory(prefix=PREFIX) if has_folder else nullcontext("")
            space = _space(stack.enter_context(made), files, limits)
            bounds = {"seconds": limits.seconds, "threads": limits.threads, **space}
            job = {
                "code": program.code,
                "files": files,
                "limits": _resource_limits(limits),
                **bounds,
            }
            stdin = program.stdin.encode("utf-8", "replace")
            streams = [
                stack.enter_context(_in_memory(content))
                for content in (marshal.dumps(job), stdin, b"", b"")
            ]
            try:
                socket.send_fds(
                    self._channel, [marshal.dumps(bounds)], [file.fileno() for file in streams]
                )
                said, code, reason, timed_out = marshal.loads(self._channel.recv(2**16))
            except (OSError, EOFError):
                raise RunError(
                    "the sandbox ended, which its programs cannot bring about: "
                    f"{_read(self._errors, 2000).strip() or 'it said nothing'}"
                ) from None
            if "no " in said:
                raise _impossible(said.partition("no ")[2])
            if "confined" not in said and reason is None:
                raise RunError(
                    f"the sandbox did not start a program: its process ended with exit code {code}:"
                    f" {_read(streams[3], 2000).strip()}"
                )
            return _outcome(code, streams[2], streams[3], limits, reason, timed_out)


def run_python(
    code: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] = MappingProxyType({}),
    limits: Limits = DEFAULT_LIMITS,
) -> Outcome:
    """Run one Python program in a jail of its own. See ``Jail`` and ``Program``.

    Raises:
        InputError: this system cannot confine a process; the message says what is missing.
        RunError: the sandbox did not start.
        ValueError: a path of ``files`` leads out of the folder.
    """
    with Jail() as jail:
        return jail.run(Program(code, stdin, files), limits)


def _outcome(
    returncode: int,
    stdout: BinaryIO,
    stderr: BinaryIO,
    limits: Limits,
    stopped: str | None,
    timed_out: bool,
) -> Outcome:
    """How a program ended that was stopped for a reason, or came to its own end."""
    reason = stopped
    if stopped is None and returncode == -signal.SIGXCPU:
        timed_out = True
        reason = f"it took longer than {ceil(limits.cpu_seconds)} seconds of processor time"
    elif stopped is None and max(map(_size, (stdout, stderr))) > limits.output_bytes:
        reason = f"it wrote more than {limits.output_bytes} bytes of output"
    elif stopped is None and returncode < 0:
        reason = f"it was killed by {signal.Signals(-returncode).name}"
    return Outcome(
        returncode=returncode if stopped is None else None,
        stdout=_read(stdout, limits.output_bytes),
        stderr=_read(stderr, limits.output_bytes),
        timed_out=timed_out,
        reason=reason,
    )


def _setup(preload: Sequence[str], modules: dict[str, str]) -> dict[str, Any]:
    """What all programs of a jail have in common. Raises: InputError."""
    machine = platform.machine()
    if machine not in system_calls.MACHINES:
        known = ", ".join(system_calls.MACHINES)
        raise _impossible(f"a processor that is one of {known}; found {machine}")
    packages = package_folders()
    return {
        "preload": preload,
        "modules": modules,
        "packages": packages,
        "readable": [sys.base_prefix, *packages, *LIBRARIES],
        "allow_list": system_calls.packed(system_calls.allow_list(machine)),
        "allow_list_without_threads": system_calls.packed(
            system_calls.allow_list(machine, has_threads=False)
        ),
        "ask_before_threads": system_calls.packed(system_calls.ask_before_threads(machine)),
        "seccomp": system_calls.SECCOMP[system_calls.MACHINES[machine]],
    }


def _space(folder: str, files: Mapping[str, str], limits: Limits) -> dict[str, Any]:
    """How much the folder of a program may hold: what it is given, and what it writes.

    A program without a folder of its own (``folder`` is empty) has nothing and writes nothing.
    """
    given = sum(len(text.encode("utf-8", "replace")) // PAGE + 1 for text in files.values())
    return {
        "folder": folder,
        "file_bytes": limits.file_bytes,
        "folder_bytes": limits.file_bytes + given * PAGE,
        "most_files": FILES + len(files),
        "inodes": FILES + sum(1 + name.count("/") for name in files) + 1,
    }


def _resource_limits(limits: Limits) -> dict[str, int]:
    return {
        "RLIMIT_CPU": ceil(limits.cpu_seconds),
        "RLIMIT_AS": limits.memory_bytes,
        # Of one file. That of the outputs lies in memory, so it is no larger than need be.
        "RLIMIT_FSIZE": max(limits.file_bytes, limits.output_bytes + 1),
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_SIGPENDING": OPEN_FILES,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
    }


def package_folders() -> list[str]:
    """The folders of the libraries that a program may import."""
    return [*site.getsitepackages(), *_user_packages()]


def _user_packages() -> list[str]:
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _environment(folder: str) -> dict[str, str]:
    """Nothing of this process's environment, which may hold keys, but where libraries lie."""
    libraries = os.environ.get("LD_LIBRARY_PATH")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        # Without a folder for its settings, matplotlib makes itself one, or fails.
        **dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), folder),
        "MALLOC_ARENA_MAX": "2",  # each arena takes 64 MiB of address space, which is limited
        **({"LD_LIBRARY_PATH": libraries} if libraries else {}),
        **dict.fromkeys(threads, "1"),  # so does each thread
    }


def _inner(name: str) -> str:
    """A path within the program's folder. Raises: ValueError."""
    path = os.path.normpath(name)
    if os.path.isabs(path) or path == "." or path.split("/")[0] == "..":
        raise ValueError(f"files: {name!r} leads out of the program's folder")
    return path


@contextmanager
def _in_memory(content: bytes = b"") -> Iterator[BinaryIO]:
    """A file that lies in no folder, ready to be read from its beginning."""
    with open(os.memfd_create("sandbox"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file


def _close(resources: ExitStack, process: int) -> None:
    """Close a jail that nobody closed, but not the copy of it in a process that was forked."""
    if os.getpid() == process:
        resources.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # and with it the child, if there is one
    process.wait()


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
