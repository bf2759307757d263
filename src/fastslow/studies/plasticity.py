"""How well RL learns a second task after a first (paper: FST-init as plastic as the base).

A first task is trained by RL and by FST, each from the base. Then ``study.then``, a fresh RL run on
a second task with a fresh optimiser, begins from the base weights and from the final weights of
either.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from fastslow.config import Method
from fastslow.config.base import Fraction
from fastslow.studies.figures import line_panel
from fastslow.studies.measured import curve, final_difference, summary
from fastslow.studies.plan import Plan
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

FIRST: tuple[Method, ...] = ("rl", "fst")
SECOND = ("base -> rl", "rl -> rl", "fst -> rl")


class Settings(StudySettings):
    """``[study]`` of plasticity."""

    then: Annotated[dict[str, Any], Field(max_length=1000)]
    """The second run: keys of a run configuration that differ from the first. ``task`` at least."""
    margin: Fraction = 0.02
    """Accuracy that FST-init may fall short of the base by and still count as equally plastic."""

    @field_validator("then")
    @classmethod
    def _names_a_task(cls, then: dict[str, Any]) -> dict[str, Any]:
        if "task" not in then:
            raise ValueError("names no second task: add a [study.then.task] table with a name")
        if fixed := sorted({"method", "seed", "model", "name", "log"} & then.keys()):
            raise ValueError(f"sets {', '.join(fixed)}, which the study itself sets")
        return then


def plan(setup: Setup[Settings]) -> Plan:
    then = {"stages": (), **setup.settings.then}  # the first run may have a single stage
    runs = []
    for seed in setup.settings.seeds:
        rl, fst = (setup.run(role, role, seed) for role in FIRST)
        seconds = zip(SECOND, (None, rl, fst), strict=True)
        runs += [rl, fst, *(setup.run(role, "rl", seed, then, after) for role, after in seconds)]
    return Plan(tuple(runs))


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    margin = evidence.setup.settings.margin
    second = [run for role in SECOND for run in evidence.of(role)]
    task = next((next(iter(run.config.tasks)) for run in second), None)
    claims = [
        evidence.claim(
            f"after FST, RL learns a second task as well as from the base (within {margin:g})",
            "at least",
            -margin,
            ("fst -> rl", "base -> rl"),
            final_difference,
            task=task,
        ),
        evidence.claim(
            "after FST, RL learns a second task better than after RL",
            "above",
            0.0,
            ("fst -> rl", "rl -> rl"),
            final_difference,
            task=task,
        ),
    ]
    panels = [
        line_panel(
            title,
            "slow step",
            "accuracy",
            {role: [curve(run) for run in evidence.of(role)] for role in roles},
        )
        for title, roles in (("First task", FIRST), ("Second task, by RL", SECOND))
    ]
    rows = [summary(role, run) for role in (*FIRST, *SECOND) for run in evidence.of(role)]
    return Conclusion(rows, claims, panels)


STUDY = Study(Settings, plan, conclude)
