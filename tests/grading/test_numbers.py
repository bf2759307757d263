from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.grading.numbers import read_number, same_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", "5"), ("+5", "5"), ("\u22125", "-5"), ("\uff0d5", "-5"), ("- 5", "-5"),
        ("007", "7"), (".5", "1/2"), ("1,234,567.5", "2469135/2"), ("1{,}234", "1234"),
        (r"1\,234", "1234"), (r"12\,345\,678", "12345678"), (r"1,\!234", "1234"),
        ("3/4", "3/4"), ("-3 / 4", "-3/4"), ("3\u20444", "3/4"), ("1.5/3", "1/2"),
        ("2 1/2", "5/2"), ("-2 1/2", "-5/2"), ("2\u00bd", "5/2"), ("\u00bd", "1/2"),
        (r"\frac{3}{4}", "3/4"), (r"\dfrac34", "3/4"), (r"-\tfrac{3}{4}", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"), (r"\frac{1,000}{3}", "1000/3"), (r"2\frac{1}{2}", "5/2"),
        ("1e3", "1000"), ("1.5E-1", "3/20"), ("10^9", "1000000000"), ("10^{-2}", "1/100"),
        (r"3 \times 10^{2}", "300"), ("3\u00d710\u00b2", "300"), ("2*10^(3)", "2000"),
        ("1 234", "1234"), ("1 000 000.5", "2000001/2"), (r"0.\overline{3}", "1/3"),
        (r"0.1\dot{6}", "1/6"), ("\u215e", "7/8"), ("10\u207b\u00b3", "1/1000"),
        ("1.5\u00b710^-3", "3/2000"), ("\u200f5\u202c", "5"), ("\uff11\uff12", "12"),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written(text: str, value: str) -> None:
    number = read_number(text)
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    ["", "-", ".", "1.", "x", "5x", "5%", "--5", "5-3", "1/0", "1/2/3", "1,2", "1,2345", "1 23",
     "12 3456", "5\u00b2", "2^3", "1e99999", "10^{10^9}", r"\frac{x}{2}", r"\frac{1}{0}", "\u0663",
     "9" * 2000, "nan", "inf", "0x10", "1_000"],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert read_number(text) is None


@given(st.text(max_size=60) | st.text(alphabet=r"0123456789,./\frac{}^e+- x%", max_size=30))
def test_any_text_is_read(text: str) -> None:
    read_number(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0.5", "1/2", True),
        ("3", "3.00", True),
        ("0.333333", "1/3", True),
        ("0.666667", "2/3", True),
        ("0.666666", "2/3", False),
        ("0.33333", "1/3", False),
        ("0.999999", "1", False),
        ("1000000.5", "1000000", False),
        ("1000001", "1000000", False),
        ("0", "1e-20", False),
        ("2e-20", "1e-20", False),
        ("1.234567", "1.2345671", False),
    ],
)
def test_the_same_number(one: str, other: str, same: bool) -> None:
    a, b = read_number(one), read_number(other)
    assert a is not None
    assert b is not None
    assert same_number(a, b) is same_number(b, a) is same
