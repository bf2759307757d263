"""The tables of a report: overview, sample efficiency, asymptotes, quadrants, and their CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastslow.errors import InputError
from fastslow.report.arms import arms_of
from fastslow.report.asymptotes import asymptotes, asymptotes_figure, asymptotes_table
from fastslow.report.drift import matched_drift_table
from fastslow.report.efficiency import efficiency_figure, efficiency_table
from fastslow.report.overview import metrics_table, overview_table
from fastslow.report.quadrants import quadrants_figure, quadrants_table, read_quadrants
from fastslow.report.table import Table, write_tables
from fastslow.run.record import RunRecord, read_run

Make = Callable[..., Any]


def named(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.fixture
def trained(write_run: Make, slow: Make, evaluated: Make) -> Callable[..., RunRecord]:
    """A run whose slow steps each sample 10 rollouts, evaluated before each."""

    def make(accuracies: list[float], method: str = "rl", **settings: Any) -> RunRecord:
        metrics = []
        kept = {"groups/kept": 2, "groups/dropped": 0, "rollouts/sampled": 10, "rollouts/reused": 0}
        for step, accuracy in enumerate(accuracies):
            if step:
                metrics.append(slow(step, **kept, **{"tokens/sampled": 100, "seconds/update": 1.5}))
            metrics.append(evaluated(step, "seed", accuracy))
        slowly = {"problems": 2, "group": 8}
        name = settings.pop("name", method)
        return read_run(write_run(name, metrics, approach=method, slow=slowly, **settings))

    return make


# What the runs are.


def test_the_overview_has_what_was_measured(trained: Make, write_run: Make, slow: Make) -> None:
    run = trained([0.125, 0.25, 0.5], seed=3)
    run.metrics[-1].update({"accuracy/low": 0.375, "accuracy/high": 0.625, "drift/exact": 0.01})
    bare = read_run(write_run("bare", [slow(1)]))
    first, second = named(overview_table([run, bare]))
    assert first == {
        "run": "rl",
        "method": "rl",
        "model": "m",
        "tasks": "star_graph",
        "seed": 3,
        "steps done": 2,
        "steps": 8,
        "accuracy before": 0.125,
        "accuracy": 0.5,
        "accuracy, low": 0.375,
        "accuracy, high": 0.625,
        "final reward": None,
        "drift": 0.01,
        "rollouts": 20,
        "tokens": 200,
        "seconds": 3.0,
    }
    for column in ("accuracy", "accuracy, low", "drift", "rollouts", "final reward"):
        assert second[column] is None


def test_a_table_without_its_empty_columns() -> None:
    table = Table("t", "c", ["a", "b", "c"], [[1, None, 0], [None, None, None]])
    assert table.measured == Table("t", "c", ["a", "c"], [[1, 0], [None, None]])


# Sample efficiency.


def test_runs_stand_beside_rl_of_the_same_seed(trained: Make) -> None:
    runs = [
        trained([0.0, 0.4, 0.4, 0.8], "fst", name="fst1", seed=1),
        trained([0.0, 0.1, 0.2, 0.3], "rl", name="rl0", seed=0),
        trained([0.0, 0.1, 0.1, 0.4], "rl", name="rl1", seed=1),
        trained([0.0, 0.1, 0.1, 0.1], "fst", name="fst2", seed=2),
    ]
    for run in runs:  # evolved contexts are what fst is used with
        for row in run.rows("eval"):
            row["context"] = run.trained_context if row["step"] else "seed"
    rows = named(efficiency_table(arms_of(runs)))
    assert {(row["run"], row["beside"]) for row in rows} == {("fst1", "rl1"), ("fst2", "rl0")}
    rollouts = {row["run"]: row for row in rows if row["counted"] == "rollouts"}
    assert rollouts["fst1"]["needed"] == pytest.approx(10)
    assert rollouts["fst1"]["needed by the other"] == pytest.approx(30)
    assert rollouts["fst1"]["ratio"] == pytest.approx(3)
    assert rollouts["fst2"]["ratio"] is None  # it never got there
    assert rollouts["fst2"]["own peak"] == 0.1
    assert {row["counted"] for row in rows} == {
        "problems",
        "problems, fast phases left out",
        "rollouts",
        "rollouts, fast phases left out",
        "tokens",
        "tokens, fast phases left out",
    }


def test_one_arm_has_nothing_to_stand_beside(trained: Make) -> None:
    arms = arms_of([trained([0.0, 0.5])])
    assert efficiency_table(arms).rows == []
    (panel,) = efficiency_figure(arms).panels
    (series,) = panel.series
    assert (list(series.x), list(series.y)) == ([0, 10], [0.0, 0.5])


def test_a_run_that_learnt_nothing_is_no_yardstick(trained: Make) -> None:
    rows = named(efficiency_table(arms_of([trained([0.1, 0.0]), trained([0.1, 0.9], "distill")])))
    for row in rows:
        assert (row["peak of the other"], row["own peak"]) == (0.1, 0.9)
        assert not {"needed", "needed by the other", "ratio"} & row.keys()  # all empty


def test_samples_that_were_not_counted_are_left_out(trained: Make) -> None:
    runs = [trained([0.0, 0.5], "rl"), trained([0.0, 0.5], "distill")]
    for run in runs:
        for row in run.metrics:
            row.pop("rollouts/sampled", None)
    rows = {row["counted"]: row for row in named(efficiency_table(arms_of(runs)))}
    assert rows["rollouts"]["ratio"] is None
    assert rows["problems"]["ratio"] == pytest.approx(1)


# Drift at matched reward.


@pytest.mark.parametrize("method", ["distill", "fst"])
def test_drift_is_compared_where_both_are_equally_good(trained: Make, method: str) -> None:
    runs = [trained([0.0, 0.2, 0.4]), trained([0.0, 0.4, 0.6], method)]
    for row in runs[1].rows("eval")[1:]:  # the first is of the base, under the seed context
        row["context"] = runs[1].trained_context
    for run, drifts in zip(runs, ([0.0, 0.1, 0.3], [0.0, 0.06, 0.6]), strict=True):
        for row, drift in zip(run.rows("eval"), drifts, strict=True):
            row["drift/exact"] = drift
    (row,) = named(matched_drift_table(arms_of(runs)))
    assert (row["run"], row["beside"]) == (method, "rl")
    assert row["highest accuracy of both"] == pytest.approx(0.4)
    assert row["drift there"] == pytest.approx(0.06)
    assert row["drift of the other"] == pytest.approx(0.3)
    assert row["ratio"] == pytest.approx(0.2)
    assert row["lowest ratio"] == pytest.approx(0.2)
    for row in runs[0].rows("eval"):
        del row["drift/exact"]
    assert matched_drift_table(arms_of(runs)).rows == []


# Asymptotes.


def test_an_asymptote_is_told_and_drawn(trained: Make) -> None:
    noise = (0.01, -0.01, -0.01, 0.01)
    curve = [0.1] + [0.1 + 0.5 / (1 + (4 / n) ** 3) + noise[n % 4] for n in range(1, 30)]
    found = asymptotes(arms_of([trained(curve, steps=29)]))
    (row,) = named(asymptotes_table(found))
    assert row["curve"] == "accuracy on star_graph"
    assert row["asymptote A"] == pytest.approx(0.6, abs=0.02)
    assert row["C_mid"] == pytest.approx(8, rel=0.1)  # problems: two a step
    assert row["A, low"] <= row["asymptote A"] <= row["A, high"]
    (panel,) = asymptotes_figure(found).panels
    measured, fitted = panel.series
    assert (measured.mark, len(measured.x)) == ("measured", 30)
    assert fitted.mark == "fit"
    assert max(abs(y - 0.6) for y in fitted.y[-1:]) < 0.02


def test_a_curve_that_tells_no_asymptote_says_why(trained: Make) -> None:
    found = asymptotes(arms_of([trained([0.1, 0.2, 0.3])]))
    (row,) = named(asymptotes_table(found))
    assert "too few" in row["not told because"]
    assert "asymptote A" not in row
    assert asymptotes_figure(found).panels == []


def test_the_reward_of_training_is_fitted_too(write_run: Make, slow: Make) -> None:
    counted = {"groups/kept": 2, "groups/dropped": 0}
    rows = [slow(n, **counted, **{"reward/mean": n / 40}) for n in range(1, 9)]
    (one,) = asymptotes(arms_of([read_run(write_run("a", rows))]))
    assert one.of == "training reward"
    assert list(one.curve.rewards) == [n / 40 for n in range(1, 9)]


def test_a_fit_is_over_problems_trained_on(trained: Make) -> None:
    """Contexts alone train on none: there it is over those that were seen."""
    fst, alone = (trained([0.1, 0.2, 0.3], method) for method in ("fst", "fast"))
    for run in (fst, alone):
        for row in run.rows("eval"):
            row["context"] = run.trained_context if row["step"] else "seed"
        run.metrics.insert(0, {"step": 0, "cycle": 0, "phase": "fast", "rollouts/sampled": 4})
    assert fst.config.reserves_pool
    fits = [one for one in asymptotes(arms_of([fst, alone])) if one.of.startswith("accuracy")]
    found = {one.run.name: one.samples for one in fits}
    assert found["fst"] == [0, 2, 4]
    pool = alone.config.fast.pool
    assert found["fast"] == [pool, pool + 2, pool + 4]


def test_runs_of_several_stages_are_not_fitted(write_run: Make, evaluated: Make) -> None:
    stages = [{"steps": 2, "task": {"name": "star_graph", "d": d}} for d in (2, 3)]
    run = read_run(
        write_run("a", [evaluated(0, "seed", 0.1)], task=None, steps=None, stages=stages)
    )
    assert asymptotes(arms_of([run])) == []


# Quadrants.

QUADRANTS = [
    {"weights": "base", "context": "seed", "accuracy": 0.1},
    {"weights": "base", "context": "best", "accuracy": 0.2},
    {"weights": "trained", "context": "seed", "accuracy": 0.3},
    {"weights": "trained", "context": "best", "accuracy": 0.4},
]


def put_quadrants(run: RunRecord, rows: Any) -> None:
    (run.path / "quadrants.json").write_text(json.dumps(rows))


def test_quadrants_are_read_where_they_are(trained: Make) -> None:
    plain, studied = trained([0.1]), trained([0.1], "fst", name="studied")
    intervals = {"accuracy/low": 0.0, "accuracy/high": 0.5, "task": "t", "n": 8}
    put_quadrants(studied, [row | intervals for row in QUADRANTS])
    found = read_quadrants(arms_of([plain, studied]))
    (row,) = named(quadrants_table(found))
    assert row["run"] == "studied"
    names = ("base", "fast only", "slow only", "both")
    assert [row[name] for name in names] == [0.1, 0.2, 0.3, 0.4]
    assert row["both, high"] == 0.5
    (panel,) = quadrants_figure(found).panels
    (series,) = panel.series
    assert list(series.y) == [0.1, 0.2, 0.3, 0.4]
    assert list(panel.ticks.values()) == list(names)


def test_quadrants_of_many_runs_stay_apart(trained: Make) -> None:
    run = trained([0.1])
    put_quadrants(run, [row | {"task": "t"} for row in QUADRANTS])
    (panel,) = quadrants_figure(read_quadrants(arms_of([run] * 30))).panels
    for place in range(3):
        assert max(one.x[place] for one in panel.series) < min(
            one.x[place + 1] for one in panel.series
        )


def test_quadrants_that_lack_are_left_out(trained: Make) -> None:
    run = trained([0.1])
    put_quadrants(run, [row | {"task": "t"} for row in QUADRANTS[:1]])
    (row,) = named(quadrants_table(read_quadrants(arms_of([run]))))
    assert row["base"] == 0.1
    assert row["both"] is None


@pytest.mark.parametrize("rows", [{}, [1], [{"weights": "other", "context": "seed", "task": "t"}]])
def test_quadrants_that_are_none_are_refused(trained: Make, rows: Any) -> None:
    run = trained([0.1])
    put_quadrants(run, rows)
    with pytest.raises(InputError, match=r"quadrants\.json: is not a list of evaluation rows"):
        read_quadrants(arms_of([run]))
    (run.path / "quadrants.json").write_text("{")
    with pytest.raises(InputError, match=r"quadrants\.json: cannot be read"):
        read_quadrants(arms_of([run]))


# CSV.


def test_numbers_are_written_whole_and_texts_as_texts(tmp_path: Path) -> None:
    rows = [["=1+1", 0.1 + 0.2, None], [" @x", -1, 'a\nb,"c"'], ["\x1b\u202e", 10**6, "-"]]
    write_tables([Table("t", "c", ["=text", "number", "any"], rows)], tmp_path / "data")
    with (tmp_path / "data" / "t.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["'=text", "number", "any"],
            ["'=1+1", "0.30000000000000004", ""],
            ["' @x", "-1", 'a\nb,"c"'],
            ["⟨U+001B⟩⟨U+202E⟩", "1000000", "'-"],
        ]


def test_metrics_are_written_as_they_are(trained: Make) -> None:
    run = trained([0.1, 0.2])
    rows = named(metrics_table([run]))
    assert len(rows) == len(run.metrics)
    for found, row in zip(rows, run.metrics, strict=True):
        assert {k: v for k, v in found.items() if v is not None} == {"run": "rl", **row}
