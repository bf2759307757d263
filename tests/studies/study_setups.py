"""A configuration to plan studies of."""

from __future__ import annotations

from typing import Any

from fastslow import config as configuration
from fastslow.config import RunConfig
from fastslow.studies.prepare import find
from fastslow.studies.study import Setup

BASE: dict[str, Any] = {
    "model": "m",
    "steps": 8,
    "task": {"name": "star_graph"},
    "fast": {"every": 2, "population": 2, "pool": 2},
    "slow": {"problems": 4},
}

STAGES: dict[str, Any] = {
    "steps": None,
    "task": None,
    "stages": [
        {"task": {"name": "star_graph"}, "steps": 4},
        {"task": {"name": "reasoning_gym", "dataset": "chain_sum"}, "steps": 4},
    ],
}
"""Changes that make a run of two tasks of it."""

THEN = {"task": {"name": "reasoning_gym", "dataset": "chain_sum"}, "steps": 4}
"""The second run of a study of plasticity."""

TASKS = {"hard": {"name": "star_graph", "d": 4}}
"""Tasks of a study out of distribution."""

REQUIRED: dict[str, dict[str, Any]] = {"plasticity": {"then": THEN}, "ood": {"tasks": TASKS}}
"""Keys of [study] that have no default."""


def run_config(**changes: Any) -> RunConfig:
    return configuration.parse({**BASE, **changes})


def setup_of(name: str, config: RunConfig | None = None, **settings: Any) -> Setup[Any]:
    """What the study ``name`` starts from, with two seeds."""
    table = {"seeds": [0, 1], **REQUIRED.get(name, {}), **settings}
    made = configuration.validate(find(name).settings, table, "c.toml", "study")
    if config is None:
        config = run_config(**(STAGES if find(name).stages else {}))
    return Setup("c.toml", config, made)
