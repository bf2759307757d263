from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.errors import InputError
from fastslow.tasks.splits import Splits
from fastslow.types import SPLITS, Problem, Split, normalise_question


def one_source(problems: list[Problem], **sizes: int | None) -> Splits:
    stream = iter(problems)
    return Splits(dict.fromkeys(SPLITS, stream), sizes, "sums")


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["a", "A ", "b", " b", "c", "d"]))))
def test_splits_share_neither_id_nor_question(pairs: list[tuple[int, str]]) -> None:
    texts: dict[int, str] = {}
    problems = [
        Problem(str(number), f"{texts.setdefault(number, text)} {number % 3}")
        for number, text in pairs
    ]
    splits = one_source(problems, train=None, validation=3, test=2)
    dealt = []
    for split in SPLITS:
        try:
            dealt += splits[split]
        except InputError:
            continue
    assert len({p.id for p in dealt}) == len(dealt)
    assert len({normalise_question(p.question) for p in dealt}) == len(dealt)


@pytest.mark.parametrize("asked", ["validation", "test", "train"])
def test_one_id_of_two_questions_is_refused_in_every_split_that_is_dealt(asked: Split) -> None:
    problems = [Problem("a", "one"), Problem("b", "two"), Problem("a", "three"), Problem("c", "-")]
    splits = one_source(problems, train=None, validation=1, test=2)
    if asked == "validation":
        assert [p.id for p in splits[asked]] == ["a"]
        return
    message = "task sums: two problems have the id 'a': validation, problem 1, .*; and test, probl"
    with pytest.raises(InputError, match=message):
        splits[asked]


def test_a_problem_that_comes_again_is_left_out() -> None:
    problems = [Problem("a", "one"), Problem("a", "ONE "), Problem("b", "one"), Problem("c", "-")]
    splits = one_source(problems, train=None, validation=1, test=0)
    assert [p.id for p in splits["train"]] == ["c"]


def test_validation_and_test_come_first_whatever_is_asked_first() -> None:
    problems = [Problem(str(number), str(number)) for number in range(10)]
    splits = one_source(problems, train=100, validation=3, test=2)
    assert [p.id for p in splits["train"]] == list("56789")
    assert [p.id for p in splits["validation"]] == list("012")
    assert [p.id for p in splits["test"]] == list("34")


def test_a_short_training_set_is_told(caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem(str(number), str(number)) for number in range(4)]
    with caplog.at_level(logging.WARNING, "fastslow.tasks"):
        assert len(one_source(problems, train=5, validation=1, test=0)["train"]) == 3
    assert "3 distinct problems for train, fewer than the 5 asked for" in caplog.text


def test_an_empty_split_says_how_many_were_found_and_asked_for() -> None:
    problems = [Problem(str(number), "same") for number in range(9)]
    with pytest.raises(InputError, match=r"train: 1 distinct problems.*1 for validation.*7 for tr"):
        one_source(problems, train=7, validation=1, test=0)["train"]
    assert one_source(problems, train=7, validation=1, test=1)["test"] == ()


def test_a_stream_is_read_no_further_than_asked_for() -> None:
    endless = (Problem(str(number), str(number)) for number in itertools.count())
    splits = Splits(
        dict.fromkeys(SPLITS, endless), {"train": 9, "validation": 2, "test": 1}, "endless"
    )
    assert len(splits["validation"]) == 2
    assert next(endless).id == "2"
