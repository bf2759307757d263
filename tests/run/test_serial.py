from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.run.serial import dumps, state_from_json, state_to_json
from fastslow.run.state import LoopState
from fastslow.run.stored import StoredState, check
from fastslow.testing import rollout
from fastslow.types import (
    Candidate,
    Context,
    Demonstration,
    Failure,
    Population,
    Problem,
    Rollout,
    Turn,
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
turns = st.builds(
    Turn,
    ids,
    ids,
    st.lists(st.floats(allow_nan=False), max_size=4).map(tuple),
    texts,
    st.booleans(),
)
verdicts = st.builds(Verdict, scores, texts) | st.builds(Failure, texts, texts, st.booleans())
problems = st.builds(Problem, texts, texts, st.just({1, 2}))  # a reference that JSON lacks
populations = st.lists(
    candidates, min_size=1, max_size=3, unique_by=lambda c: c.context.digest
).map(lambda found: Population(tuple(found)))


@st.composite
def states(draw: st.DrawFn) -> LoopState:
    population = draw(populations)
    rollouts = st.builds(
        Rollout,
        problems,
        st.sampled_from(population.contexts),
        st.lists(turns, min_size=1, max_size=3).map(tuple),
        verdicts,
        st.integers(0, 99),
    )
    known = draw(st.lists(rollouts, max_size=3, unique_by=lambda rollout: rollout.problem.id))
    return LoopState(
        draw(st.integers(0, 10**6)),
        draw(st.integers(0, 10**5)),
        population,
        {rollout.key: rollout for rollout in known},
        draw(st.integers(0, 9)),
        draw(st.dictionaries(texts, contexts, max_size=2)),
    )


def problems_of(state: LoopState) -> dict[str, Problem]:
    return {rollout.problem.id: rollout.problem for rollout in state.rollouts.values()}


@given(states())
@settings(deadline=None, max_examples=50)
def test_a_state_comes_back_as_it_was(state: LoopState) -> None:
    text = dumps(state_to_json(state))
    found = state_from_json(json.loads(text), problems_of(state))
    assert found == state
    assert list(found.rollouts) == list(state.rollouts)  # the order, too


@given(states())
@settings(deadline=None, max_examples=20)
def test_rollouts_of_problems_that_are_gone_are_left_out(state: LoopState) -> None:
    data = json.loads(dumps(state_to_json(state)))
    known = problems_of(state)
    gone = set(sorted(known)[:1])
    found = state_from_json(data, {name: p for name, p in known.items() if name not in gone})
    assert list(found.rollouts) == [key for key in state.rollouts if key[0] not in gone]


def test_a_reusable_rollout_of_an_unknown_context_is_refused() -> None:
    population = Population((Candidate(Context("Answer.")),))
    one = rollout(Problem("p", "?"), population.best.context, 1.0)
    data = state_to_json(LoopState(1, 0, population, {one.key: one}))
    data = json.loads(dumps(data))
    check(StoredState, data)
    data["rollouts"][0]["context"] = "0" * 16
    with pytest.raises(ValueError, match="a context that is not in the population"):
        check(StoredState, data)


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
