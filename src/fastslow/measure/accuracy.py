"""How often a policy is right: mean@k, pass@k and the running maximum."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import accumulate

from fastslow.measure.intervals import Estimate, bootstrap


def is_correct(score: float) -> bool:
    """Whether a graded completion counts as correct: full marks, and nothing less."""
    return score >= 1.0


def mean_at_k(scores: Sequence[Sequence[float]]) -> Estimate:
    """mean@k: the mean over problems of the mean score of their k completions.

    Every problem weighs the same, and the interval is over problems (see ``bootstrap``): it says
    what other problems of the same kind would give, not what other completions of these would.

    Args:
        scores: [problems][k] in [0, 1].

    Raises:
        ValueError: there are no problems, or one has no scores.
    """
    return bootstrap([statistics.fmean(some) for some in scores])


def pass_at_k(scores: Sequence[Sequence[float]], k: int) -> Estimate:
    """pass@k: the probability that at least one of k completions of a problem is correct.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) from n completions of which c are correct
    (arXiv 2107.03374, Eq. 1), averaged over problems; see ``is_correct`` and ``bootstrap``.

    Args:
        scores: [problems][n] in [0, 1], n >= k.

    Raises:
        ValueError: there are no problems, or one has fewer than k scores.
    """
    fewest = min(map(len, scores), default=k)
    if not 1 <= k <= fewest:
        raise ValueError(
            f"pass@{k} cannot be told: k runs from 1 to the completions of every problem, "
            f"of which the least sampled has {fewest}"
        )
    return bootstrap([_pass_at_k(len(some), sum(map(is_correct, some)), k) for some in scores])


def _pass_at_k(n: int, c: int, k: int) -> float:
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def running_max(values: Iterable[float]) -> list[float]:
    """The best value so far, at each place."""
    return list(accumulate(values, max))
