"""Tasks: where problems come from and how completions of them are graded."""

from fastslow.tasks.protocol import Task
from fastslow.tasks.registry import available, create, register
from fastslow.types import Problem, Verdict

__all__ = ["Problem", "Task", "Verdict", "available", "create", "register"]
