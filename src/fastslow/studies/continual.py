"""Several tasks, one after the other, in one run (paper, continual learning).

The configuration's ``[[stages]]``, by RL and by FST, from a seed context that should say nothing of
any task. The base weights are evaluated on all tasks too, so that an accuracy can be set between
what was there before (0) and the best that either method reached with this seed (100):
``normalised`` in the rows.

Contexts move on with the tasks, so FST's end is evaluated under each task's own context as well,
the best one that the last fast phase on it left: what is lost under the contexts in force and not
under that one, the weights still have.
"""

from __future__ import annotations

from fastslow.config import Method
from fastslow.config.base import Fraction
from fastslow.errors import InputError
from fastslow.run.record import Row, RunRecord
from fastslow.studies.claims import Claim, NoReading, Reading
from fastslow.studies.figures import Line, line_panel
from fastslow.studies.measured import curve, difference, final
from fastslow.studies.plan import Evaluation, Plan
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

ROLES: tuple[Method, ...] = ("rl", "fst")


class Settings(StudySettings):
    """``[study]`` of continual."""

    gain: Fraction = 0.05
    """Accuracy above the base weights at the end of its stage with which a task is acquired."""
    margin: Fraction = 0.05
    """Accuracy that may be lost between the end of its stage and the end of the run, and the task
    still counts as kept."""


def plan(setup: Setup[Settings]) -> Plan:
    if len(setup.config.tasks) < 2:
        raise InputError(
            f"{setup.source}: study continual takes several tasks, one after the other: give "
            "[[stages]] with a task and steps for each"
        )
    runs = [setup.run(role, role, seed) for seed in setup.settings.seeds for role in ROLES]
    before = setup.config.eval.model_copy(update={"contexts": ("seed",)})
    base = [Evaluation(run, "base", before) for run in runs if run.role == "rl"]
    own = setup.config.eval.model_copy(update={"contexts": ("own",)})
    end = [Evaluation(run, "trained", own) for run in runs if run.role == "fst"]
    return Plan(tuple(runs), (*base, *end))


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    ends = _ends(evidence)
    tasks = list(evidence.setup.config.tasks)
    claims = [_acquires(evidence, role, task, ends[task]) for task in tasks for role in ROLES]
    claims += [
        _keeps(evidence, role, task, ends[task])
        for task in tasks
        for role in ROLES
        if ends[task] < evidence.setup.config.total_steps
    ]
    claims += [
        _keeps(evidence, "fst", task, ends[task], own=True)
        for task in tasks
        if ends[task] < evidence.setup.config.total_steps
    ]
    rows = [
        row
        for role in ROLES
        for run in evidence.of(role)
        for task in tasks
        for row in _rows(evidence, role, run, task, set(ends.values()))
    ]
    panels = [
        line_panel(
            task,
            "slow step",
            "accuracy",
            {
                **{role: [curve(run, task=task) for run in evidence.of(role)] for role in ROLES},
                "fst, the task's own context": _own_ends(evidence, task),
            },
            boundaries=sorted(set(ends.values()))[:-1],
        )
        for task in tasks
    ]
    return Conclusion(rows, claims, panels)


def _ends(evidence: Evidence[Settings]) -> dict[str, int]:
    """The step at which the last stage of each task ends."""
    config, ends, step = evidence.setup.config, dict[str, int](), 0
    for stage in config.all_stages:
        step += stage.steps
        ends |= {config.task_name(share.task): step for share in stage.shares}
    return ends


def _acquires(evidence: Evidence[Settings], role: str, task: str, end: int) -> Claim:
    gain = evidence.setup.settings.gain

    def measure(run: RunRecord) -> Reading | NoReading:
        return difference(_at(run, task, end), _base(evidence, run.config.seed, task))

    return evidence.claim(
        f"{role.upper()} acquires {task} in its stage (gains at least {gain:g})",
        "at least",
        gain,
        (role,),
        measure,
        task=task,
    )


def _keeps(
    evidence: Evidence[Settings], role: str, task: str, end: int, own: bool = False
) -> Claim:
    settings = evidence.setup.settings
    under = " under its own context" if own else ""

    def measure(run: RunRecord) -> Reading | NoReading:
        seed, acquired = run.config.seed, _at(run, task, end)
        gained = difference(acquired, _base(evidence, seed, task))
        if isinstance(gained, NoReading):
            return gained
        if gained.value < settings.gain:
            return NoReading("the task was not acquired in its stage: there is nothing to keep")
        last = _own(evidence, seed, task) if own else final(run, task=task)
        return difference(last, acquired)

    return evidence.claim(
        f"{role.upper()} keeps {task} to the end of the run{under} (within {settings.margin:g})",
        "at least",
        -settings.margin,
        (role,),
        measure,
        task=task,
    )


def _rows(
    evidence: Evidence[Settings], role: str, run: RunRecord, task: str, steps: set[int]
) -> list[Row]:
    """The accuracy on a task at the end of every stage since it began."""
    seed = run.config.seed
    base, best = _base(evidence, seed, task), _best(evidence, seed, task)
    rows = []
    for row in run.evaluations(task=task):
        if row["step"] not in steps:
            continue
        found: Row = {"role": role, "seed": seed, "run": run.name, "task": task}
        found |= {"step": row["step"], "accuracy": row["accuracy"]}
        kept = _own(evidence, seed, task) if role == "fst" else None
        if kept is not None and row["step"] == run.config.total_steps:
            found["accuracy/own"] = kept
        if base is not None and best is not None and best > base:
            found["normalised"] = 100 * (row["accuracy"] - base) / (best - base)
        rows.append(found)
    return rows


def _at(run: RunRecord, task: str, step: int) -> float | None:
    rows = [row for row in run.evaluations(task=task) if row["step"] == step]
    return rows[-1]["accuracy"] if rows else None


def _base(evidence: Evidence[Settings], seed: int, task: str) -> float | None:
    return evidence.accuracy("rl", seed, "base", "seed", task)


def _own(evidence: Evidence[Settings], seed: int, task: str) -> float | None:
    return evidence.accuracy("fst", seed, "trained", "own", task)


def _own_ends(evidence: Evidence[Settings], task: str) -> list[Line]:
    """A point a seed: the last step, and the accuracy there under the task's own context."""
    ends = [(run, _own(evidence, run.config.seed, task)) for run in evidence.of("fst")]
    return [([run.config.total_steps], [kept]) for run, kept in ends if kept is not None]


def _best(evidence: Evidence[Settings], seed: int, task: str) -> float | None:
    """The best accuracy on a task that either method reached with this seed."""
    runs = [evidence.runs[role, seed] for role in ROLES if (role, seed) in evidence.runs]
    found = [row["accuracy"] for run in runs for row in run.evaluations(task=task)]
    return max(found, default=None)


STUDY = Study(Settings, plan, conclude, stages=True)
