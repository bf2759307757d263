"""Whole numbers are hit by themselves only, whatever they are written as (G2)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastslow.tasks.json_values import first_difference, read_value
from fastslow.tasks.solutions import first_wrong_line

FACTORIAL = math.factorial(50)


@pytest.mark.parametrize("tolerance", [0.0, 1e-5, 1e-3, 0.5])
@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        pytest.param(1234567890123, "1.23456789e12", id="G2"),
        pytest.param(FACTORIAL, "3.0414093201713378e64", id="G2-factorial"),
        (2**53 + 1, "9007199254740992.0"), (2**60 + 1, str(float(2**60))), (10**23, "1e23"),
        (3, "2.9999999999999996"), (3, "3.0000000001"), (0, "1e-300"), (0, "-1e-12"),
        (-1234567, "-1.23457e6"), (10**400, "1e308"), (10**400, "Infinity"), (5, "NaN"),
        (1, "true"), (0, "false"), (True, "1.0"), (7, '"7"'), ("7", "7"), (7, "[7]"), (7, "-7.0"),
        ([1, {"a": [10**18 + 1]}], '[1, {"a": [1e18]}]'), ({"7": 10**17 + 1}, '{"7": 1e17}'),
        (1234567890123.0, "1.23456789e12"), (1e15, "1000000000000001"), (3.0, "4"),
        (1e23, "1" + "0" * 23),
        (math.inf, "1e308"), (-math.inf, "Infinity"), (math.inf, "1" + "0" * 400),
    ],
)  # fmt: skip
def test_another_number_is_no_hit(expected: Any, answer: str, tolerance: float) -> None:
    assert first_difference(expected, read_value(answer), tolerance) is not None


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (3, "3.0"), (3.0, "3"), (30, "3e1"), (10**22, "1e22"), (2**60, "1152921504606846976.0"),
        (0, "-0.0"), (0.0, "0"), (-0.0, "0.0"), (1e23, "1e+23"), (math.inf, "Infinity"),
        (math.nan, "NaN"), (3.0, "2.9999999999999996"), (0.1 + 0.2, "0.3"),
        (FACTORIAL, str(FACTORIAL)),
        ([1, {"a": [10**18]}], '[1.0, {"a": [1e18]}]'), (1e16 + 2, "10000000000000002"),
    ],
)  # fmt: skip
def test_the_number_itself_is_a_hit(expected: Any, answer: str) -> None:
    assert first_difference(expected, read_value(answer), 0.0) is None


@pytest.mark.parametrize(
    ("expected", "answer", "is_hit"),
    [
        (1234.56, "1235", True), (1234.56, "1234.5", True), (1234.56, "1236", False),
        (0.5, "0.5004", True), (0.5, "0.501", False), (5e-324, "0", False), (1e-5, "0.0", False),
    ],
)  # fmt: skip
def test_a_fraction_has_a_tolerance_relative_to_it(
    expected: float, answer: str, is_hit: bool
) -> None:
    assert (first_difference(expected, read_value(answer), 1e-3) is None) is is_hit


@pytest.mark.parametrize(
    ("expected", "printed", "is_hit"),
    [
        ("1234567890123", "1.23456789e12", False), ("1234567890123.0", "1.23456789e12", False),
        ("1234567890123", "1234567890123.0", True), ("5.0", "4.9999999", True),
        ("5", "4.9999999", False),
        ("5.0", "5.00001", False), ("0.0", "1e-9", False), ("0", "1e-9", False),
        ("2.5", "2.500001", True),
        ("1e3", "1000", True), ("007", "7", True), ("1e999999999999999999999", "1", False),
    ],
)  # fmt: skip
def test_printed_numbers(expected: str, printed: str, is_hit: bool) -> None:
    assert (first_wrong_line(expected, printed) is None) is is_hit
