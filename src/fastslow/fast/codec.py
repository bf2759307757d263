"""A context as GEPA holds it: the text of each component by name."""

from __future__ import annotations

import json

from fastslow.types import Context, Demonstration

Texts = dict[str, str]
"""Component name to text: the instructions as they are, the demonstrations as canonical JSON."""


def encode(context: Context) -> Texts:
    """The components of a context. ``decode`` gives the context back, problem ids included."""
    turns = [[d.question, d.answer, d.problem_id] for d in context.demonstrations]
    return {
        "instructions": context.instructions,
        "demonstrations": json.dumps(turns, separators=(",", ":")),
    }


def decode(texts: Texts) -> Context:
    """The context of ``texts``, the inverse of ``encode``."""
    turns = json.loads(texts["demonstrations"])
    return Context(texts["instructions"], tuple(Demonstration(*turn) for turn in turns))
