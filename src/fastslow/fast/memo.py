"""One rollout per (problem, context) pair of a fast phase, and so the count of its metric calls."""

from __future__ import annotations

from collections.abc import Sequence

from fastslow.fast.base import Evaluate
from fastslow.types import Pair, Rollout


class Memo:
    """An ``Evaluate`` that asks for each pair once; what it has already seen is free.

    Within a phase theta stands still, so a second rollout of a pair would teach little; and the
    slow phase can reuse each of them (paper, rollout reuse).

    Attributes:
        rollouts: every rollout so far, by (problem id, context digest).
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self.rollouts: dict[tuple[str, str], Rollout] = {}

    def __call__(self, pairs: Sequence[Pair]) -> list[Rollout]:
        keys = [(problem.id, context.digest) for problem, context in pairs]
        missing = {
            key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self.rollouts
        }
        if missing:
            fresh = self._evaluate(list(missing.values()))
            self.rollouts.update(zip(missing, fresh, strict=True))
        return [self.rollouts[key] for key in keys]

    @property
    def metric_calls(self) -> int:
        """How many rollouts were sampled."""
        return len(self.rollouts)
