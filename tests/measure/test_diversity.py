from __future__ import annotations

import pytest

from fastslow.measure.diversity import distinct, distinct_correct

TEXTS = [["a b", "a  b\n", "A b", "c"], ["x", "x", "x", "x"]]


def test_distinct_completions() -> None:
    assert distinct(TEXTS) == 2.0  # 3 and 1


def test_distinct_correct_completions() -> None:
    scores = [[1.0, 1.0, 0.9, 1.0], [0.0] * 4]
    assert distinct_correct(TEXTS, scores) == 1.0  # 2 and 0
    assert distinct_correct(TEXTS, [[1.0] * 4] * 2) == distinct(TEXTS)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        distinct([])
    with pytest.raises(ValueError, match="shorter"):
        distinct_correct([["a", "b"]], [[1.0]])
    with pytest.raises(ValueError, match="shorter"):
        distinct_correct([["a"], ["b"]], [[1.0]])
