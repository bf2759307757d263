"""Samples that FST, RL and contexts alone need to reach a reward (paper: 1.4 to 3 times fewer).

Each run's running maximum of validation accuracy is read against what it had cost: problems,
rollouts and tokens. FST's ratio to RL is what RL needed for its own peak over what FST needed to
get there. All three are claimed with the fast phases included, and given without them in the rows.
The paper counts training samples, which its fast phases do not add to; ours add the problems that
are set aside for demonstrations, where contexts have any.
"""

from __future__ import annotations

import math

from fastslow.config import Method
from fastslow.config.base import Coefficient
from fastslow.measure.accuracy import running_max
from fastslow.measure.efficiency import UNITS, Unit, efficiency_ratio, learning_curve
from fastslow.measure.matched import Points, match
from fastslow.run.record import Row, RunRecord
from fastslow.studies.claims import Claim, NoReading, Reading
from fastslow.studies.figures import Line, line_panel
from fastslow.studies.measured import summary
from fastslow.studies.plan import Plan
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

ROLES: tuple[Method, ...] = ("rl", "fst", "fast")


class Settings(StudySettings):
    """``[study]`` of efficiency."""

    ratio: Coefficient = 3.0
    """How many times fewer samples FST is to need for the claim to hold."""


def plan(setup: Setup[Settings]) -> Plan:
    return Plan(
        tuple(setup.run(role, role, seed) for seed in setup.settings.seeds for role in ROLES)
    )


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    rows = []
    for role in ROLES:
        for run in evidence.of(role):
            rl = evidence.runs.get(("rl", run.config.seed))
            rows.append({**summary(role, run), **(_ratios(run, rl) if rl and role != "rl" else {})})
    panels = [
        line_panel(
            f"Best accuracy so far, by {unit}",
            f"{unit} (fast phases included)",
            "accuracy",
            {role: [_line(run, unit) for run in evidence.of(role)] for role in ROLES},
        )
        for unit in UNITS
    ]
    panels.append(
        line_panel(
            "Rollouts saved at equal accuracy",
            "accuracy",
            "rollouts of RL / rollouts of the run",
            {role: _savings(evidence, role) for role in ROLES if role != "rl"},
            share=False,
        )
    )
    return Conclusion(rows, [_claim(evidence, unit) for unit in UNITS], panels)


def _claim(evidence: Evidence[Settings], unit: Unit) -> Claim:
    ratio = evidence.setup.settings.ratio

    def measure(fst: RunRecord, rl: RunRecord) -> Reading | NoReading:
        return _ratio(fst, rl, unit, include_fast=True)

    return evidence.claim(
        f"FST reaches RL's peak with {ratio:g} times fewer {unit}",
        "at least",
        ratio,
        ("fst", "rl"),
        measure,
        is_ratio=True,
    )


def _ratio(run: RunRecord, rl: RunRecord, unit: Unit, include_fast: bool) -> Reading | NoReading:
    curve, other = learning_curve(run), learning_curve(rl)
    if curve.peak is None or other.peak is None:
        return NoReading("a run was not evaluated: eval.problems is 0")
    found = efficiency_ratio(curve, other, unit, include_fast)
    if found.needed is None:
        # It may still get there, but not with fewer samples than it has had.
        had = curve.counts(unit, include_fast)[-1]
        reading = Reading(found.other / had, "at most") if had else None
    else:
        reading = Reading(found.ratio) if found.ratio is not None else None
    if reading is None or not 0 < reading.value < math.inf:
        return NoReading(f"RL never rose above its start, so its peak, {found.level:g}, is no mark")
    return reading


def _ratios(run: RunRecord, rl: RunRecord) -> Row:
    """Every ratio to RL that is a number; bounds, where RL's peak was not reached, are left out."""
    ways = {f"ratio/{unit}": (unit, True) for unit in UNITS}
    ways |= {f"ratio/{unit}/slow_phases": (unit, False) for unit in UNITS}
    found = {key: _ratio(run, rl, unit, fast) for key, (unit, fast) in ways.items()}
    return {
        key: reading.value
        for key, reading in found.items()
        if isinstance(reading, Reading) and reading.bound == "exact"
    }


def _savings(evidence: Evidence[Settings], role: str) -> list[Line]:
    """How many times fewer rollouts than RL a run took, at accuracies that both reached."""
    lines: list[Line] = []
    for run, rl in evidence.pairs(role, "rl"):
        ours, theirs = _costs(run), _costs(rl)
        if ours and theirs and (found := match(ours, theirs)):
            told = [(x, y) for x, y in zip(found.levels, found.ratios, strict=True) if y > 0]
            lines.append(([level for level, _ in told], [1 / ratio for _, ratio in told]))
    return lines


def _costs(run: RunRecord) -> Points:
    curve = learning_curve(run)
    counts = curve.counts("rollouts", include_fast=True)
    return [point for point in zip(curve.rewards, counts, strict=True) if math.isfinite(point[1])]


def _line(run: RunRecord, unit: Unit) -> Line:
    curve = learning_curve(run)
    return curve.counts(unit, include_fast=True), running_max(curve.rewards)


STUDY = Study(Settings, plan, conclude)
