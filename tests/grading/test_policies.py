"""The policies of docs/answers.md, one by one."""

from __future__ import annotations

import pytest

from fastslow.grading.equivalence import mismatch


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("0,5", "0.5", False),
        ("0.333333", "1/3", True),
        ("0.33", "1/3", False),
        ("3.14", r"\pi", False),
        (r"\sqrt2 \approx 1.41", r"\sqrt2", True),
        (r"5 \approx 6", "5", False),
        ("500 cm", "5 m", False),
        ("5 m", "5", False),
        ("5 million", "5000000", True),
        ("3 tenths", "0.3", True),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)", True),
        (r"\langle 1,2\rangle", "(1,2)", True),
        ("5, 6", "a=5, b=6", True),
        ("6, 5", "a=5, b=6", False),
        ("x=1, y=2", "(1,2)", False),
        (r"\{x \mid x>2\}", r"(2,\infty)", True),
        (r"k\pi, k\in\mathbb{Z}", r"k\pi", True),
        ("no solution", r"\emptyset", True),
        ("4:6", "2/3", True),
        ("2:4:6", "1:2:3", False),
        ("4343", "4343_6", True),
        ("2 + 3", "5", False),
        (r"2\cdot 3", "6", False),
        (r"1+\frac12", r"\frac32", False),
        (r"\frac42", "2", True),
        ("2^{10}", "1024", True),
        ("10!", "3628800", True),
        (r"\log_{10} 100", "2", True),
        (r"\textbf{(B)}\ 12", "B", False),
        ("1/2 or 0.5", "1/2", False),
        ("m+n=5", "5", True),
        ("x < 1 or x > 2", r"(-\infty,1)\cup(2,\infty)", True),
        (r"x \ge 2", "x > 2", False),
        (r"\frac{1}{2^{70}}", "0", False),
        ("1", "0^0", False),
        ("0^{0}", "1", False),
        ("10^0", "1", True),
        ("((1,2))", "(1,2)", True),
        ("A^T", "A", False),
        (r"\text{arcsin}(x)", r"\text{sin}(x)", False),
    ],
)
def test_a_policy(answer: str, reference: str, right: bool) -> None:
    assert (mismatch(answer, reference) is None) is right


@pytest.mark.parametrize(("asked", "right"), [(True, True), (False, False)])
def test_the_policy_of_percentages(asked: bool, right: bool) -> None:
    assert (mismatch("50%", "50", percentage=asked) is None) is right
