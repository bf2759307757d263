"""KL to the base policy at matched reward (paper: up to 70 % lower for FST).

RL and FST, with the exact KL(pi_train || pi_base) at every evaluation, in nats per token and per
completion, under every context that is evaluated. The ratio is read at rewards that both reach,
each run under the context it is meant to be used with: at the highest one, and at the one where it
is lowest, which is what "up to 70 % lower" says. FST's end is evaluated under its whole population
too, unless ``eval.contexts`` has it evaluated all along. The study sets ``eval.drift``: set it in
the configuration as well and it shares its runs with the others.
"""

from __future__ import annotations

from collections.abc import Callable

from fastslow.config import EvalConfig, Method
from fastslow.config.base import Coefficient
from fastslow.measure.matched import Matched, match
from fastslow.run.record import RunRecord
from fastslow.studies.claims import Claim, NoReading, Reading
from fastslow.studies.figures import Line, line_panel
from fastslow.studies.measured import identity
from fastslow.studies.plan import Evaluation, Plan, RunSpec
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

ROLES: tuple[Method, ...] = ("rl", "fst")

KINDS = ("exact", "k1", "k3", "sequence")

SHOWN = ("context", "step", "accuracy", "entropy", *(f"drift/{kind}" for kind in KINDS))
"""Measures of an evaluation that make a row."""


class Settings(StudySettings):
    """``[study]`` of drift."""

    ratio: Coefficient = 0.3
    """FST's KL as a share of RL's, at most, for the claim to hold."""


def plan(setup: Setup[Settings]) -> Plan:
    changes = {"eval": {"drift": True}}
    runs = [setup.run(role, role, seed, changes) for seed in setup.settings.seeds for role in ROLES]
    lacking = [
        run for run in runs if run.config.uses_fast and "population" not in run.config.eval.contexts
    ]
    return Plan(tuple(runs), tuple(Evaluation(run, "trained", _population(run)) for run in lacking))


def _population(run: RunSpec) -> EvalConfig:
    return run.config.eval.model_copy(update={"contexts": ("population",)})


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    limit = evidence.setup.settings.ratio

    def claim(where: str, ratio: Callable[[Matched], float]) -> Claim:
        return evidence.claim(
            f"at {where} FST's KL to the base is at most {limit:.0%} of RL's",
            "at most",
            limit,
            ("fst", "rl"),
            lambda fst, rl: _reading(_matched(fst, rl), ratio),
            is_ratio=True,
        )

    claims = [
        claim("the highest reward of both", lambda matched: matched.at_highest),
        claim("some matched reward", lambda matched: matched.lowest),
    ]
    rows = [
        {**identity(role, run), **{key: row[key] for key in SHOWN if key in row}}
        for role in ROLES
        for run in evidence.of(role)
        for row in (*run.rows("eval"), *evidence.beside(run))
        if "drift/exact" in row
    ]
    found = [_matched(fst, rl) for fst, rl in evidence.pairs("fst", "rl")]
    panels = [
        line_panel(
            "Reward against drift",
            "KL to the base policy (nats per token)",
            "accuracy",
            {role: [_line(run) for run in evidence.of(role)] for role in ROLES},
        ),
        line_panel(
            "Drift beside RL's at equal accuracy",
            "accuracy",
            "KL of FST / KL of RL",
            {"fst": [(one.levels, one.ratios) for one in found if isinstance(one, Matched)]},
            share=False,
        ),
    ]
    return Conclusion(rows, claims, panels)


def _matched(fst: RunRecord, rl: RunRecord) -> Matched | NoReading:
    points, other = _points(fst), _points(rl)
    if not points or not other:
        return NoReading("a run has no evaluation with drift")
    return match(points, other) or NoReading("there is no reward above their start that both reach")


def _reading(
    matched: Matched | NoReading, ratio: Callable[[Matched], float]
) -> Reading | NoReading:
    if isinstance(matched, NoReading):
        return matched
    if ratio(matched) <= 0:
        return NoReading("FST reached that reward before its weights moved")
    return Reading(ratio(matched))


def _points(run: RunRecord) -> list[tuple[float, float]]:
    """(accuracy, drift) of a run's evaluations."""
    rows = [row for row in run.evaluations() if "drift/exact" in row]
    return [(row["accuracy"], row["drift/exact"]) for row in rows]


def _line(run: RunRecord) -> Line:
    points = _points(run)
    return [drift for _, drift in points], [accuracy for accuracy, _ in points]


STUDY = Study(Settings, plan, conclude)
