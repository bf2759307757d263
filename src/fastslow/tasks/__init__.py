"""Tasks: where problems come from and how completions of them are graded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.lazy import lazy_names

if TYPE_CHECKING:
    from fastslow.tasks.names import register
    from fastslow.tasks.protocol import Task
    from fastslow.tasks.registry import available, create
    from fastslow.types import Problem, Verdict
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "fastslow.tasks.names": ["register"],
            "fastslow.tasks.protocol": ["Task"],
            "fastslow.tasks.registry": ["available", "create"],
            "fastslow.types": ["Problem", "Verdict"],
        },
    )

__all__ = ["Problem", "Task", "Verdict", "available", "create", "register"]
