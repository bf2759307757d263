"""Batches that could not be trained on, kept to be studied: ``anomalies/`` in a run's folder.

``slow_NNNNNN.json`` says of which step, why, and which rollouts are to blame;
``slow_NNNNNN.parquet`` holds all rollouts of the batch, in the form of the rollout store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fastslow.run import disk
from fastslow.run.rollouts import write_rollouts
from fastslow.run.serial import dumps
from fastslow.slow.anomalies import Anomaly
from fastslow.types import Rollout

_NAME = re.compile(r"slow_([0-9]{1,10})(_[0-9]+)?\.(json|parquet)")


def write_anomaly(
    folder: Path,
    step: int,
    cycle: int,
    rollouts: Sequence[Rollout],
    anomaly: Anomaly,
) -> None:
    """Write both files. Raises: OSError."""
    folder.mkdir(exist_ok=True)
    path = write_rollouts(folder, "slow", step, cycle, rollouts)
    told = {"step": step, "cycle": cycle, "cause": anomaly.cause, "rollouts": anomaly.rollouts}
    disk.write_text(path.with_suffix(".json"), dumps(told) + "\n")


def forget_anomalies(folder: Path, after: int) -> None:
    """Remove what was written of steps after ``after``."""
    for path in folder.glob("slow_*"):
        name = _NAME.fullmatch(path.name)
        if name is not None and int(name[1]) > after:
            path.unlink()
