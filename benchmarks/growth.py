"""Seconds and memory of a step as contexts and groups grow: `python benchmarks/growth.py`.

Everything else stands still: 4 problems, one context, at most 16 new tokens; 8 rollouts of each
problem while the context grows, a context of 160 tokens while the group grows. TRL's trainer takes
the same steps until one of them exceeds `--patience` seconds; every point is a process of its own,
so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import against_trl
from common import (
    MODEL,
    SLOW,
    Row,
    Shape,
    Step,
    build_backend,
    median,
    peak_memory,
    publish,
    reset_peak_memory,
    versions,
    write,
)
from fastslow.policy.trainer import GradientTrainer

BASE = Shape("", 1, 4, 4, 8, 16)
DEMONSTRATIONS = {0: 0, 128: 3, 512: 16, 1024: 33, 2048: 67}
"""Demonstrations that make a context of about so many tokens."""
GROUPS = (4, 8, 16, 32, 64)


def points() -> list[tuple[str, Shape]]:
    """The shapes, by what varies."""
    by_context = [
        (f"context of {tokens} tokens, G = 8", replace(BASE, demonstrations=count))
        for tokens, count in DEMONSTRATIONS.items()
    ]
    by_group = [(f"context of 160 tokens, G = {g}", replace(BASE, group=g)) for g in GROUPS]
    return [(name, replace(shape, name=name)) for name, shape in (*by_context, *by_group)]


def measure_ours(shape: Shape, steps: int) -> dict[str, Any]:
    step = Step(GradientTrainer(build_backend(shape), SLOW), shape)
    step()
    reset_peak_memory()
    taken = [step() for _ in range(steps)]
    return {"steps": taken, "memory": peak_memory(), "prompt_tokens": step.prompt_tokens}


def measure_theirs(shape: Shape, steps: int) -> dict[str, Any]:
    taken: list[dict[str, float]] = []

    def on_end(trainer: Any, seconds: float) -> None:
        if not taken:
            reset_peak_memory()
        taken.append({"seconds": seconds})

    micro_batch = max(m for m in (1, 2, 4, 8) if shape.group % m == 0)
    against_trl.train_by_trl(shape, steps + 1, micro_batch, on_end)
    return {"steps": taken[1:], "memory": peak_memory(), "micro_batch": micro_batch}


def in_a_process(side: str, name: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--point", name, "--side", side, "--steps", str(steps)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(f"{name}: {side} {result}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3, help="measured steps of ours; of TRL one")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds of TRL's step")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        shape = dict(points())[arguments.point]
        run = measure_ours if arguments.side == "ours" else measure_theirs
        print(json.dumps(run(shape, arguments.steps)))
        return
    rows: list[Row] = []
    too_long = {"context": False, "group": False}
    for number, (name, _) in enumerate(points()):
        varied = "context" if number < len(DEMONSTRATIONS) else "group"
        ours = in_a_process("ours", name, arguments.steps)
        settings = {"model": MODEL, "ours": ours, "versions": versions()}
        seconds = median([step["seconds"] for step in ours["steps"]])
        theirs: dict[str, Any] | None = None
        their_seconds, their_memory = None, None
        if too_long[varied]:
            settings["theirs"] = f"not run: the step before took over {arguments.patience:g} s"
        else:
            theirs = settings["theirs"] = in_a_process("theirs", name, 1)
            their_memory = theirs["memory"]
            their_seconds = median([step["seconds"] for step in theirs["steps"]])
            too_long[varied] = their_seconds > arguments.patience
        rows += [
            _row(name, "seconds per step", seconds, their_seconds, settings),
            _row(name, "peak memory, GiB", ours["memory"], their_memory, {}),
        ]
        write("growth", rows)  # a point takes minutes: one that was measured is not lost
    publish("growth", "TRL", rows)


def _row(
    name: str, measure: str, ours: float, theirs: float | None, settings: dict[str, Any]
) -> Row:
    ratio = None if theirs is None else theirs / ours
    return Row(name, measure, ours, theirs, ratio, settings)


if __name__ == "__main__":
    main()
