"""Figures as data, and as files of the kind that their names say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastslow.report.arms import arms_of
from fastslow.report.curves import (
    accuracy_figures,
    reward_figure,
    stage_boundaries,
    training_figure,
)
from fastslow.report.drift import drift_figure
from fastslow.report.figures import draw_comparison, write_figures
from fastslow.report.plot import (
    PANEL_SIZE,
    Figure,
    Panel,
    Series,
    add_legend,
    describe,
    draw,
    paint,
    paper_style,
)
from fastslow.run.record import RunRecord, read_run

Make = Callable[..., Any]

MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF"}

STAGES = [
    {"steps": 2, "task": {"name": "star_graph", "d": 2}},
    {"steps": 4, "task": {"name": "star_graph", "d": 3}},
    {"steps": 2, "task": {"name": "star_graph", "d": 2}},
]


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


def points(series: Series) -> list[tuple[float, float]]:
    return list(zip(series.x, series.y, strict=True))


def lines(figure: Figure) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points by panel and kind, of figures with one arm."""
    return {(p.title, s.mark): points(s) for p in figure.panels for s in p.series}


# What is drawn.


def test_accuracy_is_drawn_as_the_method_is_used_and_of_the_weights_alone(
    whole: RunRecord,
) -> None:
    own, seed = accuracy_figures(arms_of([whole]))
    assert lines(own) == {("star_graph", "line"): [(0, 0.1), (2, 0.6)]}  # the seed, then the best
    assert lines(seed) == {("star_graph", "line"): [(0, 0.1), (2, 0.2)]}


def test_a_single_run_has_its_interval_as_band(write_run: Make, evaluated: Make) -> None:
    metrics = [
        evaluated(0, "seed", 0.1) | {"accuracy/low": 0.0, "accuracy/high": 0.2},
        evaluated(2, "seed", 0.5) | {"accuracy/low": 0.4, "accuracy/high": 0.7},
    ]
    with_bands = read_run(write_run("a", metrics, method="rl"))
    (figure,) = accuracy_figures(arms_of([with_bands]))
    (series,) = figure.panels[0].series
    assert (list(series.low), list(series.high)) == ([0.0, 0.4], [0.2, 0.7])
    old = read_run(write_run("b", [*metrics, evaluated(4, "seed", 0.6)], method="rl"))
    (series,) = accuracy_figures(arms_of([old]))[0].panels[0].series
    assert (series.low, len(series.x)) == ((), 3)


def test_seeds_are_a_mean_with_their_range_where_all_were_measured(
    write_run: Make, evaluated: Make
) -> None:
    curves = ([0.0, 0.2, 0.4], [0.1, 0.6])  # the second seed is not finished
    runs = [
        read_run(
            write_run(
                f"seed{seed}",
                [evaluated(2 * i, "seed", accuracy) for i, accuracy in enumerate(curve)],
                method="rl",
                seed=seed,
            )
        )
        for seed, curve in enumerate(curves)
    ]
    (figure,) = accuracy_figures(arms_of(runs))
    mean, *seeds = figure.panels[0].series
    assert points(mean) == [(0, pytest.approx(0.05)), (2, pytest.approx(0.4))]
    assert (list(mean.low), list(mean.high)) == ([0.0, 0.2], [0.1, 0.6])
    assert [(s.mark, list(s.y)) for s in seeds] == [("faint", curves[0]), ("faint", curves[1])]


def test_distilled_weights_are_measured_without_a_context(write_run: Make, evaluated: Make) -> None:
    metrics = [evaluated(0, "seed", 0.1), evaluated(2, "seed", 0.3), evaluated(2, "best", 0.9)]
    figures = accuracy_figures(arms_of([read_run(write_run("d", metrics, approach="distill"))]))
    assert [lines(f) for f in figures] == [{("star_graph", "line"): [(0, 0.1), (2, 0.3)]}]


def test_every_task_has_a_panel_with_the_boundaries_of_the_stages(
    write_run: Make, slow: Make, evaluated: Make
) -> None:
    parts = {"reward/mean": 0.5, "reward/mean/star_graph": 0.25, "reward/mean/star_graph-2": 0.75}
    metrics = [
        evaluated(0, "seed", 0.1, "star_graph"),
        slow(1, **parts),
        evaluated(2, "seed", 0.2, "star_graph"),
        evaluated(2, "seed", 0.0, "star_graph-2"),
    ]
    settings = {"task": None, "steps": None, "stages": STAGES, "method": "rl"}
    arms = arms_of([read_run(write_run("staged", metrics, **settings))])
    assert stage_boundaries(arms) == [2, 6]
    (figure,) = accuracy_figures(arms)
    assert [p.title for p in figure.panels] == ["star_graph", "star_graph-2"]
    assert all(p.boundaries == [2, 6] for p in figure.panels)
    assert [p.title for p in reward_figure(arms).panels] == [
        "All tasks",
        "star_graph",
        "star_graph-2",
    ]
    other = read_run(write_run("plain", metrics, method="rl"))
    assert stage_boundaries([*arms, *arms_of([other])]) == []


def test_drift_is_the_exact_one_where_every_evaluation_has_it(
    write_run: Make, slow: Make, evaluated: Make
) -> None:
    exact = [
        evaluated(0, "seed", 0.1) | {"drift/exact": 0.0},
        slow(1, **{"reward/mean": 0.3, "kl/base": 0.05}),
        evaluated(2, "seed", 0.4) | {"drift/exact": 0.02},
    ]
    run = read_run(write_run("a", exact, method="rl"))
    figure = drift_figure(arms_of([run]))
    assert lines(figure) == {("star_graph", "line"): [(0.0, 0.1), (0.02, 0.4)]}
    assert "drift/exact" in figure.caption
    lacking = read_run(write_run("b", [*exact, evaluated(4, "seed", 0.5)], method="rl", seed=1))
    figure = drift_figure(arms_of([run, lacking]))
    assert lines(figure) == {("Training batches", "measured"): [(0.05, 0.3)]}
    assert "kl/base" in figure.caption


def test_weights_that_stand_still_do_not_drift(write_run: Make, evaluated: Make) -> None:
    run = read_run(write_run("f", [evaluated(0, "seed", 0.1)], method="fast"))
    assert drift_figure(arms_of([run])).panels == []


def test_training_is_drawn_where_it_was_measured_and_finite(write_run: Make, slow: Make) -> None:
    metrics = [
        slow(1, grad_norm=2.0),
        slow(2, grad_norm=float("nan"), entropy=0.5),
        slow(3, grad_norm=1.0),
    ]
    figure = training_figure(arms_of([read_run(write_run("a", metrics))]))
    assert lines(figure) == {
        ("Gradient norm", "line"): [(1, 2.0), (3, 1.0)],
        ("Entropy of the policy", "line"): [(2, 0.5)],
    }


# How it is drawn, said and written.


def test_the_drawing_is_of_the_data(whole: RunRecord) -> None:
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    (figure, _) = accuracy_figures(arms_of([whole]))
    paint(axes, figure.panels[0])
    pyplot.close("all")
    assert [list(zip(*line.get_data(), strict=True)) for line in axes.lines] == [
        [(0, 0.1), (2, 0.6)]
    ]
    assert axes.get_ylim()[0] <= 0
    assert 0.6 <= axes.get_ylim()[1] < 0.75


def test_a_panel_is_said_in_words(whole: RunRecord) -> None:
    (figure, _) = accuracy_figures(arms_of([whole]))
    assert describe(figure.panels[0]) == (
        "accuracy against slow step. fst: from 0.1 at 0 to 0.6 at 2."
    )


def test_a_figure_has_its_numbers_as_a_table(whole: RunRecord) -> None:
    table = accuracy_figures(arms_of([whole]))[0].table()
    assert list(table.columns) == ["panel", "series", "kind", "x", "y"]
    assert table.rows == [
        ["star_graph", "fst", "line", 0, 0.1],
        ["star_graph", "fst", "line", 2, 0.6],
    ]


def test_a_long_legend_takes_nothing_from_the_panel(whole: RunRecord) -> None:
    from matplotlib import pyplot

    look = arms_of([whole])[0].look
    heights = []
    for count in (1, 16):
        name = "an arm with a name that needs a line of its own"
        series = [Series(f"{n} {name}", look, [0, 1], [0, 1]) for n in range(count)]
        with paper_style():
            canvas, axes = pyplot.subplots(figsize=PANEL_SIZE, layout="constrained")
            paint(axes, Panel("p", "slow step", "accuracy", series))
            add_legend(canvas)
            canvas.draw_without_rendering()
        heights.append(axes.get_window_extent().height)
        pyplot.close(canvas)
    assert heights[1] == pytest.approx(heights[0], rel=0.1)


def test_a_fit_is_thinner_than_what_was_measured_and_has_a_label_of_its_own(
    whole: RunRecord,
) -> None:
    from matplotlib import pyplot

    look = arms_of([whole])[0].look
    series = [Series("fst", look, [0, 1], [0, 1])]
    series += [Series("fst", look, [0, 0.5, 1], [0, 0.4, 1], mark="fit")]
    _, axes = pyplot.subplots()
    paint(axes, Panel("p", "problems", "accuracy", series))
    pyplot.close("all")
    measured, fitted = axes.lines
    assert fitted.get_linewidth() < 0.7 * measured.get_linewidth()
    assert fitted.is_dashed()
    assert not measured.is_dashed()
    assert (measured.get_marker(), fitted.get_marker()) == ("o", "None")
    assert axes.get_legend_handles_labels()[1] == ["fst", "fst, fitted"]


@pytest.mark.parametrize("suffix", MAGIC)
def test_a_figure_is_of_the_kind_that_its_name_says(
    whole: RunRecord, tmp_path: Path, suffix: str
) -> None:
    paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
    for path in paths:
        draw_comparison([whole], path)
    assert paths[0].read_bytes().startswith(MAGIC[suffix])
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("missing", ["reward", "evaluations", "contexts", "all"])
@pytest.mark.parametrize("method", ["rl", "fst"])
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
    run = read_run(write_run("run", metrics, contexts, method=method))
    draw_comparison([run], tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 500


def test_every_figure_of_the_report_is_written_in_every_format(
    whole: RunRecord, tmp_path: Path
) -> None:
    paths = write_figures([whole], tmp_path / "new" / "figures")
    names = {path.stem for path in paths}
    assert names == {"accuracy", "accuracy_seed", "reward", "context_scores"}
    assert {(p.stem, p.suffix) for p in paths} == {(n, s) for n in names for s in MAGIC}
    for path in paths:
        assert path.read_bytes().startswith(MAGIC[path.suffix])


def test_hostile_names_do_no_harm(tmp_path: Path, whole: RunRecord) -> None:
    """Dollar signs would be read as mathematics, half a formula as an error, and a leading
    underscore as a wish to be left out of the legend."""
    look = arms_of([whole])[0].look
    names = ["$\\frac{\x1b[31m<script>", "_hidden", "\ufffe\ud800\u202e", "x" * 300]
    series = [Series(name, look, [0, 1], [0, 1]) for name in names]
    panel = Panel("$x^{", "slow step", "accuracy", series)
    draw(Figure("f", "t", "c", [panel]), tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "$\\frac{[31m&lt;script&gt;" in text
    assert ">hidden<" in text
    assert "x" * 43 + "…" in text
    assert "x" * 44 not in text
