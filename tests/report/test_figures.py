from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastslow.report.figures import COLOURS, MARKERS, draw_comparison
from fastslow.report.summary import RunRecord, read_run

Make = Callable[..., Any]

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture
def whole(write_run: Make, slow: Make, evaluated: Make, context: Make) -> RunRecord:
    metrics = [
        evaluated(0, "seed", 0.1),
        slow(1, **{"reward/mean": 0.3}),
        evaluated(2, "seed", 0.2),
        evaluated(2, "best", 0.6),
    ]
    contexts = [
        context("seed", rank=1, cycle=None),
        context("kept", rank=1, mean=0.5),
        context("left", mean=0.25),
    ]
    return read_run(write_run("whole", metrics, contexts))


@pytest.mark.parametrize("suffix", MAGIC)
def test_a_figure_is_of_the_kind_that_its_name_says(
    whole: RunRecord, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"figure.{suffix}"
    draw_comparison([whole], path)
    assert path.read_bytes().startswith(MAGIC[suffix])


def test_every_method_has_a_colour_and_a_marker_of_its_own() -> None:
    for looks in (COLOURS, MARKERS):
        assert set(looks) == {"rl", "fst", "fast"}
        assert len(set(looks.values())) == 3


@pytest.mark.parametrize("method", ["rl", "fst", "fast"])
@pytest.mark.parametrize("missing", ["reward", "evaluations", "contexts", "all but one"])
def test_runs_that_lack_measures_are_drawn(
    write_run: Make,
    slow: Make,
    evaluated: Make,
    context: Make,
    tmp_path: Path,
    method: str,
    missing: str,
) -> None:
    metrics = [evaluated(0, "seed", 0.1), slow(1, **{"reward/mean": 0.3}), slow(2)]
    contexts = [context("kept", rank=1, mean=0.5)]
    if missing == "reward":
        metrics = metrics[:1]
    elif missing == "evaluations":
        metrics = metrics[1:]
    elif missing == "contexts":
        contexts = []
    else:
        metrics, contexts = [slow(1)], []
    runs = [read_run(write_run("run", metrics, contexts, method=method))] * 2
    draw_comparison(runs, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_the_drawing_is_of_the_measured_numbers(
    whole: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "close", lambda _: None)  # so that it can be looked at
    draw_comparison([whole], tmp_path / "figure.png")
    monkeypatch.undo()
    rewards, accuracies, contexts = pyplot.gcf().axes
    pyplot.close("all")
    assert points(rewards) == [[(1, 0.3)]]
    assert points(accuracies) == [[(0, 0.1), (2, 0.6)]]  # the seed context, then the best
    scattered = [tuple(map(tuple, dots.get_offsets().tolist())) for dots in contexts.collections]
    assert scattered == [((0, 0.25),), ((0, 0.5),)]  # left, kept


def points(axes: Any) -> list[list[tuple[float, float]]]:
    return [list(zip(*line.get_data(), strict=True)) for line in axes.lines]


def test_hostile_names_do_no_harm(write_run: Make, slow: Make, tmp_path: Path) -> None:
    """Dollar signs would be read as mathematics, and half a formula as an error."""
    run = read_run(write_run("$\\frac{\x1b[31m<script>", [slow(1, **{"reward/mean": 0.5})]))
    draw_comparison([run], tmp_path / "figure.svg")
    assert "<script>" not in (tmp_path / "figure.svg").read_text(encoding="utf-8")
