"""Runs of every kind, tiny: what is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_run import tiny_config

OFTEN = {"checkpoint_every": 1}


def scenarios(model: Path, task: str) -> dict[str, dict[str, Any]]:
    """Configurations by name; their folders are set by whoever runs them."""

    def config(**changes: Any) -> dict[str, Any]:
        return tiny_config(model, task, Path("runs"), **changes)

    mixed = config(log=OFTEN, slow={"problems": 3})
    del mixed["task"], mixed["steps"]
    graphs = {"name": "star_graph", "d": 2, "nodes": 40, "train": 12, "validation": 4}
    mixed["stages"] = [
        {"steps": 2, "task": graphs},
        {"steps": 3, "mix": [{"weight": 2, "task": {"name": task}}, {"task": graphs}]},
    ]
    return {
        "fst": config(),
        "fst, a checkpoint a step": config(log=OFTEN),
        "rl on adapters": config(method="rl", slow={"lora": {"rank": 2}}, log=OFTEN),
        "distill": config(slow={"algorithm": "distill"}, log=OFTEN),
        "contexts only": config(method="fast", steps=6),
        "bfloat16, no kl": config(policy={"dtype": "bfloat16"}, slow={"kl": 0}, log=OFTEN),
        "stages and a mix": mixed,
    }
