from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastslow import cli
from fastslow.run.record import read_run

Make = Callable[..., Any]


@pytest.fixture
def compare(
    write_run: Make,
    evaluated: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """The command on a run of its own; returns its exit code and what it printed."""
    folder = write_run("run", [evaluated(0, "seed", 0.25)])

    def run(*outputs: Path) -> tuple[int, str, str]:
        options = [part for output in outputs for part in ("-o", str(output))]
        monkeypatch.setattr(sys, "argv", ["fastslow", "compare", str(folder), *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return run


def test_every_kind_of_output_goes_by_its_name(compare: Make, tmp_path: Path) -> None:
    names = ("r.html", "f.png", "f.svg", "f.pdf", "s.json", "figures")
    code, out, _ = compare(*(tmp_path / name for name in names))
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("written")] == [
        f"written: {tmp_path / name}" for name in names
    ]
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (tmp_path / "r_data" / "runs.csv").is_file()
    (row,) = json.loads((tmp_path / "s.json").read_text())
    assert (row["final_accuracy"], row["base_accuracy"]) == (0.25, 0.25)
    assert (tmp_path / "figures" / "accuracy_seed.svg").is_file()


@pytest.mark.parametrize("name", ["new/deep/r.html", "new/f.svg", "new/s.json", "new/figures"])
def test_folders_on_the_way_are_made(compare: Make, tmp_path: Path, name: str) -> None:
    assert compare(tmp_path / name)[0] == 0
    assert (tmp_path / name).exists()


def test_a_folder_that_is_there_may_have_any_name(compare: Make, tmp_path: Path) -> None:
    (tmp_path / "paper.v2").mkdir()
    assert compare(tmp_path / "paper.v2")[0] == 0
    assert (tmp_path / "paper.v2" / "accuracy_seed.pdf").is_file()


def test_a_name_that_says_nothing_is_refused(compare: Make, tmp_path: Path) -> None:
    code, out, err = compare(tmp_path / "a.gif")
    assert (code, out) == (2, "")
    assert "a.gif: ends in none of .html, .png, .svg, .pdf, .json, nor is it a folder" in err


@pytest.mark.parametrize("name", ["none/report.html", "none/figure.svg", "none/outcome.json"])
def test_what_cannot_be_written_is_said(compare: Make, tmp_path: Path, name: str) -> None:
    (tmp_path / "none").write_text("a file where a folder should be")
    code, _, err = compare(tmp_path / name)
    assert code == 2
    assert f"{name}: cannot be written: " in err


def test_a_folder_in_the_way_of_a_file_is_said(compare: Make, tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file")
    code, _, err = compare(tmp_path / "figures")
    assert code == 2
    assert "figures: cannot be written: " in err


def test_a_report_leaves_its_runs_as_they_are(
    compare: Make, tmp_path: Path, write_run: Make, evaluated: Make
) -> None:
    from fastslow.report.outputs import write_output

    folder = write_run("mine", [evaluated(0, "seed", 0.5)])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    write_output([read_run(folder)], tmp_path / "out.html")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
