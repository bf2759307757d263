r"""Whether two mathematical expressions are equal, by math-verify, whose yes is checked again.

math-verify is generous: it takes 10^-7 for 0, X for x, "5 6" for 11 and 2 + 3 for 5; and it can be
kept busy by what a model writes. Answers that come to numbers of many thousand digits, or leave a
sum or an integral to be worked out, are refused. That is no guarantee: what grades a run's
completions does so in workers with a limit of time and memory. Nothing is evaluated as code.
"""

from __future__ import annotations

import logging
import math
import re
from functools import lru_cache
from typing import Any

LARGEST = 1e5
"""Natural logarithm of the largest number that is worked out: some 43,000 digits."""

DEEPEST = 20
"""Brackets within brackets that are read, and bars of absolute values."""

_SUM = re.compile(r"[0-9.,]+(?: ?(?:[-+*/\u00f7]|\\cdot|\\times|\\div) ?[-+]?[(]?[0-9.,]+[)]?)+")
_UNWORKED = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|det|max|min|sup|inf|gcd|lcm)(?![a-z])"
)
_LARGE = re.compile(r"binom[^A-Za-z]*[0-9]{5}|[0-9]{5}[^0-9A-Za-z+-]*!")
_SIDE_BY_SIDE = re.compile(r"[0-9](?: |\\ )+[0-9]")
_COMMAND = re.compile(r"\\text\{[^{}]*\}|\\[A-Za-z]+")
_EMPTY_TEXT = re.compile(r"\\text\{ *\}")


def difference(found: str, expected: str, *, plain: bool = False) -> str | None:
    """None if two expressions, relations or sets are equal, else a sentence that says why not.

    Args:
        found: LaTeX of a model's.
        expected: LaTeX of the reference.
        plain: whether the reference is a plain number, so that an answer such as "2 + 3", which
            only repeats what was asked, does not count.
    """
    if _UNWORKED.search(found) and not _UNWORKED.search(expected):
        return "It is not worked out: give the value."
    if _LARGE.search(found):  # would be worked out while it is read
        return "It comes to a number too large to be worked out."
    if plain and _SUM.fullmatch(found):
        return "It is not worked out: give the one number that it comes to."
    if _SIDE_BY_SIDE.search(found):
        return "Two numbers stand side by side in it."
    if not _legible(found):
        return "Its brackets do not match, or are nested too deeply."
    if swapped := _swapped_case(found, expected):
        return f"Upper and lower case differ: {', '.join(swapped)}."
    try:
        return _compare(_parse(found), _parse(expected))
    except Exception:  # whatever algebra trips over in a text that a model wrote
        return "The two could not be compared."


def _compare(found: Any, expected: Any) -> str | None:
    from math_verify import verify

    if expected is None:
        return "It is not the expected text, and that can be compared as text only."
    if found is None:
        return "It cannot be read as a mathematical expression."
    if _size(found) > LARGEST:
        return "It comes to a number too large to be worked out."
    # Its timeouts need the main thread, and are the workers' business.
    equal = not _apart(found, expected) and verify(
        expected, found, timeout_seconds=None, allow_set_relation_comp=True
    )
    return None if equal else "The two are not equal."


@lru_cache(maxsize=4096)
def _parse(text: str) -> Any | None:
    """The sympy object, not worked out, that a text stands for; None if it stands for none."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that timeouts are off
    config = LatexExtractionConfig(
        boxed_match_priority=-1,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
        ),
    )
    parsed = parse(
        f"${_EMPTY_TEXT.sub('', text)}$",
        [config],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return parsed[0] if parsed else None


def _size(expression: Any) -> float:
    """A rough upper bound of the logarithm of the numbers met when an expression is worked out."""
    from sympy import Float, Pow, Rational, exp, gamma
    from sympy.functions.combinatorial.factorials import CombinatorialFunction

    if isinstance(expression, Rational):
        return math.log(2) * float(expression.p.bit_length() + expression.q.bit_length() - 1)
    if isinstance(expression, Float):
        return abs(math.log(abs(float(expression)) or 1.0))
    sizes = [_size(argument) for argument in getattr(expression, "args", ())]
    if not sizes:
        return 1.0
    power = isinstance(expression, Pow)
    if power and isinstance(exponent := expression.args[1], Float | Rational):
        return sizes[0] * max(1.0, abs(float(exponent)))
    if power:
        return sizes[0] * _exp(sizes[1])
    if isinstance(expression, CombinatorialFunction | exp | gamma):
        return max(sizes) * _exp(max(sizes))  # n! < n^n
    return sum(sizes)


def _exp(size: float) -> float:
    return math.exp(size) if size < 700 else math.inf


def _legible(text: str) -> bool:
    """Whether brackets match in number; else the parser may search for minutes for a way to pair
    them. Their kinds may differ, as in a union of intervals."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return depth == 0 and deepest <= DEEPEST and text.count("|") <= DEEPEST


def _swapped_case(found: str, expected: str) -> list[str]:
    """Letters of the answer that the reference has in the other case only: r is not R."""
    got, want = (set(re.findall("[A-Za-z]", _COMMAND.sub(" ", text))) for text in (found, expected))
    return sorted(letter for letter in got - want if letter.swapcase() in want - got)


def _apart(found: Any, expected: Any) -> bool:
    """Whether two expressions have clearly different values, with some value for each variable.

    Most answers are wrong, and this is a thousandth of the work of showing that no algebra makes
    them right. It compares six significant digits, where math-verify compares six decimals.
    """
    from sympy import Expr, Float

    if not (isinstance(found, Expr) and isinstance(expected, Expr)):
        return False
    # By name: x is one variable, whether it was read as real or as complex.
    variables = found.free_symbols | expected.free_symbols
    names = sorted({str(variable) for variable in variables})
    values = {each: 0.6180339887 + 0.1 * names.index(str(each)) for each in variables}
    try:
        a, b = (side.evalf(30, subs=values) for side in (found, expected))
        gap, scale = (abs(a - b).evalf(), max(abs(a).evalf(), abs(b).evalf()))
        # What cancels leaves some noise, but what is written as a decimal is as small as it says.
        noise = 0.0 if found.has(Float) or expected.has(Float) else 1e-20
        return bool(scale.is_finite and gap > max(1e-6 * scale, noise))
    except Exception:  # no numbers: for algebra to say
        return False
