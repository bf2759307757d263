from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.run.serial import dumps, state_from_json, state_to_json
from fastslow.run.state import LoopState
from fastslow.types import (
    Candidate,
    Completion,
    Context,
    Demonstration,
    Failure,
    Population,
    Rollout,
    Verdict,
)

texts = st.text(st.characters(categories=["L", "Cc", "Cs", "So", "P"]), max_size=8)
scores = st.floats(0, 1)
contexts = st.builds(
    Context,
    texts,
    st.lists(st.builds(Demonstration, texts, texts, st.none() | texts), max_size=2).map(tuple),
)
candidates = st.builds(
    Candidate,
    contexts,
    st.lists(texts, max_size=2).map(tuple),
    texts,
    st.integers(0, 99),
    st.dictionaries(texts, scores, max_size=3),
)
ids = st.lists(st.integers(0, 50_000), max_size=4).map(tuple)
completions = st.builds(
    Completion,
    ids,
    ids,
    st.lists(st.floats(allow_nan=False), max_size=4).map(tuple),
    texts,
    st.booleans(),
    st.integers(0, 99),
)
rollouts = st.builds(
    Rollout,
    texts,
    texts,
    completions,
    st.builds(Verdict, scores, texts) | st.builds(Failure, texts, texts),
)
states = st.builds(
    LoopState,
    st.integers(0, 10**6),
    st.integers(0, 10**5),
    st.lists(candidates, min_size=1, max_size=3, unique_by=lambda c: c.context.digest).map(
        lambda found: Population(tuple(found))
    ),
    st.lists(rollouts, max_size=3).map(lambda rs: {(r.problem_id, r.context): r for r in rs}),
    st.integers(0, 9),
    st.dictionaries(texts, contexts, max_size=2),
)


@given(states)
@settings(deadline=None, max_examples=50)
def test_a_state_comes_back_as_it_was(state: LoopState) -> None:
    text = dumps(state_to_json(state))
    found = state_from_json(json.loads(text))
    assert found == state
    assert list(found.rollouts) == list(state.rollouts)  # the order, too
    assert found.population.digests == state.population.digests


@given(st.floats())
def test_every_float_comes_back_to_the_last_bit(value: float) -> None:
    found = float(json.loads(dumps([value]))[0])
    assert math.isnan(found) if math.isnan(value) else found == value
    assert math.copysign(1, found) == math.copysign(1, value) or math.isnan(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [math.nan, 1.5]}, '{"a": ["NaN", 1.5]}'),
        ((math.inf, -math.inf), '["Infinity", "-Infinity"]'),
    ],
)
def test_numbers_that_json_lacks_are_spelled(value: Any, text: str) -> None:
    assert dumps(value) == text
