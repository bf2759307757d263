"""A whole run in a second: a task of one's own for the tiny model, and a configuration for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LETTERS = '''
import os
import signal

from fastslow.tasks import Problem, Task, Verdict

graded = 0


class Letters(Task):
    """The share of a completion that is ASCII: even an untrained model scores now and then.

    The n-th completion graded sends this process a signal if FASTSLOW_TEST_SIGNAL is "n name".
    """

    def problems(self, split):
        first, count = {"train": (0, 12), "validation": (12, 4), "test": (16, 4)}[split]
        return [Problem(f"p{n}", f"Write {n}.", str(n)) for n in range(first, first + count)]

    def grade(self, problem, completion):
        global graded
        graded += 1
        number, _, name = os.environ.get("FASTSLOW_TEST_SIGNAL", "").partition(" ")
        if number == str(graded):
            os.kill(os.getpid(), getattr(signal, name))
        share = sum(map(str.isascii, completion)) / max(len(completion), 1)
        return Verdict(round(share, 2), f"Expected {problem.reference}.")

    def demonstrate(self, problem):
        return problem.reference
'''


def write_task(folder: Path) -> str:
    """Write the task to ``folder``; returns its name for ``[task]``."""
    path = folder / "letters.py"
    path.write_text(LETTERS, encoding="utf-8")
    return f"{path}:Letters"


def tiny_config(model: Path, task: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Two cycles of two steps; ``changes`` replace or extend its tables."""
    config: dict[str, Any] = {
        "model": str(model),
        "steps": 4,
        "name": "run",
        "context": {"instructions": "Write."},
        "task": {"name": task},
        "fast": {"population": 2, "every": 2, "pool": 3, "proposals": 3, "minibatch": 2},
        "slow": {"problems": 2, "group": 4, "lr": 1e-3, "warmup": 2},
        "policy": {"device": "cpu", "max_tokens": 6},
        "eval": {"problems": 2, "contexts": ["seed", "best", "population"]},
        "log": {"folder": str(folder)},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return config
