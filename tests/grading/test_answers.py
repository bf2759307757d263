from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.grading import answers
from fastslow.grading.answers import (
    Style,
    choice_letter,
    extract,
    extract_answer,
    formatted,
    last_number,
)

STYLES: tuple[Style, ...] = ("tags", "boxed", "number", "letter")


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
    ("completion", "answer"),
    [
        (r"\boxed{5}", "5"),
        (r"so $\boxed{ \frac{1}{2} }$.", r"\frac{1}{2}"),
        (r"\boxed{1} no: \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{\boxed{3}}", "{3}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{a}} {\boxed{b}", "b"),
        (r"\fbox{7} \\boxed {8}", "8"),
        (r"\boxed{}", ""),
        (r"\boxed{{5}", None),
        (r"\boxed 5", "5"),
        (r"so $\boxed 42$.", "42"),
        ("\\boxed\n{5}", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed x.", "x"),
        ("boxed{5}", None),
        ("", None),
    ],
)
def test_the_last_complete_box_is_the_answer(completion: str, answer: str | None) -> None:
    assert extract("boxed", completion) == answer


@pytest.mark.parametrize(
    ("between", "answer"),
    [
        (" or ", "3, 4"),
        ("$ and $", "3, 4"),
        (r", \text{ or } ", "3, 4"),
        (",", "3, 4"),
        (" ; ", "3, 4"),
        ("\n\n", "4"),
        (" is wrong, so it is ", "4"),
        (" or rather ", "4"),
    ],
)
def test_who_names_two_answers_has_not_given_one(between: str, answer: str) -> None:
    assert extract("boxed", rf"${{\boxed{{3}}{between}\boxed{{4}}$") == answer
    assert extract("tags", f"<answer>3</answer>{between}<answer>4</answer>") == answer


def test_an_answer_said_twice_is_one() -> None:
    assert extract("boxed", r"\boxed{3}, \boxed{3}") == "3"


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("tags", "<answer>1</answer> so <answer>2</answer>"),
        ("boxed", r"\boxed{1} so \boxed{2}"),
        ("number", "1 so 2"),
    ],
)
def test_the_first_answer_counts_if_so_asked(style: Style, text: str) -> None:
    assert extract(style, text, "first") == "1"
    assert extract(style, text) == "2"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("it is 1,234.5 m", "1,234.5"),
        (r"it is $\frac{3}{4}$.", r"\frac{3}{4}"),
        ("about 50 %.", "50 %"),
        ("it is \u22122 1/2", "-2 1/2"),
        ("either 3 or 4", "3 or 4"),
        ("x^2 + 3", "3"),
        ("5 m^2", "5"),
        ("5 m\u00b2", "5"),
        (r"336^\circ", "336"),
        ("2^3", None),
        (r"2\sqrt{3}", None),
        (r"3\pi", None),
        ("none", None),
    ],
)
def test_the_number_style(text: str, written: str | None) -> None:
    assert extract("number", text) == written


@pytest.mark.parametrize("style", ["tags", "boxed", "number", "letter"])
def test_what_is_formatted_is_found(style: Style) -> None:
    answer = "B" if style == "letter" else "12"
    assert extract(style, formatted(style, answer)) == answer


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
        ("1/2", "0.5"),
        (r"\frac{3}{4}", "0.75"),
        ("2 1/2 hours", "2.5"),
        ("60%", "60"),
        ("3/4/2020", "2020"),
        ("3 \u00d7 10^8", "3e8"),
        ("0." + "1" * 40, "0." + "1" * 40),
    ],
)
def test_the_last_number(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    ["", "none", "-", "1e99999999999999999999999", "1e999999", "9" * 2000, ",", "1/0", "3 or 4"],
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
        ("A, B", None),
        ("(A) or (B)", None),
        ("A/B", None),
        ("B, because of the heat", "B"),
        ("Paris", None),
        ("", None),
    ],
)
def test_the_choice(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "9" * 10**6,
        "1,111" * 200_000,
        "1 " * 500_000,
        "1/" * 500_000,
        "1 1/" * 250_000,
        "-." * 500_000,
        "<answer>" * 125_000,
        "</answer>" * 110_000,
        "<answer>1</answer>," * 50_000,
        r"\boxed{" * 140_000,
        r"\boxed{" * 70_000 + "}" * 70_000,
        "{" * 10**6,
        "\\" * 10**6,
        r"\boxed" + " " * 10**6,
        r"\frac{1}" * 120_000,
        "A, " * 330_000,
    ],
    ids=lambda text: f"{text[:12]!r}",
)
def test_a_megabyte_is_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    last_number(text)
    extract_answer(text)
    choice_letter(text)
    for style in STYLES:
        extract(style, text)
    assert time.process_time() - start < 10.0  # quadratic time would be hours


@pytest.mark.parametrize(
    ("before", "number"),
    [("x" * 10**6, None), ("1 " * 500_000, "1"), ("1/" * 500_000, "1"), ("+-" * 500_000, None)],
    ids=lambda value: f"{str(value)[:4]!r}",
)
def test_a_megabyte_before_digits_that_are_no_number_is_read_in_linear_time(
    before: str, number: str | None
) -> None:
    text = before + "a" * 4000 + "^1"  # the neighbourhood of the last digit does not do
    start = time.process_time()
    found = last_number(text)
    assert time.process_time() - start < 2  # measured: 0.15; quadratic time would be hours
    assert found == (None if number is None else Decimal(number))


@given(
    st.lists(
        st.sampled_from(
            ["1", "2 1/2", "3/4", r"\frac{3}{4}", "1,234", "1 234 567", "10^9", r"3 \times 10^8",
             "1e5", " ", "x", "\n", ", ", "-", "$", "%", "5 million", "sqrt", "^", "{", "."]
        ),
        max_size=100,
    )
)  # fmt: skip
def test_blocks_from_the_end_hold_the_last_numbers_of_the_whole(parts: list[str]) -> None:
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answers, "_BLOCK", 16)
        in_blocks = extract("number", text)
    assert in_blocks == extract("number", text)


@given(st.text(alphabet=st.characters(), max_size=200), st.text(max_size=50))
def test_nothing_raises_and_a_tagged_answer_is_found(before: str, answer: str) -> None:
    last_number(before)
    for style in STYLES:
        extract(style, before)
        extract(style, before, "first")
    if "<" not in answer:
        assert extract_answer(f"{before}<answer>{answer}</answer>") == answer.strip()
