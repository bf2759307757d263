"""{base, trained} weights under {seed, evolved} contexts, of an FST run (paper, quadrants).

Four accuracies tell what each learner brings: neither, the contexts alone, the weights alone, both.
They are also written to ``quadrants.json`` in the run's folder, where reports look for them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fastslow.config import Size
from fastslow.run.record import Row, RunRecord
from fastslow.studies.claims import Claim, NoReading, Reading
from fastslow.studies.figures import point_panel
from fastslow.studies.measured import difference
from fastslow.studies.plan import Evaluation, Plan, RunSpec, Weights
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

FILE = "quadrants.json"

ROLE = "fst"

Quadrant = tuple[Weights, Literal["seed", "best"]]

QUADRANTS: dict[str, Quadrant] = {
    "base": ("base", "seed"),
    "fast only": ("base", "best"),
    "slow only": ("trained", "seed"),
    "both": ("trained", "best"),
}


class Settings(StudySettings):
    """``[study]`` of quadrants."""

    split: Literal["validation", "test"] = "test"
    problems: Size = 128
    samples: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Completions per problem."""


def plan(setup: Setup[Settings]) -> Plan:
    runs = tuple(setup.run(ROLE, "fst", seed) for seed in setup.settings.seeds)
    return Plan(runs, tuple(e for run in runs for e in _both(setup.settings, run)))


def _both(settings: Settings, run: RunSpec) -> list[Evaluation]:
    wanted = {
        "split": settings.split,
        "problems": settings.problems,
        "samples": settings.samples,
        "contexts": ("seed", "best"),
    }
    measure = run.config.eval.model_copy(update=wanted)
    weights: tuple[Weights, Weights] = ("base", "trained")
    return [Evaluation(run, some, measure) for some in weights]


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    claims = [
        _better(evidence, "both", "fast only", "trained weights add to the evolved contexts"),
        _better(evidence, "both", "slow only", "evolved contexts add to the trained weights"),
    ]
    points = {
        name: [row["accuracy"] for row in evidence.evaluated if _is_in(row, place)]
        for name, place in QUADRANTS.items()
    }
    panel = point_panel("Weights and contexts", "weights and context", "accuracy", {ROLE: points})
    files = {
        run.path / FILE: rows
        for run in evidence.of(ROLE)
        # Without any, what another call measured is left as it is.
        if (rows := evidence.beside(run))
    }
    return Conclusion(evidence.evaluated, claims, [panel], files)


def _better(evidence: Evidence[Settings], one: str, other: str, text: str) -> Claim:
    def gap(run: RunRecord) -> Reading | NoReading:
        found = [
            evidence.accuracy(ROLE, run.config.seed, *QUADRANTS[name], evidence.setup.task)
            for name in (one, other)
        ]
        return difference(*found)

    return evidence.claim(text, "above", 0.0, (ROLE,), gap)


def _is_in(row: Row, quadrant: Quadrant) -> bool:
    return (row["weights"], row["context"]) == quadrant


STUDY = Study(Settings, plan, conclude)
