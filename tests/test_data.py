"""The order of a stage's problems: whole epochs, a pool apart, the same every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.data import ProblemOrder
from fastslow.errors import InputError
from fastslow.types import Context, Demonstration, Problem


def problems(count: int) -> list[Problem]:
    return [Problem(f"p{number}", f"{number}?") for number in range(count)]


def order(
    count: int = 40, batch: int = 5, pool: int = 8, seed: int = 0, context: Context | None = None
) -> ProblemOrder:
    return ProblemOrder(problems(count), batch, pool, context or Context(), seed, "sums")


def ids(batch: list[Problem]) -> list[str]:
    return [problem.id for problem in batch]


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
    context = Context("", (Demonstration("x", "y", problem_id="p3"), Demonstration(" 5? ", "y")))
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
