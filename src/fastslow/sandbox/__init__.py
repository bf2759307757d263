"""Runs Python code that a model, or a data set, wrote, in a process that can do no harm.

``docs/sandbox.md`` says what it protects against, and against what it does not.
"""

from fastslow.sandbox.base import Limits, Outcome, Program, Sandbox
from fastslow.sandbox.jail import Jail, run_python

__all__ = ["Jail", "Limits", "Outcome", "Program", "Sandbox", "run_python"]
