"""Calls the programs of a data set and notes what they return. A script for inside the sandbox.

``jobs.json`` holds ``seconds``, the processor time of one job; ``salt``, of this run; and ``jobs``,
each ``{"code", "entry"}`` with either ``"generator"`` and its ``"seed"``, or ``"arguments"``. Each
gets one line of JSON: ``{"arguments", "output"}``, or ``{"failure": why}``.

What a program returns must not hang on what no reader of it can know. So the salt decides what the
random generators start from and, except in the run of salt 0, the order in which sets are read.
"""

from __future__ import annotations

import ast
import decimal
import importlib
import io
import json
import math
import random
import resource
import signal
import sys
import time
import types
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

RECURSION_LIMIT = sys.getrecursionlimit()
OUT = sys.stdout


class TimeUp(BaseException):
    """The processor time of a job is over."""


class Nowhere(io.TextIOBase):
    """Where the programs' own output goes."""

    def write(self, text: str) -> int:
        return len(text)


def main() -> None:
    with open("jobs.json", encoding="utf-8") as file:
        task = json.load(file)
    jobs = task["jobs"]
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        setattr(sys, name, Nowhere())
    warnings.simplefilter("ignore")
    for name in ("numpy", "sympy"):  # not in the time of the program that comes first
        if any(name in job["code"] or name in job.get("generator", "") for job in jobs):
            with suppress(ImportError):
                importlib.import_module(name)
    signal.signal(signal.SIGPROF, _interrupt)
    for job in jobs:
        try:
            line = _line(job, task["salt"], task["seconds"])
        except TimeUp:
            line = '{"failure": "time limit"}'
        OUT.write(line + "\n")
        OUT.flush()


def _interrupt(number: int, frame: object) -> None:
    raise TimeUp


def _line(job: dict[str, Any], salt: int, seconds: float) -> str:
    # A program that catches the exception, or is deep in a call which no signal handler interrupts,
    # is killed a little later, and the others start anew.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    last = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (min(last, most), most))
    try:
        returned = _call(job, salt)
    except TimeUp:
        raise
    except BaseException as error:  # programs end in any way they like, SystemExit too
        return json.dumps({"failure": type(error).__name__})
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        return json.dumps(returned, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return '{"failure": "no JSON value"}'


def _call(job: dict[str, Any], salt: int) -> dict[str, Any]:
    _undo()
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses look their module up
    tree = ast.parse(job["code"])
    if salt:
        tree = ast.fix_missing_locations(SetsInAnyOrder().visit(tree))
        vars(module)[SetsInAnyOrder.name] = lambda values: _in_any_order(values, salt)
    exec(compile(tree, "program", "exec"), vars(module))
    arguments = _generated(job, module) if "generator" in job else job["arguments"]
    # The program gets what the question will show: these values as they come back from JSON.
    shown = json.dumps(arguments, allow_nan=False, default=_plain)
    _seed(salt)
    output = vars(module)[job["entry"]](**json.loads(shown))
    return {"arguments": json.loads(shown), "output": output}


def _generated(job: dict[str, Any], module: types.ModuleType) -> object:
    names = {**vars(module), "Random": random.Random}
    exec(compile(job["generator"], "generator", "exec"), names)
    _seed(job["seed"])  # of draws that pass the generator's own by
    return names["generate_inputs"](random.Random(job["seed"]))


def _undo() -> None:
    """Set right what an earlier program may have turned."""
    sys.setrecursionlimit(RECURSION_LIMIT)
    decimal.setcontext(decimal.Context())


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


if __name__ == "__main__":
    main()
