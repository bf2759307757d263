"""What an answer must be before the scorers that trust their input are shown it.

Some scorers of reasoning-gym hand the answer to Python's ``eval``, or to sympy's ``parse_expr``,
which evaluates too. What a model wrote must never be run, so the answer is parsed here first, which
runs nothing, and only text whose every node is on the list below goes on.

Others pick out of the answer what they can use, and skip the rest: "L U or 7" counts as "L U". They
are shown an answer only if all of it has the form that the question asks for.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable

_LITERAL = (
    ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.UnaryOp, ast.USub, ast.UAdd, ast.Load,
)  # fmt: skip
_ARITHMETIC = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call, ast.UnaryOp, ast.USub, ast.UAdd,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow,
)  # fmt: skip
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "exp", "log", "ln", "sqrt"}
    | {"sinh", "cosh", "tanh", "asinh", "acosh", "atanh"}
)
_PAIR = re.compile("[A-Z] ?= ?[0-9]")
_POURING = '"(?:(?:fill|empty) [A-Z]|pour [A-Z]->[A-Z])"'
_TURN = "[A-Za-z]w?'?[1-3]?"
_DISK = "Move disk [0-9]+ from Peg [0-9]+ to Peg [0-9]+"
_LIMIT = 2000
"""Characters of an expression. More is no answer, and deep nesting would exhaust the parser."""


def is_literal_or_no_python(text: str) -> bool:
    """Whether ``eval(text)`` can only build lists, tuples, texts and numbers, or fail to parse."""
    try:
        tree = _parse(text)
    except (SyntaxError, ValueError):
        return True  # eval would stop here as well, having run nothing
    except (MemoryError, RecursionError):
        return False
    return all(isinstance(node, _LITERAL) or _is_word(node) for node in ast.walk(tree))


def is_arithmetic(text: str) -> bool:
    """Whether ``parse_expr(text)`` can only do arithmetic with numbers, symbols of one letter and
    elementary functions. How long that takes is not bounded here."""
    if len(text) > _LIMIT or not text.isascii() or "#" in text:  # a comment is dropped unread
        return False
    try:
        tree = _parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False  # sympy rewrites its input first: what is no Python may become some
    return all(_is_arithmetic_node(node) for node in ast.walk(tree))


def has_no_nan(text: str) -> bool:
    """Whether no number in ``text`` can be read as "not a number", which compares as a hit."""
    return "nan" not in text.lower()


def has_no_header(text: str) -> bool:
    """Whether no line of a grid is its header, of which anything may be made."""
    return "Shape:" not in text


def maps_each_letter_once(text: str) -> bool:
    """Whether ``text`` is "A=1,B=2,C=3", and gives no letter two digits."""
    pairs = [pair.strip() for pair in text.split(",")]
    letters = {pair[:1] for pair in pairs}
    return len(letters) == len(pairs) and all(_PAIR.fullmatch(pair) for pair in pairs)


def _has_form(pattern: str) -> Callable[[str], bool]:
    """Whether all of a text matches a pattern, which takes time linear in the text."""
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _is_word(node: ast.AST) -> bool:
    """A name in capitals: the answer "ABC" names no variable that a scorer has."""
    return isinstance(node, ast.Name) and node.id.isupper()


def _is_arithmetic_node(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=value):
            return type(value) in (int, float)
        case ast.Name(id=name):
            return len(name) == 1 or name in _FUNCTIONS or name == "pi"
        case ast.Call(func=function, keywords=keywords):
            return isinstance(function, ast.Name) and function.id in _FUNCTIONS and not keywords
        case _:
            return isinstance(node, _ARITHMETIC)


def _parse(text: str) -> ast.Expression:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # doubtful literals are the model's business, not the user's
        return ast.parse(text, mode="eval")


SCREENS: dict[str, Callable[[str], bool]] = {
    "binary_matrix": is_literal_or_no_python,
    "n_queens": is_literal_or_no_python,
    "spiral_matrix": is_literal_or_no_python,
    "string_insertion": is_literal_or_no_python,
    "complex_arithmetic": has_no_nan,
    "intermediate_integration": is_arithmetic,
    "simple_integration": is_arithmetic,
    "arc_agi": has_no_header,
    "rearc": has_no_header,
    "cryptarithm": maps_each_letter_once,
    "fraction_simplification": _has_form(
        r"\$?(?:[0-9]+ ?/ ?[0-9]+|\\d?frac ?\{ ?[0-9]+ ?\} ?\{ ?[0-9]+ ?\})\$?"
    ),
    "jugs": _has_form(rf"\[\s*{_POURING}(?:\s*,\s*{_POURING})*\s*\]"),
    "kakurasu": _has_form(r"[01](?:\s*[01])*"),
    "prime_factorization": _has_form(r"[0-9]+(?:\s*\u00d7\s*[0-9]+)*"),
    "quantum_lock": _has_form(r"[A-C](?:\s*(?:\u2192|->|,)\s*[A-C])*"),
    "rubiks_cube": _has_form(rf"{_TURN}(?:\s+{_TURN})*"),
    "sokoban": _has_form("[LRUD]+"),
    "tower_of_hanoi": _has_form(rf"{_DISK}(?: *\n\s*{_DISK})*"),
}
"""The datasets of reasoning-gym whose scorers need it, and what these may be shown. Datasets with a
scorer of ours (``tasks.scorers``) need none."""

EVALUATORS = frozenset({"eval", "exec", "compile", "literal_eval", "parse_expr", "sympify"})
"""Names that give a scorer away that evaluates."""
