"""A few of the kills of ``make chaos``, of which there are more and longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from killing import killed_until_done, undisturbed
from scenarios import scenarios

from tiny_run import write_task


@pytest.mark.parametrize("name", ["fst, a checkpoint a step", "stages and a mix"])
def test_a_process_killed_at_random_moments_ends_as_if_it_never_was(
    tiny_model_dir: Path, tmp_path: Path, name: str
) -> None:
    config = scenarios(tiny_model_dir, write_task(tmp_path))[name]
    whole = undisturbed(config, tmp_path / "whole")
    rng, kills = random.Random(name), 0
    for number in range(3):
        killed = killed_until_done(config, tmp_path / f"killed{number}", whole, rng)
        assert killed.identical
        kills += len(killed.places)
    assert kills >= 3
