"""Bring finished studies here: `python experiments/evidence/collect.py RUNS`.

RUNS is the `log.folder` that `fastslow study` was given. Of every concluded study in it the numbers
and the figure are copied, and of every run its configuration and its metrics. All claims together
become `claims.json`; `TABLES.md` shows them, and every run's learning curve, to read.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import records  # noqa: E402 - a script beside the folders of experiments


def main(runs: Path) -> None:
    claims: list[dict[str, Any]] = []
    # What is no longer in RUNS is no longer evidence.
    shutil.rmtree(HERE / "studies", ignore_errors=True)
    for plan in sorted((runs / "studies").glob("*/plan.json")):
        study = plan.parent
        if not (study / "claims.json").exists():
            print(f"{study.name}: not concluded yet")
            continue
        name = _name(json.loads(plan.read_text()))
        found = json.loads((study / "claims.json").read_text())
        claims += [{"study": name, **claim} for claim in found]
        folder = HERE / "studies" / name
        folder.mkdir(parents=True)
        for name in ("plan.json", "results.json", "claims.json", "figure.png", "figure.svg"):
            shutil.copyfile(study / name, folder / name)
    folders = [config.parent for config in sorted(runs.glob("*/config.toml"))]
    records.write(HERE / records.NAME, {run.name: records.Record.of(run) for run in folders})
    (HERE / "claims.json").write_text(json.dumps(claims, indent=1) + "\n", encoding="utf-8")
    tables = ["# Tables", "Written by `collect.py`.", *_claims(claims), *_curves()]
    (HERE / "TABLES.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    print(f"{len(claims)} claims")


def _name(plan: dict[str, Any]) -> str:
    """What the folder of a study is called here: the protocol and its configuration's name."""
    study, config = plan["study"], Path(plan["config"]).stem
    return study if study == config else f"{study}-{config}"


def _claims(claims: list[dict[str, Any]]) -> list[str]:
    """The claims of each study in a table, and under it why a seed gave no reading."""
    tables = []
    for study in sorted({claim["study"] for claim in claims}):
        rows = ["| claim | by seed | estimate | 95 % interval | holds |", "| --- " * 5 + "|"]
        reasons: dict[str, None] = {}
        for claim in claims:
            if claim["study"] == study:
                readings = ", ".join(map(_reading, claim["readings"]))
                interval = " to ".join(f"{end:.3g}" for end in claim["interval"] or [])
                estimate = "" if claim["estimate"] is None else f"{claim['estimate']:.3g}"
                named = f"{claim['task']}: {claim['claim']} ({claim['rule']})"
                rows.append(
                    f"| {named} | {readings} | {estimate} | {interval} | {claim['holds']} |"
                )
                missing = (reading for reading in claim["readings"] if "missing" in reading)
                reasons |= {f"- seed {r['seed']}: {r['missing']}": None for r in missing}
        tables += [f"## {study}", "\n".join(rows)]
        if reasons:
            tables.append("No reading (-):")
            tables.append("\n".join(reasons))
    return tables


def _reading(reading: dict[str, Any]) -> str:
    if "missing" in reading:
        return "-"
    sign = {"exact": "", "at least": ">= ", "at most": "<= "}[reading["bound"]]
    return f"{sign}{reading['value']:.3g}"


def _curves() -> list[str]:
    """Accuracy (drift in nats per token) of each run at each evaluation."""
    curves: dict[tuple[str, str, str], dict[int, str]] = {}
    for run, record in records.read(HERE / records.NAME).items():
        for row in map(json.loads, record.metrics.splitlines()):
            if row["phase"] == "eval":
                drift = f" ({row['drift/exact']:.2f})" if "drift/exact" in row else ""
                curve = curves.setdefault((row["task"], run, row["context"]), {})
                curve[row["step"]] = f"{row['accuracy']:.2f}{drift}"
    tables = ["## Learning curves", "Accuracy (drift from the base, nats per token)."]
    for task in dict.fromkeys(task for task, _, _ in sorted(curves)):
        mine = {key: curve for key, curve in sorted(curves.items()) if key[0] == task}
        steps = sorted({step for curve in mine.values() for step in curve})
        head = f"| {task} | context | " + " | ".join(map(str, steps)) + " |"
        rows = [head, "| --- " * (2 + len(steps)) + "|"]
        for (_, run, context), curve in mine.items():
            values = " | ".join(curve.get(step, "") for step in steps)
            rows.append(f"| {run} | {context} | {values} |")
        tables.append("\n".join(rows))
    return tables


if __name__ == "__main__":
    main(Path(sys.argv[1]))
