from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.tasks.answers import choice_letter, excerpt, extract_answer, last_number, lesson


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<answer>5</answer>", "5"),
        ("so <answer> 5\n</answer> it is", "5"),
        ("<answer>1</answer> no: <answer>2</answer>", "2"),
        ("<answer>1</answer> and <answer>2", "1"),
        ("<answer>a <answer>b</answer>", "b"),
        ("<answer>b</answer></answer>", "b"),
        ("</answer><answer>", None),
        ("<answer></answer>", ""),
        ("<answer>5", None),
        ("5", None),
        ("", None),
    ],
)
def test_the_last_complete_pair_is_the_answer(completion: str, answer: str | None) -> None:
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"),
        ("1,234,567.5 km", "1234567.5"),
        ("1,2,3", "3"),
        ("\u22125", "-5"),
        ("5-3", "3"),
        ("x=-3", "-3"),
        ("$-7.50", "-7.50"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("#### 18", "18"),
        ("first 3, then 4.", "4"),
        ("1,2345", "2345"),
    ],
)
def test_the_last_number(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "none", "-", "1e99999999999999999999999", "1e999999", "9" * 2000, ","]
)
def test_no_number(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" b ", "B"),
        ("(c)", "C"),
        ("B) Paris", "B"),
        ("D: because A and B fail", "D"),
        ("The answer is C.", "C"),
        ("A or B", None),
        ("Paris", None),
        ("", None),
    ],
)
def test_the_choice(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    "text",
    ["9" * 10**6, "1,111" * 200_000, "<answer>" * 125_000, "</answer>" * 110_000, "-." * 500_000],
    ids=["digits", "thousands", "open", "close", "signs"],
)
def test_a_megabyte_is_read_in_linear_time(text: str) -> None:
    start = time.perf_counter()
    last_number(text)
    extract_answer(text)
    choice_letter(text)
    assert len(lesson(text, "5", None)) < 1000
    assert time.perf_counter() - start < 2.0  # quadratic time would be hours


@given(st.text(alphabet=st.characters(), max_size=200), st.text(max_size=50))
def test_nothing_raises_and_a_tagged_answer_is_found(before: str, answer: str) -> None:
    last_number(before)
    choice_letter(before)
    excerpt(before)
    if "<" not in answer:
        assert extract_answer(f"{before}<answer>{answer}</answer>") == answer.strip()
