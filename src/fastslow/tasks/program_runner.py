"""Calls one program of a data set and notes what it returns. A script for inside the sandbox.

Standard input holds the call, a JSON object: ``code``, ``entry``, ``salts``, one for each run, and
either ``generator`` and its ``seed``, or ``arguments``. Standard output gets one line of JSON for
each run: ``{"arguments", "output"}``, or ``{"failure": why}``.

What a program returns must not hang on what no reader of it can know. So the salt decides what the
random generators start from and, except in the run of salt 0, the order in which sets are read.
"""

from __future__ import annotations

import ast
import io
import json
import os
import random
import sys
import types
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import Any


class Nowhere(io.TextIOBase):
    """Where the program's own output goes."""

    def write(self, text: str) -> int:
        return len(text)


def main() -> None:
    job = json.load(sys.stdin)
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        setattr(sys, name, Nowhere())
    warnings.simplefilter("ignore")
    lines = "".join(f"{_line(job, salt)}\n" for salt in job["salts"]).encode()
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
        return json.dumps(returned, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return '{"failure": "no JSON value"}'


def _call(job: dict[str, Any], salt: int) -> dict[str, Any]:
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


main()
