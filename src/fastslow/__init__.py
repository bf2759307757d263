"""Fast-Slow Training of language models: weights and context learn in one interleaved loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.lazy import lazy_names

if TYPE_CHECKING:
    from fastslow.errors import FastslowError, InputError, RunError
    from fastslow.tasks.names import register
    from fastslow.tasks.protocol import Task
    from fastslow.training import RunResult, resume, train
    from fastslow.types import Context, Demonstration, Problem, Rollout, Verdict
    from fastslow.version import __version__
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "fastslow.errors": ["FastslowError", "InputError", "RunError"],
            "fastslow.tasks.names": ["register"],
            "fastslow.tasks.protocol": ["Task"],
            "fastslow.training": ["RunResult", "resume", "train"],
            "fastslow.types": ["Context", "Demonstration", "Problem", "Rollout", "Verdict"],
            "fastslow.version": ["__version__"],
        },
    )

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
    "__version__",
    "register",
    "resume",
    "train",
]
