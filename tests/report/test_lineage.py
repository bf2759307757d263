from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastslow.report.arms import arms_of
from fastslow.report.lineage import Lineage, contexts_figure, contexts_table, lineages
from fastslow.run.record import RunRecord, read_run

Make = Callable[..., Any]


@pytest.fixture
def record(write_run: Make, slow: Make) -> Callable[..., RunRecord]:
    def make(*contexts: Any, **settings: Any) -> RunRecord:
        return read_run(write_run("run", [slow(1)], contexts, **settings))

    return make


@pytest.fixture
def evolved(record: Make, context: Make) -> RunRecord:
    """seed -> a -> b, and c beside b; b was tried again in cycle 1, and the seed proposed anew."""
    return record(
        context("seed", rank=1, cycle=None),
        context("seed", mean=0.0, scores={"p": 0, "q": 0}),
        context("a", rank=2, mean=0.5, scores={"p": 0, "q": 1}, parents=["seed"], origin="writer"),
        context("b", rank=1, mean=1.0, scores={"p": 1, "q": 1}, parents=["a"], origin="writer"),
        context("b", rank=1, cycle=1, mean=0.5, scores={"r": 0, "s": 1}, parents=["seed"]),
        context("c", cycle=1, mean=0.25, scores={"r": 0.25}, parents=["a", "b"]),
        context("seed", cycle=1, mean=0.0, scores={"r": 0}, parents=["b"]),
    )


def outline(tree: Lineage) -> list[tuple[str, int]]:
    return [(node.digest, node.depth) for node in tree.nodes]


def test_contexts_hang_on_what_they_were_first_made_from(evolved: RunRecord) -> None:
    (tree,) = lineages([evolved])
    assert outline(tree) == [("seed", 0), ("a", 1), ("b", 2), ("c", 2)]
    assert (tree.total, tree.best) == (4, "b")
    nodes = {node.digest: node for node in tree.nodes}
    assert nodes["c"].parents == ("a", "b")
    assert [node.digest for node in tree.nodes if node.kept] == ["a", "b"]
    assert nodes["b"].origin == "writer"
    trials = [(t.cycle, t.mean, t.problems, t.rank) for t in nodes["b"].trials]
    assert trials == [(0, 1.0, 2, 1), (1, 0.5, 2, 1)]
    assert nodes["b"].latest == nodes["b"].trials[1]
    assert nodes["seed"].edit is None
    assert [piece.change for piece in nodes["b"].edit.instructions] == ["removed", "added"]


def test_runs_that_evolve_nothing_have_no_tree(record: Make, context: Make) -> None:
    assert lineages([record(context("seed", rank=1, cycle=None), method="rl")]) == []


def test_a_parent_that_is_not_there_leaves_its_child_at_the_top(
    record: Make, context: Make
) -> None:
    (tree,) = lineages([record(context("a", mean=0.1, parents=["lost"]))])
    assert outline(tree) == [("a", 0)]
    assert tree.best is None


def test_the_kept_with_their_ancestors_are_shown_before_the_others(
    record: Make, context: Make
) -> None:
    rows = [context("seed", mean=0.0)]
    rows += [context(f"left{n}", mean=0.1 * n, parents=["seed"]) for n in range(5)]
    rows += [context("up", mean=0.0, parents=["seed"])]
    rows += [context("kept", rank=1, mean=0.2, parents=["up"])]
    (tree,) = lineages([record(*rows)], limit=4)
    assert outline(tree) == [("seed", 0), ("left4", 1), ("up", 1), ("kept", 2)]
    assert tree.total == 8


def test_a_long_line_of_descent_is_no_trouble(record: Make, context: Make) -> None:
    rows = [context("0", rank=1, mean=0.0)]
    rows += [
        context(str(n), rank=1, cycle=n, mean=0.1, parents=[str(n - 1)]) for n in range(1, 290)
    ]
    (tree,) = lineages([record(*rows)])
    assert outline(tree)[-1] == ("289", 289)


def test_the_figure_has_what_was_scored_on_all_anchors(evolved: RunRecord) -> None:
    (panel,) = contexts_figure(arms_of([evolved])).panels
    found = {series.mark: list(zip(series.x, series.y, strict=True)) for series in panel.series}
    assert found == {"hollow": [(0, 0.0)], "filled": [(0, 0.5), (0, 1.0), (1, 0.5)]}


def test_runs_stand_side_by_side(evolved: RunRecord) -> None:
    figure = contexts_figure(arms_of([evolved, evolved]))
    assert sorted({series.x[0] for series in figure.panels[0].series}) == [-0.1, 0.1]


def test_every_trial_is_a_row(evolved: RunRecord) -> None:
    table = contexts_table([evolved])
    assert len(table.rows) == 7
    row = dict(zip(table.columns, table.rows[5], strict=True))
    assert row["parents"] == "a b"
    assert (row["mean score"], row["rank"]) == (0.25, None)
