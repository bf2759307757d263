"""When reward and gradient leave zero on a task that the base never solves (paper, star graph).

RL sees no reward and has no gradient until it stumbles upon one; FST's contexts find some first.
The reward has left zero at the first step from which its mean over ``study.window`` steps exceeds
``study.threshold``. A run in which it never did gives a bound: the first step whose window it did
not see the end of.
"""

from __future__ import annotations

import statistics
from typing import Annotated

from pydantic import Field

from fastslow.config import Method, Positive
from fastslow.run.record import Row, RunRecord
from fastslow.studies.claims import NoReading, Reading
from fastslow.studies.figures import Line, line_panel
from fastslow.studies.measured import difference, summary
from fastslow.studies.plan import Plan
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

ROLES: tuple[Method, ...] = ("rl", "fst")


class Settings(StudySettings):
    """``[study]`` of star-graph."""

    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Mean reward above which a run has left zero."""
    window: Positive = 3
    """Slow steps that the mean is taken over."""


def plan(setup: Setup[Settings]) -> Plan:
    return Plan(
        tuple(setup.run(role, role, seed) for seed in setup.settings.seeds for role in ROLES)
    )


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    settings = evidence.setup.settings

    def earlier(fst: RunRecord, rl: RunRecord) -> Reading | NoReading:
        return _ratio(rl, fst, settings)

    def higher(fst: RunRecord, rl: RunRecord) -> Reading | NoReading:
        return difference(fst.final_reward, rl.final_reward)

    claims = [
        evidence.claim(
            "FST's reward leaves zero in fewer steps than RL's (ratio of steps, RL to FST)",
            "above",
            1.0,
            ("fst", "rl"),
            earlier,
            is_ratio=True,
        ),
        evidence.claim(
            "FST's reward at the end is higher than RL's", "above", 0.0, ("fst", "rl"), higher
        ),
    ]
    rows = [
        {**summary(role, run), **_gradient(run), **_when(_leaves(run, settings))}
        for role in ROLES
        for run in evidence.of(role)
    ]
    panels = [
        line_panel(
            "Reward while training",
            "slow step",
            "mean reward of the batch",
            {
                role: [run.curve("slow", "reward/mean") for run in evidence.of(role)]
                for role in ROLES
            },
        ),
        line_panel(
            "Gradient",
            "slow step",
            "norm of the gradient",
            {role: [_gradients(run) for run in evidence.of(role)] for role in ROLES},
            share=False,
        ),
    ]
    return Conclusion(rows, claims, panels)


def _leaves(run: RunRecord, settings: Settings) -> int | None:
    """The step at which the reward leaves zero, or None if it never does."""
    steps, rewards = run.curve("slow", "reward/mean")
    for end in range(settings.window, len(rewards) + 1):
        if statistics.fmean(rewards[end - settings.window : end]) > settings.threshold:
            return int(steps[end - settings.window])
    return None


def _ratio(rl: RunRecord, fst: RunRecord, settings: Settings) -> Reading | NoReading:
    rl_step, fst_step = _leaves(rl, settings), _leaves(fst, settings)
    if rl_step is None and fst_step is None:
        return NoReading("neither reward left zero")
    if rl_step is None:
        assert fst_step is not None
        return Reading(_first_unseen(rl, settings) / fst_step, "at least")
    if fst_step is None:
        return Reading(rl_step / _first_unseen(fst, settings), "at most")
    return Reading(rl_step / fst_step)


def _first_unseen(run: RunRecord, settings: Settings) -> int:
    """The first step at which the reward may leave zero in a longer run, if it did not in this."""
    return max(1, len(run.curve("slow", "reward/mean")[0]) - settings.window + 2)


def _gradients(run: RunRecord) -> Line:
    """A step in which no group had variance made no update: its gradient is zero. Of one that was
    skipped, because something was not finite, it is unknown."""
    rows = [row for row in run.rows("slow") if "skipped" not in row]
    return [row["step"] for row in rows], [row.get("grad_norm", 0.0) for row in rows]


def _gradient(run: RunRecord) -> Row:
    steps, norms = _gradients(run)
    moved = [step for step, norm in zip(steps, norms, strict=True) if norm > 0]
    without = len(steps) - len(moved)
    return {"steps/no_gradient": without, **({"gradient/from": moved[0]} if moved else {})}


def _when(step: int | None) -> Row:
    return {} if step is None else {"reward/from": step}


STUDY = Study(Settings, plan, conclude)
