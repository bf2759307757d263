"""What data are held against that name teachers."""

from __future__ import annotations

from collections.abc import Sequence

from fastslow.engine.base import Against, Engine
from fastslow.types import Datum


def teachers(engine: Engine, data: Sequence[Datum], top: int | None) -> Against | None:
    """What the present weights say behind the teachers' prompts; None without teachers.

    Args:
        engine: runs the weights.
        data: all of them name a teacher, or none does.
        top: number of likeliest tokens that the divergences tell apart; None: all.
    """
    taught = [datum.teacher_sequence for datum in data if datum.teacher_prompt is not None]
    if not taught:
        return None
    if len(taught) < len(data):
        raise ValueError("some data of a step name a teacher and others do not")
    return Against(engine.distributions(taught), top)
