"""Kill runs of every kind at random moments, and see that nothing is lost (``make chaos``).

Writes ``experiments/chaos/result.json``: ``kills``, how many of them left no trace in what their
run came to (``identical``) and how many did (``lost``), and what the processes were doing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

MOST = 20
"""Kills of one run, at most: on a busy machine it may hardly come on between them."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="kills, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "experiments/chaos/result.json")
    options = parser.parse_args()
    from fastslow.run.checkpoint import current_versions

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), options.kills, options.seed)
    result = {
        **found,
        "command": "make chaos",
        "seed": options.seed,
        "seconds": round(time.perf_counter() - started),
        "versions": current_versions(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{result['kills']} kills, {result['identical']} identical, {result['lost']} lost")
    return 1 if result["lost"] else 0


def campaign(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill runs of each scenario in turn until there were ``kills``."""
    # Here, and not for every process that is started, which imports this module first.
    from killing import killed_until_done, undisturbed
    from scenarios import scenarios

    from conftest import write_tiny_model
    from tiny_run import write_task

    write_tiny_model(folder / "model")
    configs = scenarios(folder / "model", write_task(folder))
    wholes = {name: undisturbed(c, folder / f"whole {name}") for name, c in configs.items()}
    rng = random.Random(seed)
    judged: Counter[bool] = Counter()
    runs: Counter[str] = Counter()
    places: Counter[str] = Counter()
    while judged.total() < kills or len(runs) < len(configs):
        name = min(configs, key=lambda name: runs[name])
        path = folder / f"{name} {runs[name]}"
        killed = killed_until_done(configs[name], path, wholes[name], rng, MOST)
        runs[name] += 1
        judged[killed.identical] += len(killed.places)
        places.update(killed.places)
        verdict = "identical" if killed.identical else "LOST"
        print(f"{name}: killed {len(killed.places)} times, {verdict}", flush=True)
    return {
        "kills": judged.total(),
        "identical": judged[True],
        "lost": judged[False],
        "runs": dict(runs),
        "killed while": dict(places.most_common()),
    }


if __name__ == "__main__":
    sys.exit(main())
