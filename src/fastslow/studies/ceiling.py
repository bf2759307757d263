"""What FST, RL and distillation level off at (paper: asymptotes, and FST-distill).

ScaleRL's sigmoid is fitted to each run's accuracy against the problems it trained on; a curve that
does not tell its asymptote is left without one. "distill" trains weights to answer without context
as they do with FST's contexts, and is evaluated without them.
"""

from __future__ import annotations

from collections.abc import Callable

from fastslow.measure.efficiency import learning_curve
from fastslow.measure.scaling import SigmoidFit, Unidentified, fit
from fastslow.run.record import Row, RunRecord
from fastslow.studies.claims import NoReading, Reading
from fastslow.studies.figures import Line, line_panel
from fastslow.studies.measured import difference, final_difference, peak, summary
from fastslow.studies.plan import Key, Plan
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

ROLES = ("rl", "fst", "distill")

DISTILLED = {"slow": {"algorithm": "distill"}}
"""What the run "distill" changes of "fst"."""

Fit = SigmoidFit | Unidentified

FIT_POINTS = 60
"""Points at which a fitted curve is drawn."""


def plan(setup: Setup[StudySettings]) -> Plan:
    return Plan(
        tuple(
            run
            for seed in setup.settings.seeds
            for run in (
                setup.run("rl", "rl", seed),
                setup.run("fst", "fst", seed),
                setup.run("distill", "fst", seed, DISTILLED),
            )
        )
    )


def conclude(evidence: Evidence[StudySettings]) -> Conclusion:
    fits = {key: _fit(run) for key, run in evidence.runs.items()}
    claims = [
        evidence.claim(
            "FST levels off above RL (difference of asymptotes)",
            "above",
            0.0,
            ("fst", "rl"),
            _asymptote_gap(fits),
        ),
        evidence.claim("FST's best accuracy is above RL's", "above", 0.0, ("fst", "rl"), _peak_gap),
        evidence.claim(
            "FST ends above distillation without context",
            "above",
            0.0,
            ("fst", "distill"),
            final_difference,
        ),
    ]
    rows = [
        {**summary(role, run), **_asymptote(fits[role, run.config.seed])}
        for role in ROLES
        for run in evidence.of(role)
    ]
    panels = [
        line_panel(
            "Accuracy, and where it levels off",
            "problems trained on",
            "accuracy",
            {role: [_measured(run) for run in evidence.of(role)] for role in ROLES},
            fits={role: _fitted(evidence, role, fits) for role in ROLES},
        ),
        line_panel(
            "Entropy of the policy",
            "slow step",
            "nats per token",
            {role: [run.curve("slow", "entropy") for run in evidence.of(role)] for role in ROLES},
            share=False,
        ),
    ]
    return Conclusion(rows, claims, panels)


def _fit(run: RunRecord) -> Fit:
    return fit(*_measured(run))


def _measured(run: RunRecord) -> Line:
    curve = learning_curve(run)
    return curve.counts("problems", include_fast=False), curve.rewards


def _fitted(evidence: Evidence[StudySettings], role: str, fits: dict[Key, Fit]) -> list[Line]:
    lines: list[Line] = []
    for run in evidence.of(role):
        found = fits[role, run.config.seed]
        if isinstance(found, SigmoidFit):
            last = _measured(run)[0][-1]
            places = [last * n / FIT_POINTS for n in range(FIT_POINTS + 1)]
            lines.append((places, [float(value) for value in found.predict(places)]))
    return lines


def _asymptote(found: Fit) -> Row:
    if isinstance(found, Unidentified):
        return {"asymptote/unknown": found.reason}
    asymptote = found.asymptote
    return {
        "asymptote": asymptote.value,
        "asymptote/low": asymptote.low,
        "asymptote/high": asymptote.high,
        "midpoint": found.midpoint,
        "exponent": found.exponent,
    }


def _asymptote_gap(
    fits: dict[Key, Fit],
) -> Callable[[RunRecord, RunRecord], Reading | NoReading]:
    def gap(fst: RunRecord, rl: RunRecord) -> Reading | NoReading:
        one, other = fits["fst", fst.config.seed], fits["rl", rl.config.seed]
        if isinstance(one, Unidentified):
            return NoReading(f"FST: {one.reason}")
        if isinstance(other, Unidentified):
            return NoReading(f"RL: {other.reason}")
        return difference(one.asymptote.value, other.asymptote.value)

    return gap


def _peak_gap(one: RunRecord, other: RunRecord) -> Reading | NoReading:
    return difference(peak(one), peak(other))


STUDY = Study(StudySettings, plan, conclude)
