"""What a study is: a plan of runs, and a conclusion drawn from what they measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, field_validator

from fastslow.config import Method, RunConfig, Section, Seed, parse
from fastslow.report.plot import Panel
from fastslow.run.record import Row, RunRecord
from fastslow.studies.claims import Claim, NoReading, Reading, Relation
from fastslow.studies.plan import Key, Plan, RunSpec, Weights

TASK_TABLES = ("task", "stages")
"""Tables that a change replaces as a whole: their keys belong to the task that they name."""


class StudySettings(Section):
    """``[study]``: what every study takes. Each one adds its own keys."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000)] = (0, 1, 2)
    """Seeds of every run. A claim is decided from at least two."""

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"names a seed twice: {list(seeds)}")
        return seeds


S = TypeVar("S", bound=StudySettings)


@dataclass(frozen=True)
class Setup(Generic[S]):
    """What a study starts from.

    Attributes:
        source: the configuration file, for messages.
        config: the run configuration in it, around which the study varies.
        settings: its ``[study]`` table.
    """

    source: str
    config: RunConfig
    settings: S

    @property
    def task(self) -> str:
        """The name of the first task, the only one but for a continual run."""
        return next(iter(self.config.tasks))

    def run(
        self,
        role: str,
        method: Method,
        seed: int,
        changes: Mapping[str, Any] | None = None,
        after: RunSpec | None = None,
    ) -> RunSpec:
        """A run that differs from the configuration in its method, its seed and ``changes``.

        Raises:
            InputError: they do not fit the rest.
        """
        data = merge(self.config.model_dump(), {**(changes or {}), "method": method, "seed": seed})
        return RunSpec(role, parse(data, source=f"{self.source}: the run {role!r}"), after)


@dataclass(frozen=True)
class Evidence(Generic[S]):
    """What the runs of a study measured.

    Attributes:
        setup: what the study started from.
        runs: the finished ones.
        evaluated: rows of the evaluations beside the runs: those of ``metrics.jsonl``, and the
            run's name, ``role``, ``seed`` and ``weights``.
    """

    setup: Setup[S]
    runs: Mapping[Key, RunRecord]
    evaluated: Sequence[Row] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.setup.settings.seeds

    def of(self, role: str) -> list[RunRecord]:
        """The finished runs of a role, by seed."""
        return [self.runs[role, seed] for seed in self.seeds if (role, seed) in self.runs]

    def pairs(self, role: str, other: str) -> list[tuple[RunRecord, RunRecord]]:
        """The finished runs of two roles, of every seed that has both."""
        seeds = [seed for seed in self.seeds if {(role, seed), (other, seed)} <= self.runs.keys()]
        return [(self.runs[role, seed], self.runs[other, seed]) for seed in seeds]

    def beside(self, run: RunRecord) -> list[Row]:
        """The rows of ``evaluated`` that are of ``run``."""
        return [row for row in self.evaluated if row["run"] == run.name]

    def accuracy(
        self, role: str, seed: int, weights: Weights, context: str, task: str
    ) -> float | None:
        """What an evaluation beside the runs gave, or None if there was none."""
        where = {"role": role, "seed": seed, "weights": weights, "context": context, "task": task}
        rows = [row for row in self.evaluated if all(row[key] == where[key] for key in where)]
        return rows[-1]["accuracy"] if rows else None

    def claim(
        self,
        text: str,
        relation: Relation,
        threshold: float,
        roles: Sequence[str],
        measure: Callable[..., Reading | NoReading],
        *,
        is_ratio: bool = False,
        task: str | None = None,
    ) -> Claim:
        """A claim on the number that ``measure`` makes of the runs of ``roles``, seed by seed."""
        return Claim(
            text=text,
            task=task or self.setup.task,
            relation=relation,
            threshold=threshold,
            readings={seed: self._reading(seed, roles, measure) for seed in self.seeds},
            runs=[run.name for role in roles for run in self.of(role)],
            is_ratio=is_ratio,
        )

    def _reading(
        self, seed: int, roles: Sequence[str], measure: Callable[..., Reading | NoReading]
    ) -> Reading | NoReading:
        missing = [role for role in roles if (role, seed) not in self.runs]
        if missing:
            return NoReading(f"no finished run of {', '.join(missing)}")
        found = measure(*(self.runs[role, seed] for role in roles))
        if isinstance(found, Reading) and not math.isfinite(found.value):
            return NoReading(f"what was measured comes to {found.value}")
        return found


@dataclass(frozen=True)
class Conclusion:
    """What a study found.

    Attributes:
        rows: the numbers, each row with the name of the run that it was measured in.
        claims: the claims of the paper that the study can decide.
        panels: of its figure.
        files: JSON to be written beside the runs it belongs to, by path.
    """

    rows: Sequence[Row]
    claims: Sequence[Claim]
    panels: Sequence[Panel]
    files: Mapping[Path, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study(Generic[S]):
    """A protocol.

    Attributes:
        settings: the model of its ``[study]`` table.
        plan: what to run. Raises: InputError if the configuration does not suit the study.
        conclude: a pure function of what was measured. Runs may be missing.
        stages: whether it takes a run of several tasks; the others take exactly one.
    """

    settings: type[S]
    plan: Callable[[Setup[S]], Plan]
    conclude: Callable[[Evidence[S]], Conclusion]
    stages: bool = False


def merge(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with ``changes``, table by table; the tables of tasks are replaced whole."""
    merged = dict(data)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and key not in TASK_TABLES:
            value = merge(old, value)
        merged[key] = value
    return merged
