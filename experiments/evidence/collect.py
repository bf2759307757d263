"""Bring finished studies here: `python experiments/evidence/collect.py RUNS`.

RUNS is the `log.folder` that `fastslow study` was given. Of every concluded study in it the numbers
and the figure are copied, and of every run its configuration and its metrics. All claims together
become `claims.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main(runs: Path) -> None:
    claims: list[dict[str, Any]] = []
    for plan in sorted((runs / "studies").glob("*/plan.json")):
        study = plan.parent
        if not (study / "claims.json").exists():
            print(f"{study.name}: not concluded yet")
            continue
        found = json.loads((study / "claims.json").read_text())
        claims += [{"study": study.name, **claim} for claim in found]
        folder = HERE / "studies" / study.name
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("plan.json", "results.json", "claims.json", "figure.png", "figure.svg"):
            shutil.copyfile(study / name, folder / name)
    for config in sorted(runs.glob("*/config.toml")):
        run = config.parent
        (HERE / "runs").mkdir(exist_ok=True)
        shutil.copyfile(config, HERE / "runs" / f"{run.name}.config.toml")
        shutil.copyfile(run / "metrics.jsonl", HERE / "runs" / f"{run.name}.metrics.jsonl")
    (HERE / "claims.json").write_text(json.dumps(claims, indent=1) + "\n", encoding="utf-8")
    print(f"{len(claims)} claims")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
