"""Runs one solution of a programming problem on one test. A script for inside the sandbox.

``solution.py`` is the program. Without ``call.json`` it runs as a script, on this process's own
standard input and output. With it, ``{"function", "arguments"}``, what the function returns is
written to standard output as JSON, and nothing else is: what the program prints is dropped.

The expected output is not here. Whatever a program does to this script, it can only change what it
is said to have answered.
"""

from __future__ import annotations

import io
import json
import os
import sys
import types
from typing import Any

PRELUDE = """
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from operator import *
from string import *
from typing import *
from builtins import *
import bisect, collections, copy, datetime, decimal, fractions, functools, heapq, io, itertools
import json, math, operator, random, re, string, sys
exit = quit = sys.exit
"""
"""Names that solutions use unimported, as the sites that the problems come from provide them."""

RECURSION_LIMIT = 50_000


class Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def main() -> None:
    with open("solution.py", encoding="utf-8") as file:
        code = compile(file.read(), "solution.py", "exec", dont_inherit=True)
    sys.setrecursionlimit(RECURSION_LIMIT)
    is_script = not os.path.exists("call.json")
    module = types.ModuleType("__main__" if is_script else "solution")
    sys.modules[module.__name__] = module
    exec(PRELUDE, vars(module))
    if is_script:
        exec(code, vars(module))
        return
    with open("call.json", encoding="utf-8") as file:
        call = json.load(file)
    out, sys.stdout = sys.stdout, Nowhere()
    exec(code, vars(module))
    owner = module.Solution() if hasattr(module, "Solution") else module
    returned = getattr(owner, call["function"])(*call["arguments"])
    json.dump(returned, out, default=_plain)


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays, and what is read in order, as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (range, map, filter, zip)) or hasattr(value, "popleft"):
        return list(value)
    raise TypeError(f"{type(value).__name__} was returned, which is no JSON value")


main()
