"""What the experiments keep: configurations that load, tables that say what was measured."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from fastslow import config as configuration
from fastslow.config import EvalConfig, validate

TASKS = Path(__file__).parents[1] / "experiments" / "tasks"
CONFIGS = sorted(TASKS.glob("configs/*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_a_task_is_valid(path: Path) -> None:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if "run" in table:
        assert TASKS / "configs" / f"{table['run']}.toml" in CONFIGS
        validate(EvalConfig, table["eval"], str(path), prefix="eval")
        assert all("name" in task for task in table["tasks"].values())
    else:
        configuration.parse(table, source=str(path))


def test_the_tables_say_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TASKS.parent)
    monkeypatch.syspath_prepend(TASKS)
    monkeypatch.delitem(sys.modules, "tables", raising=False)
    import records
    from tables import write_tables

    written = tmp_path / "RESULTS.md"
    write_tables(json.loads((TASKS / "results.json").read_text(encoding="utf-8")), written)
    assert written.read_bytes() == (TASKS / "RESULTS.md").read_bytes()
    names = set(records.read(TASKS / records.NAME))
    results = json.loads((TASKS / "results.json").read_text(encoding="utf-8"))
    measured = {name for name, known in results.items() if {"training", "evaluation"} & set(known)}
    assert names == measured
