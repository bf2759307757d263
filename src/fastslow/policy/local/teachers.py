"""What data are held against that name teachers."""

from __future__ import annotations

from collections.abc import Sequence

from fastslow.engine.base import Against, Engine
from fastslow.types import Datum, TokenSequence


def teachers(engine: Engine, data: Sequence[Datum], top: int | None) -> Against | None:
    """What the present weights say behind the teachers' prompts; None without teachers.

    Args:
        engine: runs the weights.
        data: all of them name a teacher, or none does.
        top: number of likeliest tokens that the divergences tell apart; None: all.
    """
    taught = []
    for datum in data:
        if datum.teacher_prompt is None:
            continue
        scored = datum.sequence.scored
        shift = len(datum.teacher_prompt) - scored[0]
        tokens = [*datum.teacher_prompt, *datum.tokens[scored[0] :]]
        taught.append(TokenSequence(tokens, [position + shift for position in scored]))
    if not taught:
        return None
    if len(taught) < len(data):
        raise ValueError("some data of a step name a teacher and others do not")
    return Against(engine.distributions(taught), top)
