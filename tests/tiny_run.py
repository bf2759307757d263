"""A whole run in a second: a task of one's own for the tiny model, and a configuration for it."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

LETTERS = '''
import os
import signal

from fastslow.tasks import Problem, Task, Verdict


class Letters(Task):
    """The share of a completion that is ASCII: even an untrained model scores now and then.

    With DISTURB="n SIGINT" in the environment, the n-th completion graded from then on sends the
    run's process that signal; with "n crash", that process breaks off.
    """

    def __getstate__(self):
        if "DISTURB" in os.environ:
            raise TypeError("what is to disturb the run stays in its process")
        return super().__getstate__()

    def problems(self, split):
        first, count = {"train": (0, 12), "validation": (12, 4), "test": (16, 4)}[split]
        return [Problem(f"p{n}", f"Write {n}.", str(n)) for n in range(first, first + count)]

    def grade(self, problem, completion):
        if "DISTURB" in os.environ:
            left, _, name = os.environ.pop("DISTURB").partition(" ")
            if left != "1":
                os.environ["DISTURB"] = f"{int(left) - 1} {name}"
            elif name == "crash":
                raise KeyboardInterrupt("broken off")
            else:
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


def tiny_config(model: Path, task: str, folder: Path, /, **changes: Any) -> dict[str, Any]:
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


_OF_THE_PLACE = {"state.json", "config.toml", "inputs.json", "checksums.sha256"}
"""Files of a checkpoint that hold the folder's name or the lengths of files with times in them."""


def processes() -> ForkServerContext:
    """Processes that start with torch and transformers imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["fastslow.training", "fastslow.policy.local", "transformers.models.llama.modeling_llama"]
    )
    return context


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run came to, bit for bit, but for the times: of its checkpoints the last."""
    from fastslow.run.jsonl import read_lines
    from fastslow.run.rollouts import read_rollouts

    def timeless(name: str) -> list[dict[str, Any]]:
        return [
            {k: v for k, v in row.items() if k != "time" and not k.startswith("seconds/")}
            for row in read_lines(folder / name)
        ]

    last = max((folder / "checkpoints").iterdir())
    return {
        "metrics": timeless("metrics.jsonl"),
        "contexts": timeless("contexts.jsonl"),
        "rollouts": read_rollouts(folder).to_pylist(),
        "rollout files": sorted(path.name for path in (folder / "rollouts").iterdir()),
        "state": json.loads((last / "state.json").read_text())["state"],
        "checkpoint": {
            str(file.relative_to(folder)): file.read_bytes()
            for file in last.rglob("*")
            if file.is_file() and file.name not in _OF_THE_PLACE
        },
    }


def command(arguments: list[str], disturb: str | None = None) -> None:
    """The command ``fastslow`` in this process, which a test has made for it."""
    from fastslow import cli

    if disturb is not None:
        os.environ["DISTURB"] = disturb
    sys.argv = ["fastslow", *arguments]
    cli.main()
