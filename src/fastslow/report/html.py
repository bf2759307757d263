"""A comparison as one page that needs nothing but a browser, and its numbers beside it.

Whatever a model, a data set or a configuration wrote is text and stays text: the templates escape
it, ``visible`` spells out what hides in it, and the browser is told to run the page's own script
and nothing else. That script only shows and hides what is there: without it, all is there to read.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from fastslow.report.arms import Arm, arms_of, differences
from fastslow.report.asymptotes import asymptotes, asymptotes_figure, asymptotes_table
from fastslow.report.budget import CONTEXTS, PAGE, PICTURES, ROLLOUTS, ROWS, fitted
from fastslow.report.curves import accuracy_figures, reward_figure, training_figure
from fastslow.report.drift import drift_figure, matched_drift_table
from fastslow.report.efficiency import efficiency_figure, efficiency_table
from fastslow.report.lineage import SHOWN, Lineage, contexts_figure, contexts_table, lineages
from fastslow.report.names import distinctly_named
from fastslow.report.overview import metrics_table, overview_table, steps_done
from fastslow.report.pictures import pictures
from fastslow.report.plot import Figure
from fastslow.report.quadrants import quadrants_figure, quadrants_table, read_quadrants
from fastslow.report.rollouts import LONGEST, RolloutSample, sample_rollouts, thinned
from fastslow.report.table import Cell, Table, write_tables
from fastslow.run.record import RunRecord
from fastslow.text import spell_hidden

_NOTHING = Markup("")


@dataclass(frozen=True)
class Section:
    """A part of the page, reached by its ``anchor``."""

    anchor: str
    title: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    block: Markup = _NOTHING
    """What is neither a figure nor a table."""

    @property
    def is_empty(self) -> bool:
        return not (self.block or self.figures or self.tables)


def write_report(runs: Sequence[RunRecord], path: Path) -> list[Path]:
    """Write the page to ``path`` and its numbers to the folder NAME_data beside it.

    Returns:
        What was written: the page and the folder.

    Raises:
        OSError: a file cannot be written.
        InputError: a run's rollouts or quadrants cannot be read.
    """
    runs = distinctly_named(runs)
    folder = path.with_name(f"{path.stem}_data")
    arms = arms_of(runs)
    environment = _environment(folder.name, runs)
    trees, contexts = _contexts(environment, runs)
    rollouts = _rollouts(environment, runs, trees)
    sections = [
        section for section in _sections(runs, arms, contexts, rollouts) if not section.is_empty
    ]
    page = environment.get_template("report.html").render(
        title=runs[0].name if len(runs) == 1 else "Comparison of runs",
        version=metadata.version("fastslow"),
        measured=_last_measured(runs),
        unfinished=[run for run in runs if steps_done(run) < run.config.total_steps],
        steps_done=steps_done,
        arms=arms,
        sections=sections,
        pictures=pictures([figure for one in sections for figure in one.figures], PICTURES),
        **_own_code(),
    )
    path.write_text(page, encoding="utf-8")
    tables = [table for section in sections for table in section.tables]
    tables += [figure.table() for section in sections for figure in section.figures]
    tables += [metrics_table(runs), contexts_table(runs)]
    write_tables([table for table in tables if table.rows], folder)
    return [path, folder]


def _contexts(
    environment: Environment, runs: Sequence[RunRecord]
) -> tuple[Sequence[Lineage], Markup]:
    """The trees that the page shows, and what it says of them."""
    template = environment.get_template("contexts.html")

    def render(trees: Sequence[Lineage]) -> Markup:
        return Markup(template.render(lineages=trees)) if trees else _NOTHING

    return fitted(lambda limit: lineages(runs, limit), render, SHOWN, CONTEXTS)


def _rollouts(
    environment: Environment, runs: Sequence[RunRecord], trees: Sequence[Lineage]
) -> Markup:
    """The rollouts, each with a link to its context where the page shows it."""
    template = environment.get_template("rollouts.html")
    linked = {(tree.run.name, node.digest) for tree in trees for node in tree.nodes}
    samples = sample_rollouts(runs)

    def render(samples: Sequence[RolloutSample]) -> Markup:
        if not samples:
            return _NOTHING
        return Markup(template.render(samples=samples, linked=linked, longest=LONGEST))

    most = sum(len(sample.rows) for sample in samples)
    return fitted(lambda limit: thinned(samples, limit), render, most, ROLLOUTS)[1]


def _sections(
    runs: Sequence[RunRecord], arms: Sequence[Arm], contexts: Markup, rollouts: Markup
) -> list[Section]:
    fits = asymptotes(arms)
    quadrants = read_quadrants(arms)

    def section(
        anchor: str,
        title: str,
        figures: Sequence[Figure] = (),
        tables: Sequence[Table] = (),
        block: Markup = _NOTHING,
    ) -> Section:
        return Section(
            anchor,
            title,
            [figure for figure in figures if figure.panels],
            [table for table in tables if table.rows],
            block,
        )

    return [
        section("runs", "The runs", tables=[overview_table(runs).measured]),
        section("curves", "Learning curves", [*accuracy_figures(arms), reward_figure(arms)]),
        section(
            "drift",
            "Reward against drift",
            [drift_figure(arms)],
            [matched_drift_table(arms)],
        ),
        section(
            "efficiency",
            "Sample efficiency",
            [efficiency_figure(arms)],
            [efficiency_table(arms)],
        ),
        section("asymptotes", "Asymptotes", [asymptotes_figure(fits)], [asymptotes_table(fits)]),
        section(
            "quadrants",
            "Quadrants",
            [quadrants_figure(quadrants)],
            [quadrants_table(quadrants)],
        ),
        section("training", "Gradient, entropy and drift while training", [training_figure(arms)]),
        section(
            "contexts",
            "Contexts as they evolved",
            [contexts_figure(arms)],
            block=contexts,
        ),
        section("rollouts", "Rollouts", block=rollouts),
        section("configuration", "Configurations", tables=[differences(arms)]),
    ]


def _environment(folder: str, runs: Sequence[RunRecord]) -> Environment:
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"cells": _cells, "number": _number}
    environment.globals |= {
        "folder": folder,
        "runs": runs,
        "page_megabytes": PAGE // 10**6,
        "most_rows": ROWS,
    }
    return environment


def _template(name: str) -> str:
    return (resources.files("fastslow.report") / "templates" / name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    """What an expression of a template writes, before it is escaped."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return spell_hidden(value) if is_text else value


def _own_code() -> dict[str, Any]:
    """The style sheet and the script, with the hash by which the browser knows the script."""
    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return {
        "style": Markup(_template("report.css")),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }


def _cells(table: Table) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    """Columns, and rows of (text, whether it is a number), a value's interval beside it."""
    intervals: dict[int, tuple[int, int]] = {}
    place = {column: i for i, column in enumerate(table.columns)}
    for column, i in place.items():
        if f"{column}, low" in place and f"{column}, high" in place:
            intervals[i] = (place[f"{column}, low"], place[f"{column}, high"])
    merged = {end for ends in intervals.values() for end in ends}
    kept = [i for i in range(len(table.columns)) if i not in merged]
    rows: list[list[tuple[str, bool]]] = []
    for row in table.rows:
        cells: list[tuple[str, bool]] = []
        for i in kept:
            text = _number(row[i])
            low, high = (row[end] for end in intervals.get(i, (i, i)))
            if i in intervals and low is not None and high is not None:
                text += f" [{_number(low)}, {_number(high)}]"
            cells.append((text, not isinstance(row[i], str)))
        rows.append(cells)
    return [table.columns[i] for i in kept], rows


def _number(value: Cell) -> str:
    """A cell as people read it: three decimals of a share, fewer of a large number."""
    match value:
        case None:
            return "-"
        case str():
            return value
        case int():
            return f"{value:,}"
        case float() if math.isnan(value):
            return "-"
        case float() if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        case float() if abs(value) >= 100 or (abs(value) > 1 and value.is_integer()):
            return f"{value:,.0f}"
        case float() if abs(value) >= 10:
            return f"{value:.1f}"
        case float() if 0 < abs(value) < 0.01:
            return f"{value:.2g}"
        case _:
            return f"{value:.3f}"


def _last_measured(runs: Sequence[RunRecord]) -> str:
    """When the latest row was written: the page says nothing of when it was made."""
    latest = max(row["time"] for run in runs for row in run.metrics)
    return datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%d %H:%M UTC")
