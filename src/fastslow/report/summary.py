"""What runs came to, as JSON for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fastslow.report.names import distinctly_named
from fastslow.report.overview import latest_evaluation, rollouts_sampled
from fastslow.run.record import RunRecord
from fastslow.run.serial import dumps


def write_summary(runs: Sequence[RunRecord], path: Path) -> None:
    """Write what each run came to as a JSON list; what a run does not have is null."""
    rows = [
        {
            "run": run.name,
            "method": run.config.approach,
            "model": run.config.model,
            "tasks": list(run.config.tasks),
            "seed": run.config.seed,
            "base_accuracy": run.base_accuracy,
            "final_accuracy": run.final_accuracy,
            "final_accuracy_low": latest_evaluation(run).get("accuracy/low"),
            "final_accuracy_high": latest_evaluation(run).get("accuracy/high"),
            "final_reward": run.final_reward,
            "max_reward": max(run.curve("slow", "reward/mean")[1], default=None),
            "slow_steps": run.slow_steps,
            "rollouts_sampled": rollouts_sampled(run),
            "tokens_sampled": run.tokens_sampled,
            "seconds": round(run.seconds, 1),
        }
        for run in distinctly_named(runs)
    ]
    plain = json.loads(dumps(rows))  # what JSON cannot say is spelled out
    path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
