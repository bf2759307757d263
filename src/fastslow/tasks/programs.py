"""Programs of a data set and what they return: run in the sandbox, once, and kept in a cache.

What a program returns is the answer to a problem only if its code and its arguments determine it.
Programs whose text reaches for the network, files, processes, the clock or randomness without a
seed are refused unrun. The others run several times, each time with the random generators in
another state and with sets read in another order, and count only if they always return the same.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from fastslow.models import cache_folder
from fastslow.run import disk
from fastslow.sandbox import Jail, Limits, Program, Sandbox
from fastslow.sandbox.jail import package_folders
from fastslow.tasks.json_values import read_value

logger = logging.getLogger("fastslow.tasks")

SALTS = ((0,), (1, 2))
"""The runs of a call, in two processes in which objects lie at other addresses. The first runs the
program as it is, the others try to make it differ."""
SECONDS = 2.0
"""Processor time of one call, rounded up to whole seconds."""
BATCH = 64
"""Calls that share the start of a sandbox and a file of the cache."""
LINE_LIMIT = 1 << 20
"""Characters of arguments and output together, at most."""


@dataclass(frozen=True)
class Call:
    """One call of a program's function.

    Attributes:
        code: the program.
        entry: name of the function in it.
        arguments: keyword arguments, or None where the generator makes them.
        generator: code of ``generate_inputs(rng)``, which returns the arguments.
        seed: of the generator.
    """

    code: str
    entry: str
    arguments: dict[str, Any] | None = None
    generator: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Returned:
    """What a call was given and what it returned, every time; plain JSON values."""

    arguments: dict[str, Any]
    output: Any


def outcomes(calls: Iterable[Call]) -> Iterator[Returned | str]:
    """What came of each call, in order: what it returned, or in a few words why nothing can count.

    Calls are taken as results are asked for, some batches ahead. A batch that was run before, on
    this machine by this Python and with these libraries, comes from the cache.

    Raises:
        InputError: this machine cannot isolate what it runs.
        RunError: the sandbox does not start.
    """
    waiting = iter(calls)
    workers = min(4, os.cpu_count() or 1)
    while window := list(islice(waiting, workers * BATCH)):
        batches = [window[start : start + BATCH] for start in range(0, len(window), BATCH)]
        with ThreadPoolExecutor(len(batches)) as pool:
            for found in pool.map(_cached, batches):
                yield from found


def _cached(calls: Sequence[Call]) -> list[Returned | str]:
    path = _cache_file(calls)
    try:
        found = [_outcome(text) for text in json.loads(path.read_text(encoding="utf-8"))]
        if len(found) == len(calls):
            return found
    except (OSError, ValueError, TypeError):
        pass  # not there yet, or damaged
    found = _run(calls)
    texts = [
        json.dumps(vars(one) if isinstance(one, Returned) else {"failure": one}) for one in found
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_text(path, json.dumps(texts))
    except OSError as error:
        logger.warning("what programs return is not kept, and will be run again: %s", error)
    return found


def _cache_file(calls: Sequence[Call]) -> Path:
    """Named after all that what it holds depends on."""
    limits = [vars(_limits(len(salts))) for salts in SALTS]
    content = json.dumps([_RUNNER_TEXT, SALTS, limits, _environment(), [vars(c) for c in calls]])
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return cache_folder() / "programs" / f"{digest}.json"


@cache
def _environment() -> list[str]:
    """The Python that runs programs and every library that they may import, with versions: where
    one is missing, programs crash that run elsewhere."""
    found = metadata.distributions(path=package_folders())
    libraries = {f"{library.name} {library.version}" for library in found}
    return [sys.version, *sorted(libraries)]


def _run(calls: Sequence[Call]) -> list[Returned | str]:
    first, *others = SALTS
    found = _run_all(calls, first)
    for salts in others:
        good = [index for index, one in enumerate(found) if isinstance(one, Returned)]
        again = _run_all([calls[index] for index in good], salts)
        for index, other in zip(good, again, strict=True):
            if other != found[index]:
                found[index] = "differs from run to run"
    return found


def _run_all(calls: Sequence[Call], salts: Sequence[int]) -> list[Returned | str]:
    """What came of each call, the same with each salt."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, call in enumerate(calls):
        groups.setdefault(_libraries(call), []).append(index)
    found: dict[int, Returned | str] = {}
    for libraries, indices in groups.items():
        with Jail(preload=[*_PRELOAD, *libraries]) as jail:
            found |= {index: _run_call(jail, calls[index], salts) for index in indices}
    return [found[index] for index in range(len(calls))]


def _libraries(call: Call) -> tuple[str, ...]:
    """Large libraries that a call uses. Their import is not in its time, but slows each fork."""
    text = call.code + call.generator
    return tuple(name for name in ("numpy.random", "sympy") if name.partition(".")[0] in text)


def _run_call(sandbox: Sandbox, call: Call, salts: Sequence[int]) -> Returned | str:
    how = (
        {"generator": call.generator, "seed": call.seed}
        if call.arguments is None
        else {"arguments": call.arguments}
    )
    job = {"code": call.code, "entry": call.entry, "salts": salts, **how}
    result = sandbox.run(Program(_RUNNER, stdin=json.dumps(job)), _limits(len(salts)))
    if result.timed_out:
        return "time limit"
    if result.returncode != 0:
        logger.debug("a program crashed: %s", result.reason or result.stderr[-500:])
        return "crash"
    found = [_outcome(line) for line in result.stdout.splitlines()]
    if len(found) != len(salts):
        return "crash"  # the program ended the process by itself
    return found[0] if all(one == found[0] for one in found) else "differs from run to run"


def _limits(runs: int) -> Limits:
    return Limits(
        seconds=runs * (5 * SECONDS + 5),  # the clock goes on while other processes work
        cpu_seconds=runs * SECONDS,
        memory_bytes=2 << 30,
        output_bytes=runs * (LINE_LIMIT + 1),
        file_bytes=0,
    )


def _outcome(line: str) -> Returned | str:
    try:
        value = read_value(line, LINE_LIMIT)
    except ValueError:
        return "no JSON value"
    match value:
        case {"arguments": dict(arguments), "output": output}:
            return Returned(arguments, output)
        case {"failure": str(failure)}:
            return failure
    return "arguments are no object"


_RUNNER_TEXT = Path(__file__).with_name("program_runner.py").read_text(encoding="utf-8")
_RUNNER = compile(_RUNNER_TEXT, "program_runner.py", "exec")
_PRELOAD = ("ast", "collections", "contextlib", "json", "math", "random", "re", "typing")
"""What the runner imports, and most programs."""


def refusal(code: str) -> str | None:
    """Why a program's text says that it does not depend on its arguments alone, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful escapes, which are not our programs'
            tree = ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return "no Python"
    nodes = list(ast.walk(tree))
    for node in nodes:
        for module in _imported(node):
            if reason := _MODULES.get(module.partition(".")[0]):
                return reason
        match node:
            case ast.Call(func=ast.Name(id=name)) if reason := _FUNCTIONS.get(name):
                return reason
            case ast.Attribute(attr="now" | "today" | "utcnow"):
                return "clock"
    if any(map(_draws, nodes)) and not any(map(_seeds, nodes)):
        return "randomness without a seed"
    return None


def refusal_of_generator(code: str) -> str | None:
    """As ``refusal``, for code that may draw at random, since its seed is set from outside."""
    reason = refusal(code)
    return None if reason == "randomness without a seed" else reason


def _imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
    return []


def _draws(node: ast.AST) -> bool:
    """Whether a node takes something out of ``random`` or ``numpy.random``."""
    match node:
        case ast.Attribute(value=ast.Name(id="random") | ast.Attribute(attr="random")):
            return True
        case ast.ImportFrom(module="random" | "numpy.random"):
            return True
    return False


def _seeds(node: ast.AST) -> bool:
    """Whether a node gives a random generator a seed."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[_, *_]):
            return name in ("seed", "Random", "RandomState", "default_rng")
    return False


_MODULES = {
    **dict.fromkeys(
        ("ftplib", "http", "requests", "select", "smtplib", "socket", "ssl", "urllib", "urllib3"),
        "network",
    ),
    **dict.fromkeys(
        (
            "fileinput",
            "glob",
            "os",
            "pathlib",
            "shelve",
            "shutil",
            "sqlite3",
            "tempfile",
            "zipfile",
        ),
        "files",
    ),
    **dict.fromkeys(
        ("asyncio", "concurrent", "ctypes", "multiprocessing", "signal", "subprocess", "threading"),
        "processes",
    ),
    "time": "clock",
    **dict.fromkeys(("secrets", "uuid"), "randomness without a seed"),
}
"""Modules that tie a program to more than its arguments, and to what."""

_FUNCTIONS = {"open": "files", "input": "files", "__import__": "files"}
