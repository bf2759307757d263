"""A small part of the campaign of ``mutations.py``, and what the long one found."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mutations import attempt, build, files, plan

from fastslow.errors import InputError
from fastslow.run.rollouts import open_rollouts
from tiny_run import write_task

QUICK = ["compare", "report", "conclude"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    found = tmp_path_factory.mktemp("study")
    build(found, tiny_model_dir, write_task(found))
    return found


def test_damage_ends_in_words(folder: Path) -> None:
    for number, name, mutation in plan(folder, 9, seed=7):
        faults, _ = attempt(folder, number, name, mutation, 7, [QUICK[number % len(QUICK)]])
        assert not faults


@pytest.mark.parametrize("name", ["state.json", "checksums.sha256"])
def test_no_run_goes_on_within_a_damaged_checkpoint(folder: Path, name: str) -> None:
    (path, *_) = [each for each in files(folder) if each.endswith(f"step_000002/{name}")]
    faults, ends = attempt(folder, 0, path, "missing", 0, ["resume of a checkpoint"])
    assert not faults
    assert ends == {"resume of a checkpoint: 2": 1}


@pytest.mark.parametrize(
    ("mutation", "end"), [("folder linked", "conclude: 2"), ("hard link", "conclude: 0")]
)
def test_a_study_writes_in_its_own_folder(folder: Path, mutation: str, end: str) -> None:
    (path,) = [each for each in files(folder) if each.endswith("/figure.svg")]
    faults, ends = attempt(folder, 0, path, mutation, 0, ["conclude"])
    assert not faults
    assert ends == {end: 1}


def test_a_column_that_a_table_has_twice_is_named(folder: Path, tmp_path: Path) -> None:
    name = next(each for each in files(folder) if each.endswith(".parquet"))
    table = pq.read_table(folder / name)
    path = tmp_path / "slow_000001.parquet"
    pq.write_table(table.append_column("step", table.column("step")), path)
    with (
        pytest.raises(InputError, match=r"column 'step' is \w+ and \w+; expected one of type"),
        open_rollouts(path),
    ):
        pass
