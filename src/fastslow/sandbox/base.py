"""What a sandbox is: a program goes in with its limits, and its outcome comes out.

A tool or a task that runs code asks for a ``Sandbox`` and does not care how the code is confined.
``fastslow.sandbox.jail`` has the one that is built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Protocol


@dataclass(frozen=True)
class Program:
    """A Python program and what it is given.

    Attributes:
        code: its text; or compiled code, if the caller wrote it and runs it many times.
        stdin: what it reads from standard input.
        files: texts by path, relative to the folder in which the program starts.
    """

    code: str | CodeType
    stdin: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: of the clock.
        cpu_seconds: of all its threads together, rounded up to whole seconds.
        memory_bytes: of address space. The interpreter itself takes about 40 MB.
        output_bytes: of standard output and of standard error, each. The rest is cut off.
        file_bytes: of all files that the program writes, together. 0: it can write no file.
        threads: at a time, the main thread included. 1: it can start none.
    """

    seconds: float = 10.0
    cpu_seconds: float = 10.0
    memory_bytes: int = 2**30
    output_bytes: int = 2**20
    file_bytes: int = 2**24
    threads: int = 64


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        returncode: its exit code, or minus the number of the signal that killed it. None if the
            sandbox stopped it.
        stdout: what it wrote, as UTF-8, at most ``Limits.output_bytes`` of it.
        stderr: as ``stdout``. It ends with a traceback if the program raised.
        timed_out: whether its time was up, on the clock or of the processor.
        reason: which limit it exceeded, or which signal killed it. None if neither.
    """

    returncode: int | None
    stdout: str
    stderr: str
    timed_out: bool = False
    reason: str | None = None


class Sandbox(Protocol):
    """Runs programs that nobody trusts."""

    def run(self, program: Program, limits: Limits = DEFAULT_LIMITS) -> Outcome:
        """Run a program to its end.

        It must not learn anything of other programs that ran here, nor change what becomes of
        them, of the caller, or of the machine.

        Raises:
            InputError: this machine cannot confine a program; nothing was run.
            RunError: the sandbox itself failed.
            ValueError: a path in ``program.files`` leads out of the program's folder.
        """
        ...
