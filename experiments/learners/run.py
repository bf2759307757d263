"""Every slow learner on the demo's task: same problems, contexts' budget, steps and learning rate.

    python experiments/learners/run.py --folder FOLDER   # trains what is missing, writes RESULTS.md

Runs are resumed where they broke off. The teacher of ``opd`` is the finished run of ``cispo``.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

import fastslow
from fastslow.run.record import RunRecord, read_run

LEARNERS = (*("cispo", "grpo", "dapo", "dr_grpo", "gspo", "reinforce", "sft", "distill", "opd"),)
HERE = Path(__file__).parent


def overrides(learner: str, folder: Path, seed: int) -> list[str]:
    """What a run changes of the demo's configuration."""
    changes = [f"log.folder={folder}", f"name={learner}-seed{seed}", f"seed={seed}"]
    changes.append(f"slow.algorithm={learner}")
    if learner == "opd":
        changes.append(f'slow.opd.teacher="{folder / f"cispo-seed{seed}"}"')
    return changes


def train(learner: str, folder: Path, seed: int) -> RunRecord:
    """The finished run of a learner."""
    path = folder / f"{learner}-seed{seed}"
    config = Path(str(files("fastslow") / "demo.toml"))
    if not (path / "checkpoints" / "step_000015").is_dir():
        if (path / "config.toml").is_file():
            fastslow.resume(path)
        else:
            fastslow.train(config, overrides(learner, folder, seed))
    return read_run(path)


def row(learner: str, run: RunRecord) -> str:
    """A line of the table: accuracies at the end, kept groups, seconds of slow steps."""
    slow = [r for r in run.metrics if r["phase"] == "slow"]
    last = {r["context"]: r["accuracy"] for r in run.metrics if r["phase"] == "eval"}
    reward = sum(r["reward/mean"] for r in slow[-3:]) / 3
    kl = [r["kl/base"] for r in slow if "kl/base" in r]
    seconds = sum(r["seconds/rollout"] + r["seconds/update"] for r in slow) / len(slow)
    updates = sum("loss" in r for r in slow)
    return (
        f"| {learner} | {last['best']:.2f} | {last['seed']:.2f} | {reward:.2f} | "
        f"{kl[-1] if kl else 0:.4f} | {updates} of {len(slow)} | {seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    lines = [
        "| learner | accuracy, best context | accuracy, seed context | reward, last 3 steps | "
        "kl/base at the end | updates | seconds a slow step |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for learner in LEARNERS:
        lines.append(row(learner, train(learner, given.folder, given.seed)))
        text = "\n".join([*lines, "", f"Seed {given.seed}.", ""])
        (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
