"""What a fast phase comes to, whatever learner searched in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fastslow.fast.base import Evolution
from fastslow.fast.memo import Memo
from fastslow.fast.selection import select
from fastslow.types import Candidate, Population, Problem

COVERAGE = 0.5
"""Share of the anchors that a context needs a score on to be kept. Where the verifier fails, there
is none; too few of them say little of a context, and leave little to compare the others by."""


def conclude(
    candidates: Iterable[Candidate],
    memo: Memo,
    *,
    previous: int,
    population: int,
    anchors: Sequence[Problem],
    scored: Sequence[Problem],
    shown: frozenset[str] = frozenset(),
    failed: int = 0,
) -> Evolution:
    """Give the candidates their scores, and keep the best that were tried on every anchor.

    Args:
        candidates: all that were tried; those of the previous population first.
        memo: holds their rollouts.
        previous: size of the previous population.
        population: number of contexts to keep, at most.
        anchors: problems of the phase.
        scored: the anchors whose scores decide.
        shown: ids of anchors that proposers were shown; their scores do not count.
        failed: number of proposals that could not be had.
    """
    tried = tuple(
        replace(candidate, scores=_scores(candidate, anchors, memo), shown=shown)
        for candidate in candidates
    )
    complete = [c for c in tried if all((p.id, c.context.digest) in memo.rollouts for p in scored)]
    kept = _kept(complete, len(scored), population) or tried[:previous]
    return Evolution(
        population=Population(kept),
        candidates=tried,
        rollouts=memo.rollouts,
        metric_calls=memo.metric_calls,
        proposals=len(tried) - previous,
        failed_proposals=failed,
    )


def _scores(candidate: Candidate, anchors: Sequence[Problem], memo: Memo) -> dict[str, float]:
    """The scores that it got in this phase, in the order of the anchors."""
    digest = candidate.context.digest
    tried = (memo.rollouts.get((problem.id, digest)) for problem in anchors)
    return {r.problem.id: r.reward for r in tried if r and r.is_graded}


def _kept(complete: Sequence[Candidate], anchors: int, population: int) -> tuple[Candidate, ...]:
    """The candidates to keep, compared on the anchors on which all have a score that counts; none
    if there is no such anchor."""
    able = [c for c in complete if len(c.counted) >= COVERAGE * anchors]
    common = set.intersection(*(set(c.counted) for c in able)) if able else set()
    if not common:
        return ()
    compared = [
        replace(c, scores={p: score for p, score in c.counted.items() if p in common}) for c in able
    ]
    by_digest = {c.context.digest: c for c in able}
    return tuple(by_digest[c.context.digest] for c in select(compared, population))
