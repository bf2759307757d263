"""Running a plan: finished runs are reused, unfinished ones resumed, missing ones trained.

A run that fails is told and the others go on; those that begin from it are passed over. An
interruption ends everything, and leaves everything to be gone on with.
"""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fastslow import training
from fastslow.config import RunConfig
from fastslow.errors import FastslowError, InputError
from fastslow.interruption import InterruptedRunError
from fastslow.run import checkpoint as checkpoints
from fastslow.run.folder import CHECKPOINTS, CONFIG
from fastslow.run.inside import load_config
from fastslow.run.record import RunRecord, read_run
from fastslow.run.timing import clock
from fastslow.studies.cost import most_rollouts
from fastslow.studies.plan import Key, Plan, RunSpec

Status = Literal["finished", "unfinished", "to train"]

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What became of a plan.

    Attributes:
        finished: runs by role and seed.
        missing: why something is not there, by what it is.
    """

    finished: dict[Key, RunRecord] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def take_stock(plan: Plan, say: Say) -> Outcome:
    """What of ``plan`` is finished; trains nothing."""
    outcome = Outcome()
    for spec in plan.runs:
        name = _name(spec)
        try:
            state = status(spec)
            if state == "finished":
                outcome.finished[spec.key] = read_run(spec.path)
            else:
                outcome.missing[name] = _NOT_THERE[state]
        except FastslowError as error:
            outcome.missing[name] = message(error)
        say(f"{name}: {outcome.missing.get(name, 'is finished')}: {spec.path}")
    return outcome


def execute(plan: Plan, say: Say, console: bool) -> Outcome:
    """Run whatever of ``plan`` is not finished yet, in its order.

    Raises:
        InterruptedRunError: a run was asked to stop, and is saved.
    """
    outcome = Outcome()
    for number, spec in enumerate(plan.runs, start=1):
        name = _name(spec)
        place = f"[{number}/{len(plan.runs)}] {name}"
        if spec.after is not None and spec.after.key not in outcome.finished:
            outcome.missing[name] = f"begins from {spec.after.path.name}, which is missing"
            say(f"{place}: {outcome.missing[name]}")
            continue
        try:
            before = status(spec)
            cost = "" if before == "finished" else _cost(plan.runs[number - 1 :], outcome)
            say(f"{place}: {_DOING[before]} {spec.path}{cost}")
            _complete(spec, before, console)
            outcome.finished[spec.key] = read_run(spec.path)
        except InterruptedRunError:
            raise
        except Exception as error:  # whatever broke this run, the others may do better
            outcome.missing[name] = message(error)
            say(f"{place}: failed: {outcome.missing[name]}")
    return outcome


def _name(spec: RunSpec) -> str:
    return f"{spec.role}, seed {spec.config.seed}"


def message(error: Exception) -> str:
    """What to tell of an error that stopped one run and not the study."""
    if isinstance(error, FastslowError):
        return str(error)
    traceback.print_exception(error)  # nobody foresaw it: whoever mends it needs the place
    return f"{type(error).__name__}: {error}"


_DOING: dict[Status, str] = {
    "finished": "reuses",
    "unfinished": "goes on with",
    "to train": "trains",
}
_NOT_THERE: dict[Status, str] = {"unfinished": "is not finished", "to train": "is not begun"}


def status(spec: RunSpec) -> Status:
    """How far the folder of a run has come.

    A run is finished if its last checkpoint is of its last step, and all evaluations of that step
    are there. Its weights are not read for that: whoever goes on from them does, and is told of
    damage. Raises: InputError if the folder holds another run or cannot be read.
    """
    path = spec.path
    if not (path / CONFIG).is_file():
        return "to train"
    _refuse_another(spec, load_config(path))
    saved = checkpoints.latest(path / CHECKPOINTS, read=False)
    if saved is None or saved.state.step < spec.config.total_steps:
        return "unfinished"
    return "finished" if _is_evaluated(spec.config, read_run(path)) else "unfinished"


def _refuse_another(spec: RunSpec, found: RunConfig) -> None:
    """A digest does not say what defaults were: the file does."""
    aside = {"name", "log"} | ({"model"} if spec.after is not None else set())
    wanted, there = (config.model_dump(exclude=aside) for config in (spec.config, found))
    if wanted != there:
        keys = ", ".join(key for key in wanted if wanted[key] != there[key])
        raise InputError(
            f"{spec.path / CONFIG}: says otherwise in {keys} than the study, though their digests "
            "are one: defaults have changed since it was trained. Move the folder away"
        )


def _is_evaluated(config: RunConfig, run: RunRecord) -> bool:
    if not config.eval.problems:
        return True
    there = {"seed", *(("best", "population", "own") if config.uses_fast else ())}
    wanted = {(task, c) for task in config.tasks for c in config.eval.contexts if c in there}
    last = [row for row in run.rows("eval") if row["step"] == config.total_steps]
    return wanted <= {(row["task"], row["context"]) for row in last}


def _complete(spec: RunSpec, before: Status, console: bool) -> None:
    if before == "to train":
        training.train(spec.resolved, console=console)
    elif before == "unfinished":
        # Its configuration is the study's (``status``), so what it names is the user's own choice.
        key = spec.config.fast.reflection.api_key_env  # allowed when the study was prepared
        allowed = [f"fast.reflection.api_key_env={key}"] if key else []
        training.resume(spec.path, allowed, console=console, trust=True)


def _cost(left: Sequence[RunSpec], outcome: Outcome) -> str:
    """What the first of the runs to come samples, and the time that all of them take, judged by
    those that are finished."""
    rollouts = f" (at most {most_rollouts(left[0].config):,} rollouts)"
    costs = [(run, run.seconds / run.config.total_steps) for run in outcome.finished.values()]
    if not costs:
        return rollouts

    def per_step(config: RunConfig) -> float:
        alike = [cost for run, cost in costs if run.config.approach == config.approach]
        return statistics.fmean(alike or [cost for _, cost in costs])

    seconds = sum(per_step(s.config) * s.config.total_steps for s in left if not _is_done(s))
    return f"{rollouts}; {clock(seconds)} of training left at most, judged by the runs before"


def _is_done(spec: RunSpec) -> bool:
    try:
        return status(spec) == "finished"
    except FastslowError:  # it will be told when its turn comes
        return False
