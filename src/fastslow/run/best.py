"""Which checkpoint did best, by the evaluations of its run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any


def best_step(
    rows: Iterable[Mapping[str, Any]], context: str, steps: Collection[int]
) -> int | None:
    """Of ``steps`` the one whose policy was most accurate, or None where none was evaluated.

    Accuracy is the mean over the tasks that were evaluated at a step. A run evaluates every task
    that it has met: a step at which it had met more of them counts as better, for the accuracies
    are of different things. Of equals the first is the best.

    Args:
        rows: of metrics.jsonl, in order.
        context: the one that the policy is meant to be used with (``RunRecord.trained_context``).
        steps: to choose from.
    """
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["phase"] == "eval" and row["context"] == context and row["step"] in steps:
            found.setdefault(row["step"], {})[row["task"]] = row["accuracy"]
    return max(
        sorted(found),
        key=lambda step: (len(found[step]), sum(found[step].values()) / len(found[step])),
        default=None,
    )
