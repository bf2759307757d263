"""Programs of a data set and what they return: run in the sandbox, once, and kept in a cache.

What a program returns is the answer to a problem only if its code and its arguments determine it.
Programs whose text reaches for the network, files, processes, the clock or randomness without a
seed are refused unrun. The others run several times, each time with the random generators in
another state, with objects at other addresses and with sets read in another order, and count only
if they always return the same.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, Self

from fastslow import sandbox
from fastslow.models import cache_folder
from fastslow.run import disk
from fastslow.sandbox import Jail, Limits, Program, Sandbox
from fastslow.sandbox.jail import package_folders
from fastslow.tasks.json_values import read_value

logger = logging.getLogger("fastslow.tasks")

SALTS = (0, 1, 2)
"""The runs of a call, one after the other in one process, which no other call ever enters. The
first runs the program as it is, the others try to make it differ: the random generators start
elsewhere, new objects lie at other addresses, sets are read in other orders."""
SECONDS = 2.0
"""Processor time of one run, rounded to whole seconds."""
BATCH = 64
"""Calls that share a file of the cache."""
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
    batches = iter(lambda: list(islice(waiting, BATCH)), [])
    workers = min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers)
    with _Jails() as jails:
        try:
            first = islice(batches, workers + 1)
            ahead = deque(pool.submit(_cached, batch, jails) for batch in first)
            while ahead:
                found = ahead.popleft().result()
                ahead += [pool.submit(_cached, batch, jails) for batch in islice(batches, 1)]
                yield from found
        finally:
            pool.shutdown(cancel_futures=True)


class _Jails:
    """The sandboxes of the threads that run programs, each with the libraries that it has loaded.

    Programs of different authors may follow one another in a sandbox: none is told of another.
    """

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._all = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()

    def having(self, libraries: tuple[str, ...], number: int = 0) -> Sandbox:
        """This thread's sandbox in which ``libraries`` are loaded; one for each ``number``."""
        known = vars(self._of_thread).setdefault("jails", {})
        if (libraries, number) not in known:
            jail = Jail([*_PRELOAD, *libraries], {_RUNNER: _RUNNER_TEXT})
            known[libraries, number] = self._all.enter_context(jail)
        found: Jail = known[libraries, number]
        return found


def _cached(calls: Sequence[Call], jails: _Jails) -> list[Returned | str]:
    path = _cache_file(calls)
    try:
        found = [_outcome(text) for text in json.loads(path.read_text(encoding="utf-8"))]
        if len(found) == len(calls):
            return found
    except (OSError, ValueError, TypeError):
        pass  # not there yet, or damaged
    found = [_confirmed(call, jails) for call in calls]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_text(path, json.dumps([_text(one) for one in found]))
    except OSError as error:
        logger.warning("what programs return is not kept, and will be run again: %s", error)
    return found


def _cache_file(calls: Sequence[Call]) -> Path:
    """Named after all that what it holds depends on."""
    how = [_RUNNER_TEXT, SALTS, vars(_limits()), _environment(), _sandbox_texts()]
    content = json.dumps([how, [vars(call) for call in calls]])
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return cache_folder() / "programs" / f"{digest}.json"


@cache
def _environment() -> list[str]:
    """The Python that runs programs and every library that they may import, with versions: where
    one is missing, programs crash that run elsewhere."""
    found = metadata.distributions(path=package_folders())
    libraries = {f"{library.name} {library.version}" for library in found}
    return [sys.version, *sorted(libraries)]


@cache
def _sandbox_texts() -> list[str]:
    """What confines programs: where it allows another thing, other programs crash."""
    files = sorted(Path(sandbox.__file__).parent.glob("*.py"))
    return [file.read_text(encoding="utf-8") for file in files]


def _libraries(call: Call) -> tuple[str, ...]:
    """Large libraries that a call uses. Their import is not in its time, but slows each fork."""
    text = call.code + call.generator
    return tuple(name for name in ("numpy.random", "sympy") if name.partition(".")[0] in text)


def _confirmed(call: Call, jails: _Jails) -> Returned | str:
    """What came of a call, in a second sandbox too where that may be another."""
    libraries = _libraries(call)
    found = _run(jails.having(libraries), call)
    if isinstance(found, Returned) and _may_show_old_addresses(call, found):
        again = _run(jails.having(libraries, number=1), call)
        return found if _is_same(found, again) else "differs from run to run"
    return found


def _may_show_old_addresses(call: Call, found: Returned) -> bool:
    """Whether the outcome may depend on where objects lie that are older than the program: None,
    types, functions of modules. All processes of one sandbox have them at the same addresses.

    Such an address shows in a hash, in the order of a set, or in a text ("0x7f...").
    """
    nodes = ast.walk(ast.parse(f"{call.code}\n{call.generator}"))
    return any(map(_tells_addresses, nodes)) or "0x" in _text(found)


def _tells_addresses(node: ast.AST) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name in _TELLS_ADDRESSES
    return False


def _run(jail: Sandbox, call: Call) -> Returned | str:
    how = (
        {"generator": call.generator, "seed": call.seed}
        if call.arguments is None
        else {"arguments": call.arguments}
    )
    bounds = {"seconds": ceil(SECONDS), "characters": LINE_LIMIT}
    job = {"code": call.code, "entry": call.entry, "salts": SALTS, **bounds, **how}
    result = jail.run(Program(_CALL, stdin=json.dumps(job)), _limits())
    if result.timed_out:
        return "time limit"
    if result.returncode != 0:
        logger.debug("a program crashed: %s", result.reason or result.stderr[-500:])
        return "crash"
    first, *others = lines = result.stdout.split("\n")[:-1] or [""]
    if len(lines) != len(SALTS):
        return "crash"  # the program ended the process by itself
    found = _outcome(first)
    if all(line == first or _is_same(found, _outcome(line)) for line in others):
        return found
    return "differs from run to run"


def _is_same(one: Returned | str, other: Returned | str) -> bool:
    """Whether two runs had the same outcome, of which 1, 1.0 and true are three."""
    return _text(one, sort_keys=True) == _text(other, sort_keys=True)


def _text(outcome: Returned | str, **how: Any) -> str:
    return json.dumps(
        vars(outcome) if isinstance(outcome, Returned) else {"failure": outcome}, **how
    )


def _limits() -> Limits:
    runs = len(SALTS)
    return Limits(
        seconds=5 * (runs * SECONDS + 1),  # the clock goes on while other processes work
        cpu_seconds=runs * SECONDS,
        memory_bytes=2 << 30,
        output_bytes=runs * (LINE_LIMIT + 1),
        file_bytes=0,
        threads=1,
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


_RUNNER = "program_runner"
_RUNNER_TEXT = Path(__file__).with_name(f"{_RUNNER}.py").read_text(encoding="utf-8")
_CALL = compile(f"import {_RUNNER}; {_RUNNER}.main()", "main.py", "exec")
_PRELOAD = ("collections", "math", "re", "typing")
"""What most programs import. Each module makes the start of every program a little slower."""


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

_TELLS_ADDRESSES = frozenset(
    {"id", "hash", "__hash__", "set", "frozenset", "eval", "exec", "compile"}
    | {"getattr", "globals", "locals", "vars", "builtins", "__builtins__", "__dict__", "modules"}
    | {"gc", "inspect", "operator", "pickle", "weakref", "repr", "ascii", "sympy", "networkx"}
)
"""Names through which a program may get at an address, or at the order of a set."""

_FUNCTIONS = {"open": "files", "input": "files", "__import__": "files"}
