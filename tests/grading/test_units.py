from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.grading.notation import normalise
from fastslow.grading.units import Quantity, read_quantity


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("5 cm", Quantity("5", "cm")),
        (r"5\text{ cm}", Quantity("5", "cm")),
        ("5 Centimetres", Quantity("5", "cm")),
        ("5 square meters", Quantity("5", "m^2")),
        (r"5\text{ m}^2", Quantity("5", "m^2")),
        ("5 cubic feet", Quantity("5", "ft^3")),
        ("5 km/h", Quantity("5", "km/h")),
        (r"2\sqrt{3}\text{ cm}", Quantity(r"2\sqrt{3}", "cm")),
        ("$5", Quantity("5", "dollar")),
        ("-$5", Quantity("-5", "dollar")),
        ("5 dollars", Quantity("5", "dollar")),
        ("60%", Quantity("60", percent=True)),
        ("1012_3", Quantity("1012", "base 3")),
        ("5 m", Quantity("5", "m", certain=False)),
        ("5 m/s", Quantity("5", "m/s")),
        ("2m", Quantity("2", "m", certain=False)),
        (r"5\,\mathrm{m \cdot s^{-1}}", Quantity("5", "m/s")),
        ("5 miles per hour", Quantity("5", "mi/h")),
        ("5 sq. ft.", Quantity("5", "ft^2")),
        ('5"', Quantity("5", "in")),
        ("18 eggs", Quantity("18", "egg")),
        ("18 bags of rice", Quantity("18", "bags of rice")),
        (r"18\text{ eggs}", Quantity("18", "egg")),
        ("1 egg", Quantity("1", "egg")),
        ("5 million", Quantity("5", scale=Fraction(10**6))),
        ("5 million dollars", Quantity("5", "dollar", scale=Fraction(10**6))),
        ("3 tenths", Quantity("3", scale=Fraction(1, 10))),
        (r"5\text{ doubled}", Quantity(r"5\text{doubled}")),
        ("5 sin x", Quantity("5 sin x")),
        ("5 xyz", Quantity("5 xyz")),
        ("5abc", Quantity("5abc")),
        ("2x", Quantity("2x")),
        ("2 xy", Quantity("2 xy")),
    ],
)
def test_units(text: str, quantity: Quantity) -> None:
    assert read_quantity(normalise(text)) == quantity


@given(st.text(max_size=60) | st.text(alphabet=r"0123456789,./\\textkmsq{}^ $%", max_size=30))
def test_any_text_is_parted(text: str) -> None:
    read_quantity(text)
    read_quantity(normalise(text))
