"""The order of a stage's problems: whole epochs, a pool apart, to every task its share."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.data import BatchOrder, ProblemOrder, Shares
from fastslow.errors import InputError
from fastslow.types import Context, Demonstration, Problem

WEIGHTS = st.lists(st.sampled_from([0.01, 0.1, 0.3, 0.5, 1.0, 2.0, 7.0]), min_size=1, max_size=6)


def problems(count: int, name: str = "p") -> list[Problem]:
    return [Problem(f"{name}{number}", f"{name}{number}?") for number in range(count)]


def order(
    count: int = 40, batch: int = 5, pool: int = 8, seed: int = 0, context: Context | None = None
) -> BatchOrder:
    """The order of a stage on one task."""
    return BatchOrder([part(problems(count), lambda _: batch, batch, pool, seed, context)])


def part(
    problems: list[Problem],
    size: Callable[[int], int],
    most: int,
    pool: int = 0,
    seed: int = 0,
    context: Context | None = None,
) -> ProblemOrder:
    return ProblemOrder(problems, size, most, pool, context or Context(), seed, "sums")


def mixed(weights: list[float], batch: int, counts: list[int], seed: int = 0) -> BatchOrder:
    """The order of a stage on several tasks, named a, b, ..."""
    shares = Shares(weights, batch)
    return BatchOrder(
        [
            part(
                problems(counts[task], "abcdef"[task]),
                lambda index, task=task: shares.size(task, index),  # type: ignore[misc]
                shares.most(task),
                seed=seed + task,
            )
            for task in range(len(weights))
        ]
    )


def ids(batch: list[Problem]) -> list[str]:
    return [problem.id for problem in batch]


# Shares.


@given(WEIGHTS, st.integers(1, 33))
def test_every_task_has_its_share_to_within_one_problem(weights: list[float], batch: int) -> None:
    shares, totals = Shares(weights, batch), [0] * len(weights)
    for index in range(40):
        sizes = [shares.size(task, index) for task in range(len(weights))]
        assert sum(sizes) == batch
        for task, (size, share) in enumerate(zip(sizes, shares.fractions, strict=True)):
            assert 0 <= size <= shares.most(task)
            totals[task] += size
            assert abs(totals[task] - share * batch * (index + 1)) < 1


def test_shares_come_out_even_over_a_round_of_batches() -> None:
    shares = Shares([2.0, 1.0], 8)
    totals = [sum(shares.size(task, index) for index in range(3)) for task in (0, 1)]
    assert totals == [16, 8]
    tenths = Shares([0.1, 0.2, 0.7], 10)  # which no binary fraction says exactly
    assert {tuple(tenths.size(t, i) for t in range(3)) for i in range(50)} == {(1, 2, 7)}


def test_sizes_depend_on_the_batch_alone() -> None:
    ahead, shares = Shares([3.0, 1.0, 1.0], 4), Shares([3.0, 1.0, 1.0], 4)
    later = ahead.size(1, 17)
    assert [shares.size(1, index) for index in range(18)][-1] == later
    assert [ahead.size(1, index) for index in range(18)][-1] == later


# One task.


@given(st.integers(8, 60), st.integers(1, 6), st.integers(0, 20), st.integers(0, 99))
def test_an_epoch_asks_no_problem_twice_and_never_the_pool(
    count: int, batch: int, pool: int, seed: int
) -> None:
    it = order(count, batch, pool, seed)
    assert len(it.pool) == min(pool, count // 4)
    per_epoch = (count - len(it.pool)) // batch
    set_aside = {problem.id for problem in it.pool}
    for epoch in range(2):
        batches = it.lookahead(epoch * per_epoch, per_epoch)
        asked = [name for each in batches for name in ids(each)]
        assert {len(each) for each in batches} == {batch}
        assert len(set(asked)) == len(asked) == per_epoch * batch
        assert not set_aside & set(asked)


def test_what_an_epoch_leaves_over_is_asked_later() -> None:
    it = order(count=11, batch=4, pool=0)
    asked = {name for batch in it.lookahead(0, 40) for name in ids(batch)}
    assert asked == {f"p{number}" for number in range(11)}


def test_epochs_are_shuffled_differently_and_unlike_the_data() -> None:
    it = order(count=20, batch=20, pool=0)
    first, second = ids(it.batch(0)), ids(it.batch(1))
    assert first != second
    assert sorted(first) == sorted(second)
    assert first != ids(problems(20))


def test_the_order_is_that_of_the_seed() -> None:
    assert order(seed=3).lookahead(0, 12) == order(seed=3).lookahead(0, 12)
    assert order(seed=3).pool == order(seed=3).pool
    assert order(seed=3).batch(0) != order(seed=4).batch(0)
    assert order(seed=3).pool != order(seed=4).pool


def test_a_batch_depends_on_its_number_alone() -> None:
    it = order()
    ahead = it.lookahead(2, 9)
    assert ahead == [it.batch(index) for index in range(2, 11)]
    assert order().batch(7) == ahead[5]


def test_what_the_seed_context_shows_is_neither_asked_nor_set_aside() -> None:
    context = Context("", (Demonstration("x", "y", problem_id="p3"), Demonstration(" P5? ", "y")))
    it = order(count=12, batch=4, pool=3, context=context)
    met = set(ids(list(it.pool))) | {n for batch in it.lookahead(0, 20) for n in ids(batch)}
    assert met == {f"p{number}" for number in range(12)} - {"p3", "p5"}


def test_too_few_problems_are_refused() -> None:
    assert len(order(count=8, batch=6, pool=2).batch(0)) == 6
    with pytest.raises(InputError) as refused:
        order(count=8, batch=7, pool=2)
    message = str(refused.value)
    assert message.startswith("slow.problems: a batch takes 7 problems, but the train split of")
    for told in ("task sums has 6 to ask", "8 in all", "2 set aside", "lower slow.problems"):
        assert told in message
    with pytest.raises(InputError, match="has 0 to ask"):
        order(count=0, batch=1)


# Several tasks.


@given(WEIGHTS, st.integers(1, 12), st.integers(0, 9), st.data())
def test_a_mixed_batch_holds_p_different_problems_and_epochs_repeat_none(
    weights: list[float], batch: int, seed: int, data: st.DataObject
) -> None:
    shares = Shares(weights, batch)
    counts = [
        data.draw(st.integers(shares.most(task), shares.most(task) + 9))
        for task in range(len(weights))
    ]
    it = mixed(weights, batch, counts, seed)
    batches = it.lookahead(0, 30)
    for each in batches:
        assert len(each) == len(set(ids(each))) == batch
    for task, count in enumerate(counts):
        own = [[n for n in ids(each) if n[0] == "abcdef"[task]] for each in batches]
        assert list(map(len, own)) == [shares.size(task, index) for index in range(30)]
        epoch: set[str] = set()  # a new one begins only where a batch does not fit any more
        for some in own:
            if epoch & set(some):
                assert len(epoch) + len(some) > count
                epoch = set()
            epoch |= set(some)
    assert mixed(weights, batch, counts, seed).batch(29) == batches[29]


def test_the_order_of_a_task_does_not_depend_on_what_it_is_mixed_with() -> None:
    alone = mixed([1.0, 1.0], 8, [30, 30]).lookahead(0, 9)
    other = mixed([1.0, 0.5, 0.5], 8, [30, 30, 30]).lookahead(0, 9)
    assert [b[:4] for b in alone] == [b[:4] for b in other]
