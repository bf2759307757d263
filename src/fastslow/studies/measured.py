"""What the studies read off a run's rows."""

from __future__ import annotations

from fastslow.run.record import Row, RunRecord
from fastslow.studies.claims import NoReading, Reading
from fastslow.studies.figures import Line


def final(run: RunRecord, task: str | None = None) -> float | None:
    """Accuracy at the end of a run, or None if it was not evaluated."""
    rows = run.evaluations(task=task)
    return rows[-1]["accuracy"] if rows else None


def peak(run: RunRecord) -> float | None:
    """The best accuracy of a run's evaluations, or None if it was not evaluated."""
    return max((row["accuracy"] for row in run.evaluations()), default=None)


def curve(run: RunRecord, task: str | None = None) -> Line:
    """Steps and accuracies."""
    rows = run.evaluations(task=task)
    return [row["step"] for row in rows], [row["accuracy"] for row in rows]


def identity(role: str, run: RunRecord) -> Row:
    """What every row of a result begins with."""
    return {"role": role, "seed": run.config.seed, "run": run.name}


def summary(role: str, run: RunRecord) -> Row:
    """What a run came to and what it cost; what it does not have is left out."""
    found: Row = identity(role, run)
    if rows := run.evaluations():
        last = rows[-1]
        found |= {"task": last["task"], "context": last["context"], "first": rows[0]["accuracy"]}
        found |= {"final": last["accuracy"], "peak": peak(run)}
        ends = {f"final/{end}": last.get(f"accuracy/{end}") for end in ("low", "high")}
        found |= {key: value for key, value in ends.items() if value is not None}
    return {
        **found,
        "steps": run.config.total_steps,
        "rollouts": sum(row.get("rollouts/sampled", 0) for row in run.metrics),
        "tokens": run.tokens_sampled,
        "seconds": round(run.seconds, 1),
    }


def difference(first: float | None, second: float | None) -> Reading | NoReading:
    """``first`` - ``second``, where both were measured."""
    if first is None or second is None:
        return NoReading("a run did not measure it")
    # Rounded, or 0.62 would fall short of 0.64 by more than a margin of 0.02.
    return Reading(round(first - second, 12))


def final_difference(first: RunRecord, second: RunRecord) -> Reading | NoReading:
    """By how much the first run's accuracy at the end exceeds the second's."""
    return difference(final(first), final(second))
