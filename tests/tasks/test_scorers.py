"""Every dataset of reasoning-gym that is offered grades a battery of wrong answers, and its right
ones: constants, what stands in the question, and near misses of the reference."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import pytest
from reasoning_gym.factory import DATASETS

from fastslow.config import TaskConfig
from fastslow.grading.answers import tagged
from fastslow.tasks import Task, create
from fastslow.tasks.reasoning_gym import _REFUSED, _safe_score
from fastslow.tasks.scorers import SCORERS, is_right
from fastslow.tasks.screen import SCREENS
from fastslow.types import Problem

OFFERED = sorted(DATASETS.keys() - _REFUSED.keys())
SLOW = {"intermediate_integration", "simple_integration"}
"""Sympy works on every answer that passes the screen."""

CONSTANTS = [
    "", "0", "1", "-1", "2", "7", "24", "0.5", "1/2", "0/1", "nan", "inf", "yes", "no", "True",
    "False", "None", "null", "on", "Pass", "infeasible", "Monday", "red", "A", "x", "?", "or", "#",
    "I do not know", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "[]", "[[]]", "[0]", "{}", '""', "()", "(0, 0)",
    "00:00", "00:00:00", "0 days", "0 days, 00:00", "0+0i", "C", "0*x", "a/a", "1/0", "U U'",
    "LRUD", "A \u2192 B \u2192 C", "D4", "A+4", '["fill A"]', '[{"Agent[0.5, 0.5]": "wait"}]',
    "Move disk 1 from Peg 1 to Peg 3", "6*4*1*1", "(a-a)*1 + 24*a/a", "P \u2228 \u00acP",
    "0 0 0 0\n0 0 0 0\n0 0 0 0\n0 0 0 0", "A=1,B=2,C=3", "everyone is a knight",
]  # fmt: skip

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def plus(number: str, by: float) -> str:
    with localcontext(prec=50):  # some datasets leave fewer behind
        return str(Decimal(number) + Decimal(str(by)))


def raised(by: float) -> Callable[[str], str]:
    return lambda text: NUMBER.sub(lambda match: plus(match.group(), by), text)


def last_raised(by: float) -> Callable[[str], str]:
    def raise_last(text: str) -> str:
        *_, last = [None, *NUMBER.finditer(text)]
        if last is None:
            return text
        return text[: last.start()] + plus(last.group(), by) + text[last.end() :]

    return raise_last


NEAR_MISSES: dict[str, Callable[[str], str]] = {
    **{
        f"then {words!r}": lambda text, words=words: text + words
        for words in (" or 7", " but maybe 3", " or so", ", 7", " 7", "\n7", "\n\nor 7", ". Or 12",
                      " # or 7", "\nShape: 7", ", nan", "; x", "/7", " = 7", "!", ":7", "x", "]")
    },
    **{
        f"{words!r} first": lambda text, words=words: words + text
        for words in ("7 or ", "not ", "It is not true that ", "maybe ", "7, ", "7\n", "No, ",
                      "x = ", "-", "~", "\u00ac", "# ", "Shape: 7\n")
    },
    **{f"each number + {by}": raised(by) for by in (0.9, 0.4, 1)},
    **{f"last number + {by}": last_raised(by) for by in (0.5, 0.9, 1, 0.001)},
    "twice": lambda text: f"{text} or {text}",
    "two lines": lambda text: f"{text}\n{text}",
    "listed twice": lambda text: f"{text}, {text}",
    "half": lambda text: text[: len(text) // 2],
    "backward": lambda text: text[::-1],
    "without its last word": lambda text: " ".join(text.split()[:-1]),
    "last word twice": lambda text: f"{text} {(text.split() or [''])[-1]}",
    "words backward": lambda text: " ".join(text.split()[::-1]),
    "one element more": lambda text: re.sub(r"\]$", ", 7]", text),
    "longer rows": lambda text: text.replace("]", ",0]"),
    "one key more": lambda text: re.sub(r"\}$", ', "x": 7}', text),
    "truth for 1": lambda text: text.replace("1", "true"),
    "commas everywhere": lambda text: ",".join(text),
}  # fmt: skip

ALSO_RIGHT = {
    ("cryptarithm", "words backward"): "its answers have no order",
    ("countdown", "words backward"): "sums have no order",
    ("puzzle24", "words backward"): "sums have no order",
    ("puzzle24", "backward"): "sums have no order",
    ("polynomial_equations", "words backward"): "roots have no order",
    ("polynomial_multiplication", "words backward"): "terms have no order",
    ("prime_factorization", "words backward"): "factors have no order",
    ("prime_factorization", "backward"): "factors have no order",
    ("shortest_path", "words backward"): "another way of the same length",
    ("rubiks_cube", "words backward"): "turns of opposite sides have no order",
    ("quantum_lock", "words backward"): "another sequence of the same length",
    ("quantum_lock", "backward"): "another sequence of the same length",
    ("simple_integration", "words backward"): "terms have no order",
    ("graph_color", "last number + 1"): "another coloring",
}
"""Near misses that may be right answers."""


EASY: dict[str, dict[str, Any]] = {
    "futoshiki": {"max_board_size": 5},
    "rush_hour": {"max_moves": 6},
    "sokoban": {"max_w": 7, "max_h": 7, "max_boxes": 4},
}
"""Parameters under which problems are made, or solved here, in no time."""


def gym(dataset: str, problems: int = 2, **options: Any) -> Task:
    sizes = {"train": 1, "validation": problems, "test": 0, "data_seed": 3}
    options = {"name": "reasoning_gym", "dataset": dataset, **sizes, **options}
    return create(TaskConfig.model_validate(options), 0, "c.toml")


@cache
def sample(dataset: str) -> tuple[Task, Sequence[Problem]]:
    """A task and two problems of it, or one where a verdict takes long."""
    task = gym(dataset, 1 if dataset in SLOW else 2, params=EASY.get(dataset, {}))
    return task, task.problems("validation")


def reference(problem: Problem) -> str:
    """A right answer of a problem."""
    entry = problem.reference
    dataset = entry["metadata"]["source_dataset"]
    if dataset in SOLVERS:
        return SOLVERS[dataset](entry)
    if entry["answer"] is not None:
        return str(entry["answer"]).strip()
    example = next(value for key, value in entry["metadata"].items() if key in EXAMPLES)
    return example if isinstance(example, str) else json.dumps(example)


EXAMPLES = {"example_correct_answer", "example_answer", "possible_answer"}


def echoes(question: str) -> Iterator[str]:
    """Parts of a question: all of it, its lines, blocks, lists, quotations and numbers."""
    yield question
    yield from re.split(r"\n\s*\n|:\n", question)
    for line in question.splitlines()[-12:]:
        yield line
        yield line.rpartition(":")[2]
        yield line.rpartition(" ")[2].strip("?.")
        yield re.sub(r"^\.?\d+\. ", "", line)
    yield from re.findall(r"\[[^\n]*\]", question)
    yield from re.findall(r'"([^"\n]+)"', question)
    numbers = re.findall(r"-?\d+(?:\.\d+)?", question)
    yield from (joint.join(numbers) for joint in (", ", " ", "+", "*", " \u00d7 "))
    yield from (*numbers[:1], *numbers[-1:], str(len(numbers)))


def battery(problem: Problem, right: str) -> dict[str, str]:
    """Wrong answers by what was done: none says the same as the right one."""
    items = {f"constant {text!r}": text for text in CONSTANTS}
    items |= {f"echo {number}": text for number, text in enumerate(echoes(problem.question))}
    if right:
        items |= {kind: change(right) for kind, change in NEAR_MISSES.items()}
    return {kind: text for kind, text in items.items() if not same(text, right)}


def same(text: str, right: str) -> bool:
    """Whether two texts are the same but for case, spaces and how a number is written."""
    one, other = (re.sub(r"\s", "", t).casefold().strip("\"'.") for t in (text, right))
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


@pytest.mark.parametrize("dataset", OFFERED)
def test_right_answers_score_1(dataset: str) -> None:
    task, problems = sample(dataset)
    for problem in problems:
        verdict = task.grade(problem, f"So: {tagged(reference(problem))}")
        assert verdict.score == 1.0, (reference(problem), verdict.feedback)


@pytest.mark.parametrize("dataset", OFFERED)
def test_wrong_answers_score_0(dataset: str) -> None:
    task, problems = sample(dataset)
    for problem in problems:
        items = battery(problem, reference(problem))
        if dataset in SLOW:
            items = dict(list(items.items())[::5])
        paid = {
            kind: answer
            for kind, answer in items.items()
            if task.grade(problem, tagged(answer)).score != 0.0
            and (dataset, kind) not in ALSO_RIGHT
        }
        assert not paid, reference(problem)


def test_the_scorers_of_the_package_would_pay() -> None:
    """The battery finds what is wrong with those that were replaced."""
    replaced = ("game_of_life", "knights_knaves", "number_sorting", "pool_matrix", "word_sorting")
    for dataset in replaced:
        task, problems = sample(dataset)
        own: Any = task
        assert any(
            _safe_score(own._dataset, answer, problem.reference) == 1.0
            for problem in problems
            for answer in battery(problem, reference(problem)).values()
        )


def test_lists_of_datasets_agree() -> None:
    assert SCORERS.keys() | SCREENS.keys() <= DATASETS.keys()
    assert not SCORERS.keys() & SCREENS.keys()
    assert not (SCORERS.keys() | SCREENS.keys()) & _REFUSED.keys()


def solve_rush_hour(entry: dict[str, Any]) -> str:
    """The shortest moves, each of one car by one square, found by breadth-first search."""
    rows = entry["question"].partition("Board:\n")[2].split()
    start = {(x, y): car for y, row in enumerate(rows) for x, car in enumerate(row)}
    queue = deque([(start, "")])
    seen = {tuple(start.values())}
    while queue:
        board, moves = queue.popleft()
        if board[5, 2] == "A":
            return moves.strip()
        for car in sorted({*board.values()} - {".", "x"}):
            cells = [cell for cell, occupant in board.items() if occupant == car]
            across = cells[0][1] == cells[1][1]
            for sign, step in (("+", 1), ("-", -1)):
                moved = [(x + step * across, y + step * (not across)) for x, y in cells]
                if all(board.get(cell) in (".", car) for cell in moved):
                    after = {**board, **dict.fromkeys(cells, "."), **dict.fromkeys(moved, car)}
                    if tuple(after.values()) not in seen:
                        seen.add(tuple(after.values()))
                        queue.append((after, f"{moves} {car}{sign}1"))
    raise AssertionError("no way out")


def solve_boxnet(entry: dict[str, Any]) -> str:
    """One agent after the other carries a box to its target."""
    things = {name: [] for name in ("box", "target")}
    for square, names in entry["metadata"]["initial_state"].items():
        for name in names:
            kind, color = name.split("_")
            things[kind].append((color, tuple(map(float, square.split("_")))))
    plan = []
    targets = dict(things["target"])
    for color, (x, y) in things["box"]:
        while (x, y) != targets[color]:
            to_x, to_y = targets[color]
            dx = (to_x > x) - (to_x < x)
            dy = 0 if dx else (to_y > y) - (to_y < y)
            action = f"move(box_{color}, square[{x + dx}, {y + dy}])"
            plan.append({f"Agent[{x}, {y}]": action})
            x, y = x + dx, y + dy
        plan.append({f"Agent[{x}, {y}]": f"move(box_{color}, target_{color})"})
    return json.dumps(plan)


SOLVERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "rush_hour": solve_rush_hour,
    "boxnet": solve_boxnet,
}


def entry(answer: str = "", question: str = "", **metadata: Any) -> dict[str, Any]:
    return {"answer": answer, "question": question, "metadata": metadata}


HALF = entry("0.5", rational={"numerator": 4, "denominator": 8})
RARE = entry("3.051757812e-05", rational={"numerator": 1, "denominator": 32768})
POWER = entry("24891.7712", question="")
SQUARE = entry("(x)", task_type="orthocenter", ortho=("7/3", "-2"))
ANGLE = entry("45.00\u00b0", task_type="angle_measure", angle_ABC_degrees=45.00000000000001)
FOUR = entry(numbers=[6, 4, 1, 1])
SUM = entry("0.66665", "To a maximum of 5 significant digits.\n1.00/3.00*2.00 = ?")
PAIR = entry("Ann is a knight, and Bo is a knave.")
PAINT = entry(puzzle={"vertices": [0, 1, 2], "edges": [(0, 1)], "color_options": [1, 2]})
SURVO = entry(puzzle=[[0, 2, 5], [0, 0, 5], [4, 6, 10]], candidate_numbers=[1, 3, 4])
SURVO_TWO = entry(puzzle=[[0, 0, 5], [0, 0, 5], [5, 5, 10]], candidate_numbers=[1, 1, 4, 4])
PRODUCT = entry("6*x*y**2 - x + 4")
PARKED = entry(question="Board:\nB.....\nB.....\n..AA..\nx.....\n......\n......")


@pytest.mark.parametrize(
    ("dataset", "problem", "answer", "right"),
    [
        ("coin_flip", HALF, "4/8", True),
        ("coin_flip", HALF, ".5", True),
        ("coin_flip", HALF, "0.5000", True),
        ("coin_flip", HALF, "0.5001", False),
        ("coin_flip", HALF, "0", False),
        ("coin_flip", RARE, "0.00003052", True),
        ("coin_flip", RARE, "1/32768", True),
        ("coin_flip", RARE, "0.0000305", False),
        ("coin_flip", RARE, "0", False),
        ("coin_flip", RARE, "1/0", False),
        ("power_function", POWER, "2.49e+4", True),
        ("power_function", POWER, "24900", True),
        ("power_function", POWER, "24,891.77", True),
        ("power_function", POWER, "24892.77", False),
        ("power_function", POWER, "2.48e4", False),
        ("power_function", POWER, "25000", False),
        ("advanced_geometry", SQUARE, "(2.333, -2)", True),
        ("advanced_geometry", SQUARE, "2.3333, -2.000", True),
        ("advanced_geometry", SQUARE, "(2.33, -2)", False),
        ("advanced_geometry", SQUARE, "(2.333, -2), (0, 0)", False),
        ("advanced_geometry", SQUARE, "(2.333, -2, 5)", False),
        ("advanced_geometry", ANGLE, "45\u00b0", True),
        ("advanced_geometry", ANGLE, "45.000", True),
        ("advanced_geometry", ANGLE, "45.01\u00b0", False),
        ("puzzle24", FOUR, "6*4*1*1", True),
        ("puzzle24", FOUR, "(6/1)*4/1", True),
        ("puzzle24", FOUR, "-4*-6*1*1", True),
        ("puzzle24", FOUR, "6*4*1", False),
        ("puzzle24", FOUR, "6*4*1*1 + 0", False),
        ("puzzle24", FOUR, "6*4**1*1", False),
        ("puzzle24", FOUR, "12*2*1*1", False),
        ("puzzle24", FOUR, "6*4/(1-1)", False),
        ("puzzle24", FOUR, "6*4.0*1*1", False),
        ("puzzle24", FOUR, "(" * 400, False),
        ("puzzle24", FOUR, "6*4*1*1 # or 7", False),
        ("countdown", entry(numbers=[3, 5], target=15), "(a-a)*(3+5) + 15*a/a", False),
        ("decimal_arithmetic", SUM, "0.66667", True),
        ("decimal_arithmetic", SUM, "0.66665", True),  # as with 1/3 rounded first
        ("decimal_arithmetic", SUM, "0.666667", True),
        ("decimal_arithmetic", SUM, "0.6667", False),
        ("decimal_arithmetic", SUM, "0.66664", False),
        ("decimal_arithmetic", SUM, "2/3", False),
        ("knights_knaves", PAIR, "Bo is a knave and Ann is a knight", True),
        ("knights_knaves", PAIR, "ann is a knight\nbo is a knave", True),
        ("knights_knaves", PAIR, "Not Ann is a knight, and Bo is a knave.", False),
        ("knights_knaves", PAIR, "Ann is a knight, Bo is a knight, Bo is a knave", False),
        ("knights_knaves", PAIR, "Ann is a knight", False),
        ("graph_color", PAINT, '{"0": 1, "1": 2, "2": 2}', True),
        ("graph_color", PAINT, '{"0": 1, "1": 1, "2": 2}', False),
        ("graph_color", PAINT, '{"0": 1, "1": 2}', False),
        ("graph_color", PAINT, '{"0": true, "1": 2, "2": 2}', False),
        ("graph_color", PAINT, '{"0": 1, "0": 1, "1": 2, "2": 2}', False),
        ("graph_color", PAINT, '{"0": 1, "1": 3, "2": 2}', False),
        ("graph_color", PAINT, "[1, 2, 2]", False),
        ("survo", SURVO, "3 2 5\n1 4 5\n4 6 10", True),
        ("survo", SURVO, "3 2 5\n1 4 5\n4 6 10\nmaybe", False),
        ("survo", SURVO, "1 2 5\n3 4 5\n4 6 10", False),
        ("survo", SURVO_TWO, "1 4 5\n4 1 5\n5 5 10", True),
        ("survo", SURVO_TWO, "4 1 5\n1 4 5\n5 5 10", True),
        ("survo", SURVO_TWO, "2 3 5\n3 2 5\n5 5 10", False),
        ("polynomial_multiplication", PRODUCT, "4 - x + 6*y**2*x", True),
        ("polynomial_multiplication", PRODUCT, "6*x*y**2-x+4", True),
        ("polynomial_multiplication", PRODUCT, "2*3*x*y**2 - x + 4", False),
        ("polynomial_multiplication", PRODUCT, "6*x*y**2 - x + 3 + 1", False),
        ("polynomial_multiplication", PRODUCT, "x*(6*y**2 - 1) + 4", False),
        ("polynomial_multiplication", PRODUCT, "6*x*y*y - x + 4", False),
        ("polynomial_multiplication", PRODUCT, "6*x*y**2 - x + 4 or 7", False),
        ("polynomial_equations", entry("-0.5, 2.0"), "2, -0.5000", True),
        ("polynomial_equations", entry("-0.5, 2.0"), "2, -0.5, maybe", False),
        ("polynomial_equations", entry("-0.5, 2.0"), "2", False),
        ("polynomial_equations", entry(""), "", True),
        ("polynomial_equations", entry(""), '""', True),
        ("polynomial_equations", entry(""), "none", False),
        ("number_sorting", entry(sorted_numbers=["-9.5", "3.0"]), "[-9.5, 3]", True),
        ("number_sorting", entry(sorted_numbers=["-9.5", "3.0"]), "['-9.5', '3.9']", False),
        ("number_sorting", entry(sorted_numbers=["-9.5", "3.0"]), '{"-9.5": 0, "3.0": 0}', False),
        ("number_sorting", entry(sorted_numbers=["-9.5", "3.0"]), "[-9.5, NaN]", False),
        ("time_intervals", entry("1 days"), "1 day", True),
        ("time_intervals", entry("1 days"), "1 day or 7", False),
        ("time_intervals", entry("1 days, 02:03"), "1 days, 2:03", True),
        ("time_intervals", entry("1 days, 02:03"), "1 days, 02:03, 7", False),
        ("time_intervals", entry("00:34:28.500"), "00:34:28.500", True),
        ("time_intervals", entry("00:34:28.500"), "00:34:28", False),
        ("time_intervals", entry("00:34"), "00:34:7", False),
        ("gsm_symbolic", entry("1200"), "1,200", True),
        ("gsm_symbolic", entry("1200"), "-1200", False),
        ("gsm_symbolic", entry("12"), "1,2", False),
        ("calendar_arithmetic", entry("-1"), "5", False),
        ("calendar_arithmetic", entry("Friday"), "friday", True),
        ("rush_hour", PARKED, "A+2", True),
        ("rush_hour", PARKED, "A-2 A+1 A+3", True),
        ("rush_hour", PARKED, "A+3", False),
        ("rush_hour", PARKED, "Z+1 A+2", False),
        ("rush_hour", PARKED, "B+2 A+2", False),
        ("rush_hour", PARKED, "A+2 or A+1", False),
        ("rush_hour", PARKED, "A+1", False),
    ],
)  # fmt: skip
def test_scorers(dataset: str, problem: dict[str, Any], answer: str, right: bool) -> None:
    assert is_right(dataset, answer, problem) is right


BOXES = entry(initial_state={"0.5_0.5": ["box_red"], "0.5_1.5": ["box_blue"],
                             "1.5_0.5": ["target_red", "target_blue"], "1.5_1.5": []})  # fmt: skip
DOWN = ("Agent[0.5, 0.5]", "move(box_red, square[1.5, 0.5])")
UP = ("Agent[0.5, 1.5]", "move(box_blue, square[0.5, 0.5])")
DOWN_TOO = ("Agent[0.5, 0.5]", "move(box_blue, square[1.5, 0.5])")
RED = ("Agent[1.5, 0.5]", "move(box_red, target_red)")
BLUE = ("Agent[1.5, 0.5]", "move(box_blue, target_blue)")
MIXED = ("Agent[1.5, 0.5]", "move(box_blue, target_red)")
ACROSS = ("Agent[0.5, 1.5]", "move(box_blue, square[1.5, 0.5])")


@pytest.mark.parametrize(
    ("plan", "right"),
    [
        ([[DOWN, UP], [RED, DOWN_TOO], [BLUE]], True),
        ([[DOWN], [UP], [DOWN_TOO], [RED], [BLUE]], True),
        ([[DOWN, RED], [UP], [DOWN_TOO], [BLUE]], False),  # red is not there yet
        ([[DOWN, UP], [RED, DOWN_TOO]], False),
        ([[DOWN, UP], [RED, DOWN_TOO], [MIXED]], False),
        ([[DOWN], [RED], [ACROSS], [BLUE]], False),  # not adjacent
        ([[DOWN, UP], [RED, DOWN_TOO], [BLUE], [BLUE]], False),  # nothing left to move
        ([], False),
    ],
)
def test_boxes_move_as_the_rules_say(plan: list[list[tuple[str, str]]], right: bool) -> None:
    answer = json.dumps([dict(step) for step in plan])
    assert is_right("boxnet", answer, BOXES) is right
    assert not is_right("boxnet", answer + " or so", BOXES)


def test_one_action_for_each_agent() -> None:
    plan = json.dumps([dict([step]) for step in (DOWN, UP, DOWN_TOO, RED, BLUE)])
    twice = plan.replace('[{"Agent', '[{"Agent[0.5, 0.5]": "move(box_red, target_red)", "Agent', 1)
    assert is_right("boxnet", plan, BOXES)
    assert not is_right("boxnet", twice, BOXES)


@pytest.mark.parametrize("name", sorted({*SCORERS, *SCREENS} - SLOW))
@pytest.mark.parametrize("text", [" " * 20_000, "1 " * 10_000, "[" * 20_000, "a and " * 3_000,
                                  "1," * 10_000, "-" * 20_000, "9" * 20_000, "A=1," * 5_000,
                                  "\n" * 20_000, "{" * 20_000, "1*" * 10_000])  # fmt: skip
@pytest.mark.timeout(100)
def test_long_answers_are_read_quickly(name: str, text: str) -> None:
    task, problems = sample(name)
    assert task.grade(problems[0], f"<answer>x{text}x</answer>").score == 0.0
    assert task.grade(problems[0], f"<answer>1{text}</answer>").score == 0.0
