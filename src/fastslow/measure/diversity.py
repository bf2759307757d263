"""How much the completions of one problem differ: whether a policy still explores."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from fastslow.measure.accuracy import is_correct


def distinct(texts: Sequence[Sequence[str]]) -> float:
    """Distinct completions of a problem, on average: from 1 to the number sampled of each.

    Two completions that differ in white space only are the same one.

    Args:
        texts: [problems][k], the completions of each problem.

    Raises:
        ValueError: there are no problems.
    """
    return statistics.fmean(map(_count, texts))


def distinct_correct(texts: Sequence[Sequence[str]], scores: Sequence[Sequence[float]]) -> float:
    """Distinct correct completions of a problem, on average; a problem that none solves counts 0.

    Args:
        texts: [problems][k], as ``distinct`` takes them.
        scores: [problems][k]; see ``is_correct``.

    Raises:
        ValueError: there are no problems, or not one score a completion.
    """
    return statistics.fmean(
        _count(text for text, score in zip(*pair, strict=True) if is_correct(score))
        for pair in zip(texts, scores, strict=True)
    )


def _count(texts: Iterable[str]) -> int:
    return len({" ".join(text.split()) for text in texts})
