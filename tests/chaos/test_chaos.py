"""A few of the kills of ``make chaos``, which has many more, in runs of every kind."""

from __future__ import annotations

import random
from pathlib import Path

from killing import killed_until_done, undisturbed
from scenarios import scenarios

from tiny_run import write_task


def test_a_process_killed_at_random_moments_ends_as_if_it_never_was(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    config = scenarios(tiny_model_dir, write_task(tmp_path))["fst, a checkpoint a step"]
    whole = undisturbed(config, tmp_path / "whole")
    rng, kills, runs = random.Random(0), 0, 0
    while kills < 4:
        killed = killed_until_done(config, tmp_path / f"killed{runs}", whole, rng, most=4)
        assert killed.identical
        kills += len(killed.places)
        runs += 1
