from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.errors import InputError
from fastslow.report import rollouts
from fastslow.report.rollouts import Place, choose, cut, sample_rollouts, thinned
from fastslow.run.observer import Phase
from fastslow.run.record import RunRecord, read_run
from fastslow.run.rollouts import write_rollouts
from fastslow.testing import rollout, turn
from fastslow.types import Problem, Verdict

Make = Callable[..., Any]

PLACES = st.lists(
    st.builds(
        Place,
        st.sampled_from(["fast", "slow", "eval"]),
        st.integers(0, 5),
        st.floats(0, 1) | st.none(),
    )
)


def keep(folder: Path, phase: Phase, step: int, scores: Sequence[float], text: str = "t") -> None:
    """Write a file of rollouts, one for each score."""
    (folder / "rollouts").mkdir(exist_ok=True)
    problem = Problem("p", "How many?", 3)
    turns = [turn(text, sampled=(2,) * (n + 1), finished=n > 0) for n in range(9)]
    made = [
        rollout(problem, "c", Verdict(score, f"feedback {number}"), one)
        for number, (score, one) in enumerate(zip(scores, turns, strict=False))
    ]
    write_rollouts(folder / "rollouts", phase, step, step // 2, made)


@pytest.fixture
def run(write_run: Make, slow: Make) -> RunRecord:
    return read_run(write_run("run", [slow(1)]))


@given(PLACES, st.integers(24, 40))
def test_the_choice_is_bounded_and_has_the_ends(places: list[Place], limit: int) -> None:
    chosen = choose(places, limit)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(limit, len(places))
    for phase in {place.phase for place in places}:
        steps = [place.step for place in places if place.phase == phase]
        for step in (min(steps), max(steps)):
            group = [i for i, p in enumerate(places) if (p.phase, p.step) == (phase, step)]
            scores = [score for i in group if (score := places[i].score) is not None]
            taken = [places[i].score for i in chosen if i in group]
            assert {group[0], group[-1]} <= set(chosen)
            assert not scores or {min(scores), max(scores)} <= set(taken)


def test_the_rest_lies_evenly_over_the_run() -> None:
    places = [Place("slow", step, 0.5) for step in range(100)]
    chosen = choose(places, 34)
    assert {0, 99} <= set(chosen)
    assert max(b - a for a, b in pairwise(chosen)) <= 4


def test_rollouts_are_read_with_their_feedback(run: RunRecord) -> None:
    keep(run.path, "slow", 1, [0.0, 1.0])
    keep(run.path, "slow", 2, [0.5])
    (sample,) = sample_rollouts([run])
    assert sample.total == 3
    rows = [(r["step"], r["score"], r["feedback"], r["tokens"]) for r in sample.rows]
    assert rows == [(1, 0.0, "feedback 0", 1), (1, 1.0, "feedback 1", 2), (2, 0.5, "feedback 0", 1)]
    assert sample.rows[0]["question"] == "How many?"
    assert sample.rows[0]["reference"] == "3"
    assert [row["finished"] for row in sample.rows] == [False, True, False]


def test_chosen_rows_come_from_their_own_files(
    run: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "SHOWN", 1)
    monkeypatch.setattr(rollouts, "LEAST", 5)
    for step in range(1, 10):
        keep(run.path, "slow", step, [step / 10] * 3, text=f"step {step}")
    (sample,) = sample_rollouts([run])
    assert (len(sample.rows), sample.total) == (5, 27)
    assert {row["step"] for row in sample.rows} >= {1, 9}
    for row in sample.rows:
        assert row["text"] == f"step {row['step']}"
        assert row["score"] == row["step"] / 10


def test_runs_without_rollouts_have_no_sample(run: RunRecord) -> None:
    assert sample_rollouts([run]) == []
    (run.path / "rollouts").mkdir()
    assert sample_rollouts([run]) == []


def test_a_file_that_is_damaged_is_named(run: RunRecord) -> None:
    keep(run.path, "slow", 1, [0.5])
    damaged = run.path / "rollouts" / "slow_000002.parquet"
    damaged.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"slow_000002\.parquet: rollouts cannot be read"):
        sample_rollouts([run])


def test_a_sample_is_thinned_evenly_over_the_runs_and_says_so(run: RunRecord) -> None:
    for step in range(1, 10):
        keep(run.path, "slow", step, [step / 10] * 3)
    samples = sample_rollouts([run, run])
    assert [sample.left_out for sample in samples] == [0, 0]
    for limit in (40, 17, 1, 0):
        some = thinned(samples, limit)
        counts = [len(sample.rows) for sample in some]
        assert sum(counts) == limit
        assert max(counts) - min(counts) <= 1
        assert [sample.left_out for sample in some] == [27 - count for count in counts]
    assert {row["step"] for row in thinned(samples, 16)[0].rows} >= {1, 9}


def test_a_long_text_lacks_its_middle() -> None:
    assert cut("x" * rollouts.LONGEST) == "x" * rollouts.LONGEST
    long = cut("begins" + "x" * 10_000 + "the answer is 4")
    assert long.startswith("begins")
    assert "4,021 characters left out" in long
    assert long.endswith("the answer is 4")
