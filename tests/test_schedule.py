"""The schedule against a plain count of steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastslow.data import BatchOrder, ProblemOrder
from fastslow.schedule import Schedule, Stage
from fastslow.types import Context, Problem


def order(name: str) -> BatchOrder:
    problems = [Problem(f"{name}{n}", f"{name}{n}?") for n in range(7)]
    return BatchOrder([ProblemOrder(problems, lambda _: 2, 2, 0, Context(), 0, name)])


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=3)
intervals = st.integers(1, 5)


def schedule(steps: list[int], every: int, evaluate: int, save: int | None) -> Schedule:
    starts = [sum(steps[:number]) for number in range(len(steps))]
    stages = [
        Stage((f"t{n}",), order(f"t{n}"), start, start + length)
        for n, (start, length) in enumerate(zip(starts, steps, strict=True))
    ]
    return Schedule(stages, every, evaluate, save)


@given(lengths, intervals, intervals, st.none() | intervals)
def test_what_is_due(steps: list[int], every: int, evaluate: int, save: int | None) -> None:
    made = schedule(steps, every, evaluate, save)
    found = list(made.steps(0))
    assert [step.number for step in found] == list(range(sum(steps)))
    number = 0
    for stage, length in enumerate(steps):
        for done in range(length):
            step = found[number]
            number += 1
            assert step.stage is made.stages[stage]
            assert step.seen == tuple(f"t{n}" for n in range(stage + 1))
            assert step.batch == step.stage.order.batch(done)
            begins, ends = done % every == 0, (done + 1) % every == 0 or done + 1 == length
            count = min(every, length - done) if begins else 0
            assert list(step.cycle) == [step.stage.order.batch(done + n) for n in range(count)]
            assert step.ends_cycle == ends
            assert step.evaluation_due == (done % evaluate == 0)
            is_last = number == sum(steps)
            assert step.checkpoint_due == (is_last or (number % save == 0 if save else ends))


@given(lengths, intervals, intervals, st.data())
def test_a_resumed_run_follows_the_same_schedule(
    steps: list[int], every: int, evaluate: int, data: st.DataObject
) -> None:
    made = schedule(steps, every, evaluate, None)
    start = data.draw(st.integers(0, sum(steps)))
    assert list(made.steps(start)) == list(made.steps(0))[start:]
