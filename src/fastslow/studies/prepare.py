"""From a configuration file to a study's plan, checked before anything is run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from fastslow import config as configuration
from fastslow.build import build_curriculum, build_stages
from fastslow.config import RunConfig, apply_override, validate
from fastslow.curriculum import Curriculum
from fastslow.errors import InputError
from fastslow.models import resolve
from fastslow.studies import STUDIES
from fastslow.studies.plan import Plan
from fastslow.studies.study import Setup, Study
from fastslow.tasks import registry
from fastslow.types import Split


@dataclass(frozen=True)
class Prepared:
    """A study that is ready to be run.

    Attributes:
        name: as the command knows it.
        command: what repeats it.
    """

    name: str
    command: str
    study: Study[Any]
    setup: Setup[Any]
    plan: Plan

    @property
    def folder(self) -> Path:
        """Where the results go: ``<log.folder>/studies/<name>-<digest8 of the plan>``."""
        folder = self.setup.config.log.folder
        return folder / "studies" / f"{self.name}-{self.plan.digest[:8]}"


def find(name: str) -> Study[Any]:
    """A study by its name. Raises: InputError if there is none."""
    if name not in STUDIES:
        raise InputError(
            f"fastslow study: there is no study {name!r}. Allowed: {', '.join(STUDIES)}"
        )
    module = import_module(f"fastslow.studies.{name.replace('-', '_')}")
    study: Study[Any] = module.STUDY
    return study


def prepare(name: str, path: Path, overrides: Sequence[str]) -> Prepared:
    """Read a configuration with its ``[study]`` table, make the plan, and see that it can be run.

    Reads the tasks' data; loads no model, writes nothing.

    Raises:
        InputError: a key, the model's name, a task or its data is wrong, or the configuration does
            not suit the study.
    """
    study = find(name)
    config, table = _read(path, overrides)
    settings = validate(study.settings, table, str(path), "study")
    if not study.stages and len(config.tasks) > 1:
        raise InputError(
            f"{path}: study {name} is about one task; found {', '.join(config.tasks)}: give a "
            "[task] with steps instead of [[stages]] of several"
        )
    _require_evaluations(config, str(path))
    setup = Setup(str(path), config, settings)
    options = [part for override in overrides for part in ("--set", override)]
    command = shlex.join(["fastslow", "study", name, str(path), *options])
    prepared = Prepared(name, command, study, setup, study.plan(setup))
    _check(prepared)
    return prepared


def _read(path: Path, overrides: Sequence[str]) -> tuple[RunConfig, dict[str, Any]]:
    """The run configuration in a file, and its ``[study]`` table."""
    data = configuration.read_toml(path)
    study = {"study": data.pop("study", {})}
    of_study = [o for o in overrides if re.match(r"\s*study\s*[.=]", o)]
    for override in of_study:
        apply_override(study, override)
    if not isinstance(study["study"], dict):
        raise InputError(f"{path}: study: is a value; found {study['study']!r}. Allowed: a table")
    of_run = [override for override in overrides if override not in of_study]
    config = configuration.parse(data, of_run, source=str(path))
    configuration.refuse_other_keys(config, of_run, str(path))
    return config, study["study"]


def _require_evaluations(config: RunConfig, source: str) -> None:
    """Studies read accuracies under the seed context and, of evolved contexts, the best."""
    if not config.eval.problems:
        raise InputError(f"{source}: eval.problems is 0, and a study reads accuracies: set it")
    if lacking := {"seed", "best"} - set(config.eval.contexts):
        raise InputError(
            f"{source}: eval.contexts lacks {', '.join(sorted(lacking))}, which a study reads; "
            f"found {list(config.eval.contexts)}"
        )


def _check(prepared: Prepared) -> None:
    """What is wrong for every run is told at once, and not by each of them when its turn comes."""
    setup, plan = prepared.setup, prepared.plan
    resolve(setup.config.model)
    # Runs that differ in their seed or in how they learn read the same data.
    read: dict[str, Curriculum] = {}
    for spec in plan.runs:
        if (data := _data(spec.config)) not in read:
            own = data == _data(setup.config)
            source = setup.source if own else f"{setup.source}: the run {spec.role!r}"
            read[data] = build_curriculum(spec.config, source)
            build_stages(spec.config, read[data], source)
            _require_problems(read[data], spec.config.eval.split, f"{source}: eval.split")
    others: dict[str, Curriculum] = {}
    for evaluation in plan.evaluations:
        asked = [read[_data(evaluation.run.config)]] if evaluation.tasks is None else []
        for name, task in (evaluation.tasks or {}).items():
            if name not in others:
                source = f"{setup.source}: study.tasks.{name}"
                created = registry.create(task, setup.config.seed, source)
                others[name] = Curriculum({name: created})
            asked.append(others[name])
        for curriculum in asked:
            _require_problems(curriculum, evaluation.settings.split, f"{setup.source}: study.split")


def _require_problems(curriculum: Curriculum, split: Split, source: str) -> None:
    """An evaluation of no problems would be missing, after all runs were trained for it."""
    for name in curriculum.names:
        if not curriculum.problems(name, split):
            raise InputError(
                f"{source}: a study evaluates on it; found {split!r}, of which task {name} holds "
                "no problems. Name another split, or give the task problems for this one"
            )


def _data(config: RunConfig) -> str:
    stages = [stage.model_dump(mode="json") for stage in config.all_stages]
    return json.dumps([stages, config.slow.problems, config.fast.pool, config.reserves_pool])
