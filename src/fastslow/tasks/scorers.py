"""Strict scorers for datasets of reasoning-gym whose own ones give full marks to wrong answers.

Each says whether an answer is right, and nothing in between. It reads the whole answer: what cannot
be read to the end is wrong, and so is an answer that names several. No scorer evaluates an answer
as a program, and each takes time linear in it, or nearly so. docs/scorers.md says what is wrong
with the scorers that these replace.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from math import floor, log10
from typing import Any

Entry = dict[str, Any]
"""A problem as reasoning-gym generates it: question, answer, metadata."""

Scorer = Callable[[str, Entry], bool]
"""Whether an answer, without white space around it, is right. On an answer that it cannot read it
may return False or raise one of ``_UNREADABLE``."""

_UNREADABLE = (
    ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError,
)  # fmt: skip

_EXPRESSION = 500
"""Characters of an arithmetic expression, at most, so that its nesting stays shallow."""

_NUMBER = re.compile(
    r"[-+]?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,60})(?:\.[0-9]{0,60})?|\.[0-9]{1,60})"
    r"(?:[eE][-+]?[0-9]{1,3})?"
)
_DURATION = re.compile(
    r"(?:(-?[0-9]{1,9}) days?(?:, (?=[0-9]))?)?"
    r"(?:(-?[0-9]{1,9}):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{3}))?)?)?"
)
_INTEGERS_ONLY = re.compile("[-+*/() 0-9]+")
_CLAIM = re.compile(r"(\S+)(?: is)?(?: an?)? (\S+)")
_CAR_MOVE = re.compile(r"([A-Z])([-+])([1-9])")
_AGENT = re.compile(r"Agent\[([0-9.]+), ([0-9.]+)\]")
_BOX_MOVE = re.compile(r"move\(box_(\w+), (?:square\[([0-9.]+), ([0-9.]+)\]|target_(\w+))\)")
_FACTOR = re.compile(r"(?P<number>[0-9]{1,60})|(?P<name>[A-Za-z]\w*)(?:\^(?P<power>[0-9]{1,6}))?")


def is_right(dataset: str, answer: str, entry: Entry) -> bool:
    """Whether the scorer of a dataset in ``SCORERS`` calls an answer right."""
    try:
        return SCORERS[dataset](answer.strip(), entry)
    except _UNREADABLE:
        return False


# Texts


def _same_text(answer: str, entry: Entry) -> bool:
    """The reference, whatever its case and white space."""
    return _words(answer) == _words(entry["answer"])


def _same_letters(answer: str, entry: Entry) -> bool:
    """The reference, whatever its case and however it is spaced."""
    return "".join(_words(answer)) == "".join(_words(entry["answer"]))


def _same_list(answer: str, entry: Entry) -> bool:
    """The words of the reference, in its order, with commas between them."""
    return _items(answer) == _items(entry["answer"])


def _same_json(answer: str, entry: Entry) -> bool:
    """The JSON of the reference: 1 is neither true nor 1.0."""
    return json.dumps(json.loads(answer)) == json.dumps(json.loads(entry["answer"]))


def _roles(answer: str, entry: Entry) -> bool:
    """Everybody's role, once, and nothing else: "Ann is a knight, and Bob is a knave."."""
    return _claims(answer) == _claims(entry["answer"])


def _claims(text: str) -> dict[str, str]:
    line = " ".join(_words(text.rstrip(".").replace("\n", ",")))
    parts = [part.strip().removeprefix("and ") for part in re.split(",| and ", line)]
    claims = [_whole(_CLAIM, part) for part in parts if part]
    return _distinct((claim[1], claim[2]) for claim in claims)


def _words(text: str) -> list[str]:
    return text.casefold().split()


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


# Numbers


def _same_number(answer: str, entry: Entry) -> bool:
    return _number(answer) == _number(entry["answer"])


def _probability(answer: str, entry: Entry) -> bool:
    """The fraction, or a decimal that is right in four significant digits or more."""
    exact = Fraction(*(entry["metadata"]["rational"][key] for key in ("numerator", "denominator")))
    if "/" in answer:
        numerator, denominator = answer.split("/")
        return _number(numerator) / _number(denominator) == exact
    return _is_rounded(answer, exact, digits=4)


def _power(answer: str, entry: Entry) -> bool:
    return _is_rounded(answer, _number(entry["answer"]), digits=3)


def _candidate(answer: str, entry: Entry) -> bool:
    """The number that was to be picked; all have three decimals, some with a float's noise."""
    return _is_rounded(answer, _number(entry["answer"]), decimals=3)


def _decimal_value(answer: str, entry: Entry) -> bool:
    """The value of the expression, or the reference, which was rounded on its way to it, in as many
    digits as the question asks for."""
    request, expression = entry["question"].splitlines()
    digits = int(request.partition("a maximum of ")[2].split()[0])
    values = _evaluate(expression.removesuffix(" = ?"), []), _number(entry["answer"])
    return any(_is_rounded(answer, value, digits=digits) for value in values)


def _triangle(answer: str, entry: Entry) -> bool:
    """Three decimals or more; two for an angle, as the reference has them."""
    metadata = entry["metadata"]
    match metadata["task_type"]:
        case "orthocenter":
            x, y = _whole(re.compile(r"\(?([^,()]+),([^,()]+)\)?"), answer).groups()
            exact = [Fraction(coordinate) for coordinate in metadata["ortho"]]
            return all(
                _is_rounded(found, expected, decimals=3)
                for found, expected in zip((x, y), exact, strict=True)
            )
        case "angle_measure":
            angle = Fraction(metadata["angle_ABC_degrees"])
            return _is_rounded(answer.removesuffix("\u00b0"), angle, decimals=2)
        case _:
            radius = Fraction(metadata["incircle_radius_approx"])
            return _is_rounded(answer, radius, decimals=3)


def _roots(answer: str, entry: Entry) -> bool:
    """All solutions in any order, each once, to four decimals; nothing if there is none."""
    found, expected = (
        sorted(_number(item) for item in _items(text)) if text.strip('" ') else []
        for text in (answer, entry["answer"])
    )
    return found == expected


def _sorted_numbers(answer: str, entry: Entry) -> bool:
    found = json.loads(answer.replace("'", '"'), parse_int=str, parse_float=str)
    expected = entry["metadata"]["sorted_numbers"]
    return isinstance(found, list) and [*map(_number, found)] == [*map(_number, expected)]


def _pooled(answer: str, entry: Entry) -> bool:
    """The same matrix of numbers."""
    found, expected = (
        [[_number(cell) for cell in line.split()] for line in text.splitlines()]
        for text in (answer, entry["answer"])
    )
    return found == expected


def _duration(answer: str, entry: Entry) -> bool:
    """The same fields: days, hours, minutes, seconds, milliseconds. Zeros in front do not count."""
    found, expected = (
        [None if field is None else int(field) for field in _whole(_DURATION, text).groups()]
        for text in (answer, entry["answer"])
    )
    return found == expected


def _number(text: str) -> Fraction:
    """The number that a text is. Raises: ValueError if it is none, or more than that."""
    return Fraction(Decimal(_whole(_NUMBER, text.strip()).group().replace(",", "")))


def _is_rounded(text: str, exact: Fraction, *, decimals: int = 0, digits: int = 0) -> bool:
    """Whether a text is ``exact``, or ``exact`` rounded at the required place or behind it.

    Args:
        text: the number; every digit of it counts.
        exact: what it should be.
        decimals: the required place, counted from the point.
        digits: instead, the required place among the significant digits of ``exact``.
    """
    number = _number(text)
    if number == exact or exact == 0:
        return number == exact
    required = floor(log10(abs(exact))) + 1 - digits if digits else -decimals
    written = int(Decimal(text.strip().replace(",", "")).as_tuple().exponent)
    places = {Fraction(10) ** required, Fraction(10) ** min(required, written)}
    return any(
        (number / place).denominator == 1 and abs(number - exact) <= place / 2 for place in places
    )


# Expressions


def _make_target(answer: str, entry: Entry) -> bool:
    return _makes(answer, entry, entry["metadata"]["target"])


def _make_24(answer: str, entry: Entry) -> bool:
    return _makes(answer, entry, 24)


def _makes(answer: str, entry: Entry, target: int) -> bool:
    """The target out of the numbers of the question, each used once, by + - * / and parentheses."""
    _whole(_INTEGERS_ONLY, answer)
    used: list[Fraction] = []
    return _evaluate(answer, used) == target and sorted(used) == sorted(
        entry["metadata"]["numbers"]
    )


def _evaluate(text: str, used: list[Fraction]) -> Fraction:
    """The exact value of plain arithmetic; its numbers are appended to ``used``.

    Raises: ValueError, also SyntaxError as one, if it is anything else; ZeroDivisionError.
    """
    if len(text) > _EXPRESSION:
        raise ValueError("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
    except (SyntaxError, MemoryError) as error:
        raise ValueError("no expression") from error
    return _value(tree.body, used)


def _value(node: ast.expr, used: list[Fraction]) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            used.append(Fraction(str(number)))
            return used[-1]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, used)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _value(left, used), _value(right, used)
            match operator:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
    raise ValueError("not plain arithmetic")


def _expanded(answer: str, entry: Entry) -> bool:
    """The terms of the reference, in any order, each multiplied out and each once."""
    return _terms(answer) == _terms(entry["answer"])


def _terms(text: str) -> dict[tuple[tuple[str, int], ...], int]:
    """Coefficients by monomial of a polynomial that is multiplied out and collected."""
    if "^" in text:
        raise ValueError("powers are written **")
    # Spaces may stand around signs only: "3 4" is no number.
    compact = re.sub(" ?([-+*]) ?", r"\1", " ".join(text.split())).replace("**", "^")
    signed = re.findall(r"[-+]?[^-+]+", compact)
    if "".join(signed) != compact:
        raise ValueError("two signs")
    terms = []
    for term in signed:
        coefficient, powers = None, []
        for factor in term.lstrip("+-").split("*"):
            match = _whole(_FACTOR, factor)
            if match["name"]:
                powers.append((match["name"], int(match["power"] or 1)))
            elif coefficient is None:
                coefficient = int(match["number"])
            else:
                raise ValueError("not multiplied out")
        _distinct(powers)
        sign = -1 if term.startswith("-") else 1
        terms.append((tuple(sorted(powers)), sign * (1 if coefficient is None else coefficient)))
    return _distinct(terms)


# Puzzles


def _coloring(answer: str, entry: Entry) -> bool:
    """One of the colors for every vertex, no other vertex, and no edge within a color."""
    puzzle = entry["metadata"]["puzzle"]
    colors = json.loads(answer, object_pairs_hook=_distinct)
    return (
        colors.keys() == {str(vertex) for vertex in puzzle["vertices"]}
        and all(type(color) is int for color in colors.values())
        and set(colors.values()) <= set(puzzle["color_options"])
        and all(colors[str(one)] != colors[str(other)] for one, other in puzzle["edges"])
    )


def _survo(answer: str, entry: Entry) -> bool:
    """Any matrix that keeps the given cells, uses each number once and has the right sums."""
    puzzle, numbers = entry["metadata"]["puzzle"], entry["metadata"]["candidate_numbers"]
    grid = [[int(cell) for cell in line.split()] for line in answer.splitlines()]
    if [len(row) for row in grid] != [len(row) for row in puzzle]:
        return False
    cells = [
        (found, given)
        for found_row, given_row in zip(grid, puzzle, strict=True)
        for found, given in zip(found_row, given_row, strict=True)
    ]
    lines = [*grid, *zip(*grid, strict=True)]
    return (
        all(found == given for found, given in cells if given)
        and sorted(found for found, given in cells if not given) == sorted(numbers)
        and all(sum(line[:-1]) == line[-1] for line in lines)
    )


def _rush_hour(answer: str, entry: Entry) -> bool:
    """Every move is possible, and the red car ends at the exit."""
    rows = entry["question"].partition("Board:\n")[2].split()
    board: dict[tuple[int, int], str] = {
        (x, y): car for y, row in enumerate(rows) for x, car in enumerate(row)
    }
    for move in answer.split():
        car, sign, steps = _whole(_CAR_MOVE, move).groups()
        for _ in range(int(steps)):
            cells = [cell for cell, occupant in board.items() if occupant == car]
            across = len({y for _, y in cells}) == 1
            step = 1 if sign == "+" else -1
            moved = [(x + step, y) if across else (x, y + step) for x, y in cells]
            if not cells or any(board.get(cell) not in (".", car) for cell in moved):
                return False
            board |= {**dict.fromkeys(cells, "."), **dict.fromkeys(moved, car)}
    return board[len(rows[2]) - 1, 2] == "A"


def _boxnet(answer: str, entry: Entry) -> bool:
    """Every agent's action is possible when its step begins, and no box is left at the end."""
    squares = {
        tuple(map(float, name.split("_"))): list(things)
        for name, things in entry["metadata"]["initial_state"].items()
    }
    for step in json.loads(answer, object_pairs_hook=_distinct):
        arrivals = []
        for agent, action in step.items():
            x, y = map(float, _whole(_AGENT, agent).groups())
            color, to_x, to_y, target = _whole(_BOX_MOVE, action).groups()
            squares[x, y].remove(f"box_{color}")
            if target is not None:
                squares[x, y].remove(f"target_{color}" if target == color else "")
            else:
                goal = float(to_x), float(to_y)
                if abs(goal[0] - x) + abs(goal[1] - y) != 1:
                    return False
                arrivals.append((squares[goal], f"box_{color}"))
        for square, box in arrivals:
            square.append(box)
    return not any(thing.startswith("box_") for things in squares.values() for thing in things)


def _whole(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError("not in the form asked for")
    return match


def _distinct(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary of pairs. Raises: ValueError if a key occurs twice."""
    pairs = list(pairs)
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("named twice")
    return found


SCORERS: dict[str, Scorer] = {
    "advanced_geometry": _triangle,
    "boxnet": _boxnet,
    "calendar_arithmetic": _same_text,
    "chain_sum": _same_number,
    "coin_flip": _probability,
    "countdown": _make_target,
    "decimal_arithmetic": _decimal_value,
    "figlet_font": _same_letters,
    "game_of_life": _same_json,
    "game_of_life_halting": _same_text,
    "graph_color": _coloring,
    "gsm_symbolic": _same_number,
    "knights_knaves": _roles,
    "letter_jumble": _same_text,
    "number_format": _candidate,
    "number_sorting": _sorted_numbers,
    "polynomial_equations": _roots,
    "polynomial_multiplication": _expanded,
    "pool_matrix": _pooled,
    "power_function": _power,
    "products": _same_number,
    "puzzle24": _make_24,
    "rush_hour": _rush_hour,
    "spell_backward": _same_text,
    "survo": _survo,
    "time_intervals": _duration,
    "word_sorting": _same_list,
}
"""The datasets that are scored here instead."""
