"""JSON values: reading one out of what a model wrote, and where two of them differ first.

Text is parsed and never evaluated. Whatever it holds (deep nesting, a million digits, control
characters), reading it ends in a value of bounded size or in a ValueError.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

LIMIT = 100_000
"""Characters of a text that is read, at most."""
DEPTH = 64
"""Arrays and objects within one another, at most."""
ROUNDING = Fraction(1, 10**9)
"""Error allowed of any float against a float: arithmetic may end in 2.9999999999999996 for 3.0."""

_PLAIN_KEY = re.compile(r"[A-Za-z_]\w{0,39}", re.ASCII)


def read_value(text: str, limit: int = LIMIT) -> Any:
    """The JSON value that ``text`` is.

    Strict JSON is tried first, then a Python literal of the same meaning, since models write
    ``{'a': (1, None)}`` for ``{"a": [1, null]}``. A code fence around the whole text is ignored.

    Args:
        text: what is read.
        limit: its length in characters, at most.

    Raises:
        ValueError: it is neither, too long or too deep; the message says which.
    """
    if len(text) > limit:
        raise ValueError(f"it is longer than {limit:,} characters")
    text = _unfenced(text.strip())
    if not text:
        raise ValueError("it is empty")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        value = _python_literal(text, error)
    if _depth(value) > DEPTH:
        raise ValueError(_TOO_DEEP)
    return value


def write_value(value: Any, limit: int | None = None) -> str:
    """``value`` as JSON on one line, cut off after ``limit`` characters if there is a limit."""
    # Only a lone surrogate has no UTF-8; its replacement is its JSON escape.
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return text if limit is None or len(text) <= limit else f"{text[:limit]}..."


def first_difference(expected: Any, found: Any, tolerance: float) -> str | None:
    """Where and how ``found`` first departs from ``expected``, or None if they are the same.

    Strings, booleans and null are compared exactly, and a boolean is no number. Numbers:

    - A whole number is hit by that number only: 3.0 is 3, but 1.23e6 is not 1234567, 1e+23 is not
      10**23, and 2.9999999999999996 is not 3.
    - A float may be hit by another within ``ROUNDING``, and within ``ROUNDING`` relative to it if
      it is below 1. So 2.9999999999999996 is 3.0.
    - A float that is not whole may be hit by any number within ``tolerance``, relative to it.
    - 0.0 equals -0.0, NaN equals NaN, and an infinity equals itself only.

    Objects are compared whatever the order of their keys.

    Args:
        expected: the reference, in whose order the two are walked through.
        found: what is compared with it.
        tolerance: relative error allowed of a float that is not whole.

    Returns:
        A path and what stands there: "$.items[3].price: 4.0 expected, 4.5 found".
    """
    return next(_differences(expected, found, tolerance, "$"), None)


def _differences(expected: Any, found: Any, tolerance: float, path: str) -> Iterator[str]:
    # Both walks below go no deeper than the expected value, which was read or made within DEPTH.
    match expected, found:
        case dict(), dict():
            for key, value in expected.items():
                where = path + _step(key)
                if key in found:
                    yield from _differences(value, found[key], tolerance, where)
                else:
                    yield f"{where}: {_shown(value)} expected, but this key is missing"
            for key in found:
                if key not in expected:
                    yield f"{path + _step(key)}: this key is not expected"
        case list(), list():
            for index, (one, other) in enumerate(zip(expected, found, strict=False)):
                yield from _differences(one, other, tolerance, f"{path}[{index}]")
            if len(expected) != len(found):
                yield f"{path}: {len(expected)} elements expected, {len(found)} found"
        case _:
            if not _same(expected, found, tolerance):
                yield f"{path}: {_shown(expected)} expected, {_shown(found)} found"


def _same(expected: Any, found: Any, tolerance: float) -> bool:
    if not (_is_number(expected) and _is_number(found)):
        return type(expected) is type(found) and bool(expected == found)
    # Python compares an integer and a float by their exact values.
    if expected == found or (expected != expected and found != found):
        return True
    if isinstance(expected, int) or not (_is_finite(expected) and _is_finite(found)):
        return False
    size = abs(Fraction(expected))
    error = Fraction(0) if expected.is_integer() else Fraction(tolerance) * size
    if isinstance(found, float):
        error = max(error, ROUNDING * min(size or 1, 1))
    return abs(Fraction(found) - Fraction(expected)) <= error


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unfenced(text: str) -> str:
    """``text`` without the ``` lines around it, if it has them."""
    if not (text.startswith("```") and text.endswith("```")):
        return text
    return text[:-3].partition("\n")[2].strip()


def _python_literal(text: str, reason: ValueError) -> Any:
    """The JSON value of a Python literal; ``reason`` says why the text is no JSON."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful escapes, which are the model's business
            literal = ast.literal_eval(text)
        # Tuples become arrays, and keys text; what JSON has no word for is refused.
        return json.loads(json.dumps(literal))
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        said = reason.msg if isinstance(reason, json.JSONDecodeError) else str(reason)
        place = (
            f" at character {reason.pos + 1}" if isinstance(reason, json.JSONDecodeError) else ""
        )
        raise ValueError(f"it is no JSON value: {said}{place}") from None


_TOO_DEEP = f"it has more than {DEPTH} arrays or objects within one another"


def _depth(value: Any) -> int:
    """Arrays and objects within one another, counted level by level, without recursion."""
    depth, level = 0, [value]
    while parents := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [
            child
            for parent in parents
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return depth


def _step(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{_shown(key)}]"


def _shown(value: Any) -> str:
    return write_value(value, 80)
