"""Spreading the rollouts of a problem over the contexts of a population."""

from __future__ import annotations

from collections.abc import Sequence

from fastslow.types import Context, Problem


def spread(problem: Problem, contexts: Sequence[Context], count: int, turn: int) -> list[Context]:
    """The contexts under which ``count`` rollouts of a problem are sampled, as evenly as possible.

    G/K each if K divides G (paper, slow phase). What does not divide goes to different contexts on
    different turns. A context that shows the problem is passed over; the result is empty if all do.
    """
    fair = [context for context in contexts if not context.shows(problem)]
    return [fair[(turn + index) % len(fair)] for index in range(count)] if fair else []
