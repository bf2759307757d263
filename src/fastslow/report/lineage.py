"""Contexts as they evolved: a tree from the seed, each context beside its parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastslow.report.arms import Arm
from fastslow.report.budget import share
from fastslow.report.edits import Edit, edit_between
from fastslow.report.plot import Figure, Mark, Panel, Series
from fastslow.report.table import Cell, Table
from fastslow.run.record import Row, RunRecord
from fastslow.run.serial import context_from_json
from fastslow.types import Context

SHOWN = 300
"""Contexts that a page shows, of all runs together, at most."""


@dataclass(frozen=True)
class Trial:
    """What one fast phase made of a context.

    Attributes:
        mean: mean score over ``problems`` anchors; None where it was not scored.
        rank: place in the population that the phase left, from 1; None if it was not kept.
    """

    cycle: int
    mean: float | None
    problems: int
    rank: int | None


@dataclass(frozen=True)
class Node:
    """A context in the tree.

    Attributes:
        parents: digests; the first is the one that the tree hangs it on.
        origin: "seed", or the name of the proposer that made it.
        cycle: the cycle in which it was proposed.
        trials: the fast phases that scored it, in order.
        depth: parents between it and the top of the tree.
        edit: what tells it from its parent; None at the top.
    """

    digest: str
    context: Context
    parents: tuple[str, ...]
    origin: str
    cycle: int
    trials: tuple[Trial, ...]
    depth: int
    edit: Edit | None

    @property
    def kept(self) -> bool:
        """Whether some fast phase left it in the population."""
        return any(trial.rank is not None for trial in self.trials)

    @property
    def latest(self) -> Trial | None:
        return self.trials[-1] if self.trials else None


@dataclass(frozen=True)
class Lineage:
    """The tree of one run.

    Attributes:
        nodes: depth first, children in the order in which they were proposed.
        total: contexts that the run proposed, those left out here included.
        best: the digest that the latest fast phase ranked first; None before any.
    """

    run: RunRecord
    nodes: tuple[Node, ...]
    total: int
    best: str | None


def lineages(runs: Sequence[RunRecord], limit: int = SHOWN) -> list[Lineage]:
    """The trees of runs that evolved contexts, of all together ``limit`` contexts at most.

    What was once kept, with its ancestors, comes first, then what scored best in its latest trial.
    """
    evolving = [run for run in runs if any("phase_cycle" in row for row in run.contexts)]
    return [
        _lineage(run, share(limit, number, len(evolving))) for number, run in enumerate(evolving)
    ]


def contexts_table(runs: Sequence[RunRecord]) -> Table:
    """Every trial of every context of every run: one row each."""
    columns = ["run", "digest", "parents", "origin", "proposed in cycle", "tried in cycle"]
    columns += ["mean score", "problems", "rank", "demonstrations", "instructions"]
    rows: list[list[Cell]] = [
        [
            run.name,
            row["digest"],
            " ".join(row["parents"]),
            row["origin"],
            row["cycle"],
            row.get("phase_cycle"),
            row.get("mean"),
            len(row["scores"]),
            row.get("rank"),
            len(row["demonstrations"]),
            row["instructions"],
        ]
        for run in runs
        for row in run.contexts
    ]
    return Table("contexts", "Every context that was tried.", columns, rows)


def contexts_figure(arms: Sequence[Arm]) -> Figure:
    """Every context that a fast phase scored on all anchors, over cycles.

    One that was turned down after its minibatch has a mean that cannot be set beside the others.
    """
    runs = [(arm, run) for arm in arms for run in arm.runs if run.config.uses_fast]
    series: list[Series] = []
    for number, (arm, run) in enumerate(runs):
        rows = _scored_on_all(run)
        offset = (number - (len(runs) - 1) / 2) * min(0.2, 0.6 / len(runs))
        marks: tuple[tuple[Mark, bool], ...] = (("hollow", False), ("filled", True))
        for mark, kept in marks:
            some = [row for row in rows if row["kept"] == kept]
            x = [row["phase_cycle"] + offset for row in some]
            if some:
                y = [row["mean"] for row in some]
                series.append(Series(arm.label, arm.look, x, y, mark=mark))
    caption = (
        "Mean score on the anchors of a cycle, one point a context that was scored on all of them: "
        "filled if the fast phase kept it, hollow if not. Cycles have different anchors and "
        "different weights. Runs stand side by side within a cycle."
    )
    panel = Panel(
        "Contexts (filled: kept)",
        "cycle",
        "mean score on the anchors",
        series,
        share=True,
        counted=True,
    )
    return Figure("context_scores", "Contexts over cycles", caption, [panel] if series else [])


def _scored_on_all(run: RunRecord) -> list[Row]:
    rows = [row for row in run.contexts if "phase_cycle" in row and "mean" in row]
    most: dict[int, int] = {}
    for row in rows:
        cycle = row["phase_cycle"]
        most[cycle] = max(most.get(cycle, 0), len(row["scores"]))
    return [row for row in rows if len(row["scores"]) == most[row["phase_cycle"]]]


def _lineage(run: RunRecord, limit: int) -> Lineage:
    """A context is often tried in several phases, and may be proposed anew by another parent: the
    first proposal says where it came from."""
    rows: dict[str, list[Row]] = {}
    for row in run.contexts:
        rows.setdefault(row["digest"], []).append(row)
    parent = _tree(rows)
    shown = _choose(rows, parent, limit)
    children: dict[str | None, list[str]] = {}
    for digest in rows:  # in the order of their proposals
        if digest in shown:
            children.setdefault(parent[digest], []).append(digest)
    nodes: list[Node] = []
    waiting = [(digest, 0) for digest in reversed(children.get(None, []))]
    while waiting:
        digest, depth = waiting.pop()
        nodes.append(_node(digest, rows, parent[digest], depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(digest, []))]
    first = [row["digest"] for row in run.contexts if row.get("rank") == 1]
    return Lineage(run, tuple(nodes), len(rows), first[-1] if first else None)


def _tree(rows: Mapping[str, Sequence[Row]]) -> dict[str, str | None]:
    """The first known parent of each context, older than itself; None at the top."""
    age = {digest: number for number, digest in enumerate(rows)}
    return {
        digest: next((p for p in trials[0]["parents"] if age.get(p, len(age)) < age[digest]), None)
        for digest, trials in rows.items()
    }


def _choose(
    rows: Mapping[str, Sequence[Row]], parent: Mapping[str, str | None], limit: int
) -> set[str]:
    """Digests to show, at most ``limit``, and with each its ancestors."""
    kept = [d for d in rows if any(row["kept"] for row in rows[d])]
    others = sorted((d for d in rows if d not in kept), key=lambda d: -rows[d][-1].get("mean", 0.0))
    shown: set[str] = set()
    # The latest of the kept ones come first: they are what the run came to.
    for digest in [*reversed(kept), *others]:
        line: list[str] = []
        ancestor: str | None = digest
        while ancestor is not None and ancestor not in shown:
            line.append(ancestor)
            ancestor = parent[ancestor]
        if len(shown) + len(line) <= limit:
            shown.update(line)
    return shown


def _node(digest: str, rows: Mapping[str, Sequence[Row]], parent: str | None, depth: int) -> Node:
    first = rows[digest][0]
    context = context_from_json(first)
    before = None if parent is None else context_from_json(rows[parent][0])
    return Node(
        digest,
        context,
        tuple(first["parents"]),
        first["origin"],
        first["cycle"],
        tuple(
            Trial(row["phase_cycle"], row.get("mean"), len(row["scores"]), row.get("rank"))
            for row in rows[digest]
            if "phase_cycle" in row
        ),
        depth,
        None if before is None else edit_between(before, context),
    )
