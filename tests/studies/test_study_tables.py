"""What a study prints: numbers that fit the terminal, and notes for what is said in sentences."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console

from fastslow.studies.claims import Claim, NoReading, Reading
from fastslow.studies.results import claims_table, rows_table

REASON = "the curve has not bent yet: a straight line explains it as well"


def printed(table: Any, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_sentences_stand_below_the_numbers() -> None:
    rows = [
        {"role": "rl", "asymptote": None, "asymptote/unknown": REASON},
        {"role": "fst", "asymptote": 0.5},
        {"role": "fast", "asymptote": None, "asymptote/unknown": REASON},
    ]
    shown = printed(rows_table(rows, 80), 80)
    assert shown.count("(1)") == 3  # twice in a cell, once below
    assert f"(1) {REASON}" in " ".join(shown.split())
    assert "0.500" in shown


def test_numbers_are_as_long_as_they_have_to_be() -> None:
    values = [1912.3, 0.0, -0.5, 99.9, 1e-5, 2e12, math.inf, math.nan, 25_006, 144, None]
    expected = ["1,912", "0.000", "-0.500", "99.900", "1e-05", "2e+12", "inf", "nan", "25,006"]
    shown = printed(rows_table([{"value": value} for value in values], 80), 80)
    assert [line.strip() for line in shown.splitlines()[2:]] == [*expected, "144", "-"]


def test_columns_that_do_not_fit_are_counted() -> None:
    rows = [{"role": "rl", **{f"measure {n}": n / 7 for n in range(30)}}] * 50
    shown = printed(rows_table(rows, 60), 60)
    assert all(len(line) <= 60 for line in shown.splitlines())
    assert "\u2026" not in shown  # no number is cut
    columns = shown.splitlines()[0].count("measure")
    assert f"10 more rows and {30 - columns} more columns in results.json" in shown
    assert "more" not in printed(rows_table(rows[:2], 500), 500)


def test_why_a_claim_is_undecided_is_said_once() -> None:
    readings = {0: NoReading(REASON), 1: Reading(0.1), 2: NoReading("no finished run of rl")}
    claims = [Claim(text, "task", "above", 0, readings, []) for text in ("[b]one", "two")]
    shown = printed(claims_table(claims), 120)
    assert shown.count("undecided (1) (2)") == 2
    assert " ".join(shown.split()).count(f"(1) seed 0: {REASON}") == 1
    assert shown.count("straight line") == 1
    assert "(2) seed 2: no finished run of rl" in shown
    assert "[b]one" in shown
