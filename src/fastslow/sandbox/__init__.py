"""Runs Python code that a model, or a data set, wrote, in a process that can do no harm.

``docs/sandbox.md`` says what it protects against, and against what it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.lazy import lazy_names

if TYPE_CHECKING:
    from fastslow.sandbox.base import Limits, Outcome, Program, Sandbox
    from fastslow.sandbox.jail import Jail, run_python
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "fastslow.sandbox.base": ["Limits", "Outcome", "Program", "Sandbox"],
            "fastslow.sandbox.jail": ["Jail", "run_python"],
        },
    )

__all__ = ["Jail", "Limits", "Outcome", "Program", "Sandbox", "run_python"]
