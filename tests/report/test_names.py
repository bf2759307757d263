from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fastslow import config as configuration
from fastslow.report.html import write_report
from fastslow.report.names import distinctly_named
from fastslow.report.summary import write_summary
from fastslow.report.tables import comparison
from fastslow.run.record import RunRecord, read_run

Make = Callable[..., Any]

PATHS = st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=4).map("/".join)


def record(path: str, name: str = "run") -> RunRecord:
    settings = {"model": "m", "name": name, "steps": 1, "task": {"name": "star_graph"}}
    return RunRecord(Path(path), configuration.parse(settings), [], [])


def names(*paths: str) -> list[str]:
    return [run.name for run in distinctly_named([record(path) for path in paths])]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["runs/a"], ["run"]),
        (["runs/a", "runs/b"], ["run (a)", "run (b)"]),
        (["/x/a/seed0/run", "/x/b/seed0/run"], ["run (a)", "run (b)"]),
        (["x/1/run", "x/2/run", "y/1/run"], ["run (x/1)", "run (x/2)", "run (y/1)"]),
        (["x", "x/y"], ["run (x)", "run (x/y)"]),
        (["run", "other/run"], ["run (run)", "run (other/run)"]),
        (["x/run", "x/run"], ["run (run)", "run (run) #2"]),
    ],
)
def test_what_differs_in_the_paths_tells_namesakes_apart(
    paths: list[str], expected: list[str]
) -> None:
    assert names(*paths) == expected


@given(st.lists(PATHS, min_size=1, max_size=5))
def test_no_two_runs_share_a_name(paths: list[str]) -> None:
    assert len(set(names(*paths))) == len(paths)


def test_a_name_of_its_own_is_left_alone() -> None:
    runs = distinctly_named([record("a/run"), record("b/run"), record("c/run", "other")])
    assert [run.name for run in runs] == ["run (a)", "run (b)", "other"]
    assert [run.path for run in runs] == [Path("a/run"), Path("b/run"), Path("c/run")]


def test_every_output_tells_namesakes_apart(
    write_run: Make, evaluated: Make, tmp_path: Path
) -> None:
    runs = [
        read_run(write_run("twin", [evaluated(0, "seed", 0.1)], method="rl", seed=seed))
        for seed in (0, 1)
    ]
    expected = [f"twin ({run.path.name})" for run in runs]
    write_report(runs, tmp_path / "r.html")
    lines = (tmp_path / "r_data" / "runs.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["run", *expected]
    write_summary(runs, tmp_path / "s.json")
    assert [row["run"] for row in json.loads((tmp_path / "s.json").read_text())] == expected
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(comparison(runs))
    text = console.export_text()
    assert all(name in text for name in expected)
