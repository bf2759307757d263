"""``fastslow study``: plan, run what is missing, evaluate, conclude."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console as Terminal

from fastslow import terminal as exits
from fastslow.errors import InputError, RunError
from fastslow.interruption import InterruptedRunError
from fastslow.run.inside import refuse_strange_entries
from fastslow.run.lock import Lock
from fastslow.run.record import Row
from fastslow.streams import tolerant
from fastslow.studies import STUDIES
from fastslow.studies.cost import most_rollouts
from fastslow.studies.evaluations import Kept, evaluate
from fastslow.studies.execute import Outcome, Say, execute, message, status, take_stock
from fastslow.studies.prepare import Prepared, prepare
from fastslow.studies.results import (
    claims_table,
    rows_table,
    runs_table,
    write_conclusion,
    write_plan,
)
from fastslow.studies.study import Conclusion, Evidence


def run_study(
    name: str,
    path: Path,
    overrides: Sequence[str] = (),
    *,
    console: bool = True,
    conclude_only: bool = False,
) -> Conclusion:
    """Run a study, or what is left of it.

    Its runs go to ``log.folder``, where other studies find them, and its results to a folder below
    it (see ``results``).

    Args:
        name: one of ``STUDIES``.
        path: a run configuration, with a ``[study]`` table if the study needs one.
        overrides: ``section.key=value``.
        console: whether progress and results are shown on standard output.
        conclude_only: whether nothing is run, and what is finished is all there is: of a study
            whose runs are made elsewhere or will never be made.

    Raises:
        InputError: the configuration is wrong, or another process is at work on the study.
        RunError: some runs failed. The others are finished, and what can be concluded from them is
            written.
        InterruptedRunError: somebody asked it to stop. The same call goes on.
    """
    prepared = prepare(name, path, overrides)
    terminal = _terminal(quiet=not console)

    def say(line: str) -> None:
        terminal.print(line, soft_wrap=True)

    with _at_work(prepared):
        write_plan(prepared)
        if conclude_only:
            outcome = take_stock(prepared.plan, say)
        else:
            outcome = execute(prepared.plan, say, console)
        rows = _evaluate(prepared, outcome, say, console, conclude_only)
        setup = prepared.setup
        conclusion = prepared.study.conclude(Evidence(setup, outcome.finished, rows))
        written = write_conclusion(prepared, conclusion, outcome.missing)
    for table in (rows_table(conclusion.rows, terminal.width), claims_table(conclusion.claims)):
        terminal.print()
        terminal.print(table)
    say("")
    for file in written:
        say(f"written: {file}")
    if outcome.missing and conclude_only:
        say(f"missing: {len(outcome.missing)} runs and evaluations; what they decide is undecided")
    elif outcome.missing:
        reasons = "\n".join(f"  {what}: {why}" for what, why in outcome.missing.items())
        raise RunError(
            f"study {name}: {len(outcome.missing)} of its runs and evaluations are missing:\n"
            f"{reasons}\nThe others are finished; `{prepared.command}` tries these again"
        )
    return conclusion


def describe(name: str, path: Path, overrides: Sequence[str] = ()) -> None:
    """Print what ``run_study`` would run, and touch nothing. Raises: InputError, as it would."""
    prepared = prepare(name, path, overrides)
    plan, states = prepared.plan, [status(spec) for spec in prepared.plan.runs]
    left = [spec for spec, state in zip(plan.runs, states, strict=True) if state != "finished"]
    terminal = _terminal()
    terminal.print(f"{name}: {STUDIES[name]}")
    terminal.print(runs_table(list(zip(plan.runs, states, strict=True))))
    finished = f"{len(plan.runs) - len(left)} of them finished"
    folder = prepared.setup.config.log.folder
    terminal.print(f"{len(plan.runs)} runs in {folder}, {finished}", soft_wrap=True)
    if plan.evaluations:
        terminal.print(f"{len(plan.evaluations)} evaluations beside those of the runs")
    rollouts = sum(most_rollouts(spec.config) for spec in left)
    terminal.print(f"at most {rollouts:,} rollouts to sample, evaluations aside")
    terminal.print(f"results: {prepared.folder}", soft_wrap=True)


def _evaluate(
    prepared: Prepared, outcome: Outcome, say: Say, console: bool, conclude_only: bool
) -> list[Row]:
    """The rows of all evaluations; those that were made before are not made again."""
    if not prepared.plan.evaluations:
        return []
    kept = Kept(prepared.folder / "evaluations.jsonl")
    for number, evaluation in enumerate(prepared.plan.evaluations, start=1):
        if evaluation.run.key not in outcome.finished or kept.get(evaluation):
            continue
        what = f"evaluation of {evaluation.run.path.name} with {evaluation.weights} weights"
        if conclude_only:
            outcome.missing[what] = "is not made"
            continue
        say(f"[{number}/{len(prepared.plan.evaluations)}] {what}")
        try:
            kept.add(evaluation, evaluate(evaluation, console))
        except InterruptedRunError:
            raise
        except Exception as error:  # as with runs: the others go on
            outcome.missing[what] = message(error)
            say(f"{what}: failed: {outcome.missing[what]}")
    return [row for evaluation in prepared.plan.evaluations for row in kept.get(evaluation)]


@contextmanager
def _at_work(prepared: Prepared) -> Iterator[None]:
    """Hold the study's folder, and say how to go on where it cannot."""
    folder = prepared.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder.parent, folder):
            if path.is_symlink():
                raise InputError(f"{path}: is a link: the results of studies go to real folders")
        refuse_strange_entries(folder)
        lock = Lock(folder)
        try:
            yield
        finally:
            lock.release()
    except InterruptedRunError as stop:
        raise InterruptedRunError(f"{stop}. `{prepared.command}` goes on with the study") from None
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written: {error}. The runs are kept; mend what failed, then "
            f"`{prepared.command}` goes on"
        ) from error


def _terminal(quiet: bool = False) -> Terminal:
    out = tolerant(exits.raw(sys.stdout))
    found: Terminal = exits.console(out, markup=False, highlight=False, emoji=False, quiet=quiet)
    return found
