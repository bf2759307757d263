"""Which contexts a cycle keeps: the top K of the per-instance Pareto frontier (paper, fast phase).

Pure functions over scores. A frontier of single problems, rather than of the mean alone, keeps
contexts that are good at different problems, which is what a population is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fastslow.types import Candidate, same_reward

Scores = Mapping[str, Mapping[str, float]]
"""Score by problem id, by context digest. Every context is scored on the same problems."""


def frontier(scores: Scores) -> frozenset[str]:
    """The digests that reach the best score on at least one problem that tells contexts apart.

    A problem on which all contexts tie says nothing about any of them and is left out. Where every
    problem is such a tie, no context is worse than another and all are on the frontier.
    """
    rows = list(scores.values())
    best = {problem: max(row[problem] for row in rows) for problem in rows[0]}
    telling = [p for p, top in best.items() if not all(same_reward(row[p], top) for row in rows)]
    if not telling:
        return frozenset(scores)
    return frozenset(
        d for d, row in scores.items() if any(same_reward(row[p], best[p]) for p in telling)
    )


def select(candidates: Sequence[Candidate], k: int) -> tuple[Candidate, ...]:
    """The population: at most ``k`` candidates, best mean first; of equals, the later one first.

    The best mean is kept whether or not it leads on any single problem; the frontier's best means
    follow. Contexts off the frontier never fill the places left: each is matched or beaten on
    every problem that tells contexts apart, and would cost its share of every group of rollouts.
    Where nothing scores yet, the slow phase goes on searching: it had better try what is new than
    the context that has failed for longest.

    Args:
        candidates: at least one, with different contexts, whose scores on the same problems count.
        k: the size of the population, at most.
    """
    on_frontier = frontier({c.context.digest: c.counted for c in candidates})
    # fsum: a mean must not depend on the order in which its problems were scored.
    latest_first = list(candidates)[::-1]
    best, *rest = sorted(latest_first, key=lambda c: -math.fsum(c.counted.values()))
    return (best, *(c for c in rest if c.context.digest in on_frontier))[:k]
