"""Fast-Slow Training of language models: weights and context learn in one interleaved loop."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from fastslow.errors import FastslowError, InputError, RunError
from fastslow.tasks.protocol import Task
from fastslow.tasks.registry import register
from fastslow.types import Context, Demonstration, Problem, Rollout, Verdict

if TYPE_CHECKING:
    from fastslow.training import RunResult, resume, train

__version__ = metadata.version("fastslow")

__all__ = [
    "Context",
    "Demonstration",
    "FastslowError",
    "InputError",
    "Problem",
    "Rollout",
    "RunError",
    "RunResult",
    "Task",
    "Verdict",
    "register",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """``train`` and ``resume`` bring torch along, so they are imported when first asked for."""
    if name in ("train", "resume", "RunResult"):
        from importlib import import_module

        return getattr(import_module("fastslow.training"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
