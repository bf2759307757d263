"""What a study trains and evaluates: a plan, made before anything is run.

A run is known by its digest, which depends on what it computes and on nothing else. Its folder's
name ends in the digest, so two studies that plan the same run share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fastslow.config import EvalConfig, RunConfig, TaskConfig
from fastslow.run import checkpoint as checkpoints
from fastslow.run.folder import CHECKPOINTS

Weights = Literal["base", "trained"]

Key = tuple[str, int]
"""A run's role and seed, by which a study knows it."""


@dataclass(frozen=True)
class RunSpec:
    """A run that a study needs.

    Attributes:
        role: what it is to the study: "rl", "fst", "fst -> rl", "K = 1".
        config: all of it but the name and, with ``after``, the model.
        after: the run whose final weights it begins from; None: ``config.model``.
    """

    role: str
    config: RunConfig
    after: RunSpec | None = None

    @property
    def key(self) -> Key:
        return self.role, self.config.seed

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of what the run computes: of every key that is not at its default,
        without names and folders. Keys that a later version adds leave it as it is."""
        identity = self.config.model_dump(
            mode="json", exclude={"name", "log"}, exclude_defaults=True
        )
        if self.after is not None:
            identity["model"] = self.after.digest
        return _digest(identity)

    @property
    def path(self) -> Path:
        """The run's folder: ``<log.folder>/<method>-<task>-seed<n>-<digest8>``."""
        readable = self.config.model_copy(update={"name": None}).run_name
        return self.config.log.folder / f"{readable}-{self.digest[:8]}"

    @property
    def resolved(self) -> RunConfig:
        """The configuration to train."""
        model = {} if self.after is None else {"model": str(self.after.last_checkpoint)}
        return self.config.model_copy(update={"name": self.path.name, **model})

    @property
    def last_checkpoint(self) -> Path:
        """The folder of the checkpoint of the run's last step: no earlier one stands in for it."""
        return checkpoints.path_of(self.path / CHECKPOINTS, self.config.total_steps)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a finished run beside those that the run made itself.

    Attributes:
        run: the run.
        weights: those of its last checkpoint, or those that it began from.
        settings: split, problems, samples and contexts.
        tasks: tasks by name; None: the run's own.
    """

    run: RunSpec
    weights: Weights
    settings: EvalConfig
    tasks: Mapping[str, TaskConfig] | None = None

    @cached_property
    def digest(self) -> str:
        tasks = self.tasks or {}
        return _digest(
            {
                "run": self.run.digest,
                "weights": self.weights,
                "settings": self.settings.model_dump(mode="json", exclude_defaults=True),
                "tasks": {name: task.model_dump(mode="json") for name, task in tasks.items()},
            }
        )


@dataclass(frozen=True)
class Plan:
    """The runs of a study, each behind the one that it begins from, and its evaluations."""

    runs: tuple[RunSpec, ...]
    evaluations: tuple[Evaluation, ...] = ()

    def __post_init__(self) -> None:
        before: set[Key] = set()
        for run in self.runs:
            if run.key in before:
                raise ValueError(f"a plan holds each role and seed once; found {run.key} twice")
            if run.after is not None and run.after.key not in before:
                raise ValueError(f"{run.key} comes before the run that it begins from")
            before.add(run.key)

    @cached_property
    def digest(self) -> str:
        runs = [[run.role, run.digest] for run in self.runs]
        return _digest([runs, [evaluation.digest for evaluation in self.evaluations]])


def _digest(identity: Any) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
