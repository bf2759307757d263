"""Grading beside sampling, and what becomes of verifiers that were stopped (``collect.py``)."""

import itertools
import threading
from collections.abc import Sequence

import pytest

from fastslow.collect import Grading, settled
from fastslow.types import Context, Failure, Problem, Verdict

PROBLEMS = [Problem(f"{task}/{n}", f"{task} {n}?") for task in "ab" for n in range(2)]
PAIRS = [(problem, Context()) for problem in PROBLEMS]


def task_of(problem: Problem) -> str:
    return problem.id[0]


def test_grading_overlaps_sampling() -> None:
    later, graded = threading.Event(), threading.Event()

    def grade(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        graded.set()
        return [Verdict(float(later.wait(30))) for _ in pairs]

    with Grading(grade) as grading:
        grading.add(0, (PROBLEMS[0], "first"))
        assert graded.wait(30)
        grading.add(1, (PROBLEMS[1], "second"))
        later.set()
        assert grading.finish() == {0: Verdict(1.0), 1: Verdict(1.0)}


def test_what_verifiers_raise_ends_the_sampling() -> None:
    def grade(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        raise LookupError("broken")

    def sample(grading: Grading) -> None:
        for place in itertools.count():
            grading.add(place, (PROBLEMS[0], "x"))

    with pytest.raises(LookupError, match="broken"), Grading(grade) as grading:
        sample(grading)
    with pytest.raises(LookupError, match="broken"), Grading(grade) as grading:  # noqa: PT012
        grading.add(0, (PROBLEMS[0], "x"))
        grading.finish()


def test_an_interruption_does_not_wait_for_what_is_queued() -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), list[str]()

    def grade(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        seen.extend(text for _, text in pairs)
        begun.set()
        go_on.wait(0.5)
        return [Verdict(0.0) for _ in pairs]

    with pytest.raises(KeyboardInterrupt), Grading(grade) as grading:  # noqa: PT012
        grading.add(0, (PROBLEMS[0], "running"))
        assert begun.wait(30)
        grading.add(1, (PROBLEMS[1], "queued"))
        raise KeyboardInterrupt
    assert seen == ["running"]


def test_stopped_verifiers_are_settled_by_task_in_any_order() -> None:
    stopped = Failure("it took longer than 3 seconds", stopped=True)
    outcomes = [(0, Verdict(1.0)), (1, stopped), (2, stopped), (3, Failure("it raised"))]
    for order in itertools.permutations(outcomes):
        found = settled(PAIRS, dict(order), task_of)
        assert found[0] == Verdict(1.0)
        assert isinstance(found[1], Verdict)
        assert found[1].score == 0.0
        assert "it took longer than 3 seconds" in found[1].feedback
        assert found[2] == stopped, "task b reached no verdict at all"
        assert found[3] == Failure("it raised")
