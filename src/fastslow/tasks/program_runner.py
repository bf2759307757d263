"""Calls one program of a data set and notes what it returns. A module for inside the sandbox.

Standard input holds the call, a JSON object: ``code``, ``entry``, ``salts``, one for each run,
``seconds`` of processor time and ``characters`` of output for each, and either ``generator`` and
its ``seed``, or ``arguments``. Standard output gets one line of JSON for each run:
``{"arguments", "output"}``, or ``{"failure": why}``.

What a program returns must not depend on what no reader of it can know. So the salt decides where
the random generators start and, except in the run of salt 0, at which addresses objects lie and in
which order sets are read.
"""

from __future__ import annotations

import ast
import io
import json
import math
import os
import random
import resource
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any


class Nowhere(io.TextIOBase):
    """Where the program's own output goes."""

    def write(self, text: str) -> int:
        return len(text)


NOWHERE = Nowhere()


def main() -> None:
    job = json.loads(os.read(0, os.fstat(0).st_size))
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        setattr(sys, name, NOWHERE)
    text, held = "", []
    for salt in job["salts"]:
        _limit_time(job["seconds"])
        held.append(_objects(salt))  # where those of the run before lay
        text += f"{_line(job, salt)}\n"
    lines = text.encode()
    with suppress(OSError):  # of an output beyond the limit: it is cut off, and then no JSON
        while lines:
            lines = lines[os.write(1, lines) :]
    os._exit(0)  # nothing that is left to do can matter


def _line(job: dict[str, Any], salt: int) -> str:
    try:
        returned = _call(job, salt)
    except BaseException as error:  # programs end in any way they like, SystemExit too
        return json.dumps({"failure": type(error).__name__})
    try:
        line = json.dumps(returned, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        line = ""
    return line if 0 < len(line) <= job["characters"] else '{"failure": "no JSON value"}'


def _limit_time(seconds: int) -> None:
    """Let this run take so much processor time. The kernel counts it for all runs, in seconds."""
    up = round(time.process_time()) + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(up, hard), hard))


MAKERS: tuple[Callable[[], object], ...] = (
    list, dict, object, lambda: [[]], lambda: ([],), lambda: 2 * math.pi
)  # fmt: skip
"""Types whose memory Python keeps for the next object of the type."""


def _objects(salt: int) -> list[object]:
    """Objects of all small sizes and of ``MAKERS``, as many as the salt says; none for 0."""
    counts = random.Random(salt)
    made: list[object] = []
    for size in range(0, 512, 16) if salt else ():
        made += [bytes(size) for _ in range(counts.randrange(1, 8))]
    for make in MAKERS:
        made += [make() for _ in range(counts.randrange(1, 8) if salt else 0)]
    return made


def _call(job: dict[str, Any], salt: int) -> dict[str, Any]:
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses look their module up
    if salt:
        vars(module)[SetsInAnyOrder.name] = lambda values: _in_any_order(values, salt)
    exec(_compiled(job["code"], salt != 0), vars(module))
    arguments = _generated(job, module) if "generator" in job else job["arguments"]
    # The program gets what the question will show: these values as they come back from JSON.
    shown = json.dumps(arguments, allow_nan=False, default=_plain)
    _seed(salt)
    output = vars(module)[job["entry"]](**json.loads(shown))
    return {"arguments": json.loads(shown), "output": output}


@cache
def _compiled(code: str, reads_sets_in_any_order: bool) -> types.CodeType:
    if not reads_sets_in_any_order:
        return compile(code, "program", "exec")
    tree = SetsInAnyOrder().visit(ast.parse(code))
    return compile(ast.fix_missing_locations(tree), "program", "exec")


def _generated(job: dict[str, Any], module: types.ModuleType) -> object:
    names = {**vars(module), "Random": random.Random}
    exec(compile(job["generator"], "generator", "exec"), names)
    _seed(job["seed"])  # of draws that pass the generator's own by
    return names["generate_inputs"](random.Random(job["seed"]))


def _seed(seed: int) -> None:
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays as Python's. Sets stay refused: they have no order."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")


class SetsInAnyOrder(ast.NodeTransformer):
    """Rewrites a program such that what it reads in order passes through a function first."""

    name = "_in_any_order"
    readers = frozenset(
        {"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "join", "extend", "deque"}
        | {"array", "fromkeys", "chain", "accumulate", "reduce", "OrderedDict", "Counter"}
    )
    """Functions and methods whose result shows the order of their argument."""

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = self._through(node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.iter = self._through(node.iter)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in self.readers:
                node.args = [
                    ast.Starred(self._through(argument.value), argument.ctx)
                    if isinstance(argument, ast.Starred)
                    else self._through(argument)
                    for argument in node.args
                ]
        return node

    def _through(self, node: ast.expr) -> ast.expr:
        return ast.Call(ast.Name(self.name, ast.Load()), [node], [])


def _in_any_order(values: Iterable[Any], salt: int) -> Iterable[Any]:
    if not isinstance(values, (set, frozenset)):
        return values
    order = list(values)
    random.Random(salt).shuffle(order)
    return order


warnings.simplefilter("ignore")
_line(
    {
        "code": "def f(x):\n    return [y for y in x]",
        "entry": "f",
        "generator": "def generate_inputs(rng):\n    return {'x': [rng.random()]}",
        "seed": 0,
        "characters": 99,
    },
    salt=1,
)  # What Python makes when it first compiles is made here, once, and not in every process.
del sys.modules["program"]
