"""The page stays small, whatever the runs hold, and says what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from fastslow.report.arms import Look
from fastslow.report.budget import PAGE, ROWS, fitted
from fastslow.report.html import write_report
from fastslow.report.pictures import pictures
from fastslow.report.plot import Figure, Panel, Series
from fastslow.run.record import RunRecord, read_run
from fastslow.run.rollouts import write_rollouts
from fastslow.testing import rollout, turn
from fastslow.types import Problem, Verdict

Make = Callable[..., Any]

TEXT = "<b>wide & long</b> é " * 400  # escaped it is far longer than it looks


@pytest.mark.parametrize(("room", "limit"), [(1000, 600), (600, 600), (599, 300), (5, 4), (0, 0)])
def test_the_limit_is_halved_until_it_fits(room: int, limit: int) -> None:
    chosen, text = fitted(lambda most: most, lambda most: Markup("x" * most), 600, room)
    assert (chosen, len(text)) == (limit, limit)


def test_bytes_count_and_not_characters() -> None:
    assert fitted(lambda most: most, lambda most: Markup("é" * most), 100, 100)[0] == 50


@pytest.fixture
def huge(write_run: Make, slow: Make, evaluated: Make, context: Make) -> list[RunRecord]:
    """Three runs with long completions, long contexts, and thousands of steps."""
    instructions = [f"{n} {TEXT}" for n in range(200)]
    contexts = [context("seed", rank=1, cycle=None)]
    contexts += [
        context(f"c{n}", rank=1, cycle=n, mean=0.5, parents=["seed"]) | {"instructions": text}
        for n, text in enumerate(instructions)
    ]
    measures = ("reward/mean", "grad_norm", "entropy", "kl/base")
    metrics = [
        slow(step, **dict.fromkeys(measures, step * 7919 % 1009 / 1009)) for step in range(1, 2501)
    ]
    metrics += [evaluated(0, "seed", 0.1)]
    runs = [read_run(write_run(f"run{n}", metrics, contexts, steps=2500, seed=n)) for n in range(3)]
    problem = Problem("p", TEXT, 3)
    for run in runs:
        (run.path / "rollouts").mkdir()
        for step in range(1, 5):
            made = [rollout(problem, "c0", Verdict(0.5, TEXT), turn(TEXT * 2)) for _ in range(60)]
            write_rollouts(run.path / "rollouts", "slow", step, 0, made)
    return runs


def test_a_huge_comparison_is_a_small_page_that_says_what_it_lacks(
    huge: list[RunRecord], tmp_path: Path
) -> None:
    write_report(huge, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_bytes()
    assert 1_000_000 < len(page) < PAGE
    text = " ".join(page.decode("utf-8").split())
    rollouts = re.findall(r"run\d: (\d+) of 240 rollouts", text)
    assert len(rollouts) == 3
    assert 0 < sum(map(int, rollouts)) == text.count('<article class="rollout"') < 600
    assert "The others are left out, so that the page stays below 5 MB." in text
    assert "<code>rollouts/*.parquet</code>" in text
    contexts = re.findall(r"<p>(\d+) of 201 contexts; the others are left out\.", text)
    assert len(contexts) == 3
    assert 0 < sum(map(int, contexts)) < 300
    assert 'href="r_data/contexts.csv"' in text
    assert "the option <code>-o FOLDER</code> writes it as SVG" in text
    assert re.search(r'<img src="data:image/png;base64,[^"]+" alt="[^"]+ against [^"]+">', text)


def test_what_is_small_is_shown_whole(
    write_run: Make, slow: Make, evaluated: Make, tmp_path: Path
) -> None:
    write_report([read_run(write_run("r", [evaluated(0, "seed", 0.1)]))], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "left out, so" not in text
    assert "-o FOLDER" not in text


def test_only_the_largest_drawings_become_dots() -> None:
    look = Look("#0072b2", "o", "-")
    small = Panel("small", "x", "y", [Series("a", look, [0, 1], [0, 1])])
    values = [n * 7919 % 1009 for n in range(5000)]
    large = Panel("large", "x", "y", [Series("a", look, range(5000), values, mark="measured")])
    figures = [Figure("f", "F", "", [large, small]), Figure("g", "G", "", [small])]
    found = pictures(figures, 100_000)
    assert [one.is_drawing for one in found["f"]] == [False, True]
    assert [one.is_drawing for one in found["g"]] == [True]
    assert found["f"][0].markup.startswith('<img src="data:image/png;base64,')
    assert sum(len(one.markup) for some in found.values() for one in some) < 100_000


def test_a_long_table_ends_and_says_where_the_rest_is(
    write_run: Make, evaluated: Make, tmp_path: Path
) -> None:
    run = read_run(write_run("r", [evaluated(0, "seed", 0.1)]))
    write_report([run] * (ROWS + 10), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"{ROWS} of {ROWS + 10} rows; all of them are in" in text
