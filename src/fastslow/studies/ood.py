"""What training on one task does to others, and to harder ones (paper, out of distribution).

RL and FST are trained on the configuration's task and evaluated under its seed context, with no
optimised one, on the tasks of ``[study.tasks]``, beside the base weights. Easy to hard is the same
with harder variants of the task.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fastslow.config import Method, TaskConfig
from fastslow.config.base import Fraction, Size
from fastslow.run.record import RunRecord
from fastslow.studies.claims import Claim, NoReading, Reading
from fastslow.studies.figures import point_panel
from fastslow.studies.measured import difference
from fastslow.studies.plan import Evaluation, Plan, Weights
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

ROLES: tuple[Method, ...] = ("rl", "fst")

Arm = tuple[Method, Weights]

ARMS: dict[str, Arm] = {"base": ("rl", "base"), "rl": ("rl", "trained"), "fst": ("fst", "trained")}
"""Role and weights of what is compared. Both runs begin from the same weights, so one of them
stands for the base."""


class Settings(StudySettings):
    """``[study]`` of ood."""

    tasks: Annotated[dict[str, TaskConfig], Field(min_length=1, max_length=1000)]
    """Tasks to evaluate on, by a name of your choice."""
    split: Literal["validation", "test"] = "test"
    problems: Size = 128
    samples: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Completions per problem."""
    margin: Fraction = 0.02
    """Accuracy that may be lost and still count as nothing lost."""


def plan(setup: Setup[Settings]) -> Plan:
    settings = setup.settings
    wanted = {
        "split": settings.split,
        "problems": settings.problems,
        "samples": settings.samples,
        "contexts": ("seed",),
    }
    measure = setup.config.eval.model_copy(update=wanted)
    runs = {(role, seed): setup.run(role, role, seed) for seed in settings.seeds for role in ROLES}
    evaluations = [
        Evaluation(runs[role, seed], weights, measure, settings.tasks)
        for seed in settings.seeds
        for role, weights in ARMS.values()
    ]
    return Plan(tuple(runs.values()), tuple(evaluations))


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    settings = evidence.setup.settings
    within = f"within {settings.margin:g}"
    claims = [
        claim
        for task in settings.tasks
        for claim in (
            _as_good(evidence, task, "base", f"FST's weights lose nothing on {task} ({within})"),
            _as_good(
                evidence, task, "rl", f"FST's weights do as well as RL's on {task} ({within})"
            ),
        )
    ]
    points = {
        name: {task: _accuracies(evidence, arm, task) for task in settings.tasks}
        for name, arm in ARMS.items()
    }
    panel = point_panel("Under the seed context", "task", "accuracy", points)
    return Conclusion(evidence.evaluated, claims, [panel])


def _as_good(evidence: Evidence[Settings], task: str, other: str, text: str) -> Claim:
    def gap(fst: RunRecord, _: RunRecord) -> Reading | NoReading:
        found = [
            evidence.accuracy(role, fst.config.seed, weights, "seed", task)
            for role, weights in (ARMS["fst"], ARMS[other])
        ]
        return difference(*found)

    margin = evidence.setup.settings.margin
    return evidence.claim(text, "at least", -margin, ("fst", "rl"), gap, task=task)


def _accuracies(evidence: Evidence[Settings], arm: Arm, task: str) -> list[float]:
    role, weights = arm
    found = (evidence.accuracy(role, seed, weights, "seed", task) for seed in evidence.seeds)
    return [accuracy for accuracy in found if accuracy is not None]


STUDY = Study(Settings, plan, conclude)
