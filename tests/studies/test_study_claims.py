"""What may be claimed of how many seeds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastslow.studies.claims import Claim, NoReading, Reading

RELATIONS = ("above", "at least", "at most")


def claim(relation: Any, threshold: float, *readings: Any, is_ratio: bool = False) -> Claim:
    """Numbers stand for exact readings, strings for reasons why there is none."""

    def read(value: Any) -> Reading | NoReading:
        if isinstance(value, str):
            return NoReading(value)
        return value if isinstance(value, Reading) else Reading(value)

    by_seed = {seed: read(value) for seed, value in enumerate(readings)}
    return Claim("text", "task", relation, threshold, by_seed, ["run"], is_ratio)


def test_the_interval_is_students() -> None:
    values = [0.1, 0.25, 0.4, 0.2]
    found = claim("above", 0.0, *values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.estimate == pytest.approx(0.2375)
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_ratio_is_that_of_its_logarithm() -> None:
    found = claim("at least", 3.0, 2.0, 8.0, 4.0, is_ratio=True)
    expected = stats.ttest_1samp([math.log(x) for x in (2, 8, 4)], 0.0).confidence_interval(0.95)
    assert found.estimate == pytest.approx(4.0)
    assert found.interval == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert found.holds == "undecided"


def test_ratios_that_are_far_apart_overflow_into_infinity() -> None:
    found = claim("at least", 3.0, 1e-30, 1e30, is_ratio=True)
    assert found.interval == (0.0, math.inf)
    assert found.holds == "undecided"


@pytest.mark.parametrize(
    ("relation", "threshold", "readings", "holds"),
    [
        ("above", 0.0, (0.10, 0.11, 0.12), "yes"),
        ("above", 0.0, (-0.10, -0.11, -0.12), "no"),
        ("above", 0.0, (-0.1, 0.1, 0.2), "undecided"),
        ("above", 0.0, (0.0, 0.0), "no"),
        ("at least", 0.0, (0.0, 0.0), "yes"),
        ("at most", 0.3, (0.25, 0.26, 0.25), "yes"),
        ("at most", 0.3, (0.35, 0.36, 0.37), "no"),
        ("above", 0.0, (0.5,), "undecided"),  # one seed
        ("above", 0.0, (), "undecided"),
        ("above", 0.0, (0.10, 0.11, 0.12, "failed"), "undecided"),
        # The truth lies further out, or further back, than what was read.
        ("at least", 3.0, (Reading(4, "at least"), 4.0), "yes"),
        ("at least", 3.0, (Reading(4, "at most"), 4.0), "undecided"),
        ("at least", 3.0, (Reading(1, "at most"), 1.0), "no"),
        ("at least", 3.0, (Reading(1, "at least"), 1.0), "undecided"),
        ("at most", 3.0, (Reading(1, "at most"), 1.0), "yes"),
        ("at most", 3.0, (Reading(1, "at least"), 1.0), "undecided"),
        ("at most", 3.0, (Reading(4, "at least"), 4.0), "no"),
        ("at most", 3.0, (Reading(4, "at most"), 4.0), "undecided"),
    ],
)
def test_what_holds(relation: str, threshold: float, readings: Any, holds: str) -> None:
    assert claim(relation, threshold, *readings).holds == holds


@settings(max_examples=40)
@given(
    relation=st.sampled_from(RELATIONS),
    threshold=st.floats(-5, 5),
    values=st.lists(st.floats(-10, 10), min_size=2, max_size=6),
)
def test_the_estimate_agrees_with_what_holds(
    relation: str, threshold: float, values: list[float]
) -> None:
    found = claim(relation, threshold, *values)
    assert found.estimate is not None
    satisfied = {
        "above": found.estimate > threshold,
        "at least": found.estimate >= threshold,
        "at most": found.estimate <= threshold,
    }[relation]
    if found.holds != "undecided":
        assert satisfied == (found.holds == "yes")


@settings(max_examples=40)
@given(
    relation=st.sampled_from(RELATIONS),
    values=st.lists(st.floats(-10, 10), min_size=2, max_size=4),
    bound=st.sampled_from(["at least", "at most"]),
)
def test_a_bound_or_a_missing_seed_never_decides_what_the_number_did_not(
    relation: str, values: list[float], bound: Any
) -> None:
    exact = claim(relation, 1.0, *values).holds
    bounded = claim(relation, 1.0, Reading(values[0], bound), *values[1:]).holds
    assert bounded in (exact, "undecided")
    assert claim(relation, 1.0, *values, "failed").holds == "undecided"


def test_a_claim_says_all_that_it_rests_on() -> None:
    found = claim("at least", 3.0, 4.0, Reading(2.0, "at most"), "failed").to_json("fastslow study")
    assert found == {
        "claim": "text",
        "task": "task",
        "seeds": [0, 1, 2],
        "rule": "at least 3",
        "estimate": 3.0,
        "interval": found["interval"],
        "holds": "undecided",
        "readings": [
            {"seed": 0, "value": 4.0, "bound": "exact"},
            {"seed": 1, "value": 2.0, "bound": "at most"},
            {"seed": 2, "missing": "failed"},
        ],
        "runs": ["run"],
        "command": "fastslow study",
    }
