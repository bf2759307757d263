"""A run's folder: everything needed to read, resume or repeat a training.

::

    config.toml             the resolved configuration
    date                    the day that the run began, which the chat template is told
    metrics.jsonl           one row for each slow step, fast phase and evaluation
    contexts.jsonl          every context ever proposed, kept or not
    rollouts/*.parquet      every rollout (see ``rollouts``)
    inputs.json             digests of what the configuration names (see ``inputs``)
    checkpoints/step_N/     weights, optimiser state, and the state of the loop (see ``checkpoint``)
    reflections.jsonl       what the reflection model was asked and answered (see ``answers``)
    anomalies/              batches that could not be trained on, and why (see ``anomalies``)
    events/                 the same metrics for TensorBoard (see ``events``)
    lock                    held by the process that trains (see ``lock``)
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import SafetensorError

from fastslow import config as configuration
from fastslow.config import RunConfig
from fastslow.errors import InputError, RunError
from fastslow.fast.base import Evolution
from fastslow.run import checkpoint as checkpoints
from fastslow.run import disk, inputs, inside
from fastslow.run.anomalies import forget_anomalies, write_anomaly
from fastslow.run.answers import Answers
from fastslow.run.best import best_step
from fastslow.run.changes import refuse_changes
from fastslow.run.checkpoint import Checkpoint, Mark
from fastslow.run.events import Events
from fastslow.run.inputs import Acceptance, Input, Inputs
from fastslow.run.jsonl import JsonLines, read_lines
from fastslow.run.lock import Lock
from fastslow.run.observer import Observer, Phase
from fastslow.run.record import trained_context
from fastslow.run.rollouts import write_rollouts
from fastslow.run.serial import context_to_json
from fastslow.run.state import LoopState
from fastslow.run.stored import ContextRow, MetricsRow
from fastslow.run.toml import to_toml
from fastslow.slow.anomalies import Anomaly
from fastslow.types import Candidate, Population, Rollout

log = logging.getLogger(__name__)

CONFIG = inside.CONFIG
METRICS = "metrics.jsonl"
CHECKPOINTS = checkpoints.FOLDER
_LONGEST_NAME = 200
"""Bytes of a run's name. File systems take 255, and hidden files beside a folder have longer names
than it."""

_BEFORE_A_RUN = {
    "lock",
    inputs.FILE,
    *(disk.partial(Path(name)).name for name in (CONFIG, inputs.FILE)),
}
"""What a process that was killed before its run began may have left in the folder."""


class RunFolder(Observer):
    """The folder of a run that is being trained: an observer that writes down what it is told.

    ``create`` begins a run and ``open`` goes on with one; both hold the folder's lock until
    ``close``. To read a run, no RunFolder is needed: see ``read_lines``, ``read_rollouts``,
    ``config.load`` and ``checkpoint.latest``.

    Every method that writes raises RunError if the disk refuses; what was written before stays.
    """

    def __init__(self, path: Path, config: RunConfig, found: Inputs, lock: Lock) -> None:
        """Use ``create`` or ``open``."""
        self.path = path
        self.config = config
        self.inputs = found
        self._lock = lock
        for name in ("rollouts", CHECKPOINTS):
            (path / name).mkdir(exist_ok=True)
        checkpoints.recover(path / CHECKPOINTS)
        self._metrics = JsonLines(path / METRICS)
        self._contexts = JsonLines(path / "contexts.jsonl")
        self._answers = Answers(path / "reflections.jsonl")
        self._events: Events | None = None
        self._mark: Mark | None = None
        self.discard: Callable[[Path], None] = lambda path: None
        """Called before a checkpoint is removed: see ``Trainer.discard``."""

    @classmethod
    def create(cls, path: Path, config: RunConfig, found: Inputs | None = None) -> RunFolder:
        """Begin a run in a new or empty folder.

        Args:
            found: what it is given beside its configuration; None: nothing is recorded of that.

        Raises:
            InputError: the folder holds a run or anything else, or cannot be made.
        """
        text, found = to_toml(config), found or Inputs()
        refuse_used(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            inside.refuse_strange_entries(path)
            with _kept_only_on_success(Lock(path)) as lock:
                refuse_used(path)  # another process may have begun and ended a run in between
                disk.write_text(path / inputs.FILE, found.to_json())
                disk.write_text(path / CONFIG, text)  # the last: it makes the folder a run's
                return cls(path, config, found, lock)
        except OSError as error:
            raise InputError(f"{path}: cannot be made a run's folder: {error}") from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Go on with a run, after a call of ``rewind``.

        Raises:
            InputError: it is no run, holds what no run holds (see ``inside``), or another process
                is at work on it.
        """
        refuse_checkpoint(path)
        config, found = inside.load_config(path), inputs.read_inputs(path)
        try:
            with _kept_only_on_success(Lock(path)) as lock:
                return cls(path, config, found, lock)
        except OSError as error:
            raise RunError(f"{path}: cannot be written to: {error}") from error

    def reconfigure(self, checkpoint: Checkpoint | None, overrides: Iterable[str] = ()) -> None:
        """Take up what somebody wants changed: ``overrides`` (``section.key=value``), and what was
        edited in config.toml since ``checkpoint`` was written. ``rewind`` writes it down.

        Raises:
            InputError: some key may not change (see ``changes``), or the configuration is wrong.
        """
        source = self.path / CONFIG
        trained = configuration.load(checkpoint.path / CONFIG) if checkpoint else self.config
        wanted = configuration.load(source, overrides)
        refuse_changes(trained, wanted, str(source))
        self.config = wanted

    def trained_on(self, checkpoint: Checkpoint | None) -> Inputs:
        """What the run was given until ``checkpoint`` was written, or when it was begun."""
        return inputs.read_inputs(checkpoint.path) if checkpoint else self.inputs

    def take_up(
        self,
        checkpoint: Checkpoint | None,
        found: Mapping[str, Input],
        moved: Mapping[str, str],
        *,
        accept_changes: bool,
    ) -> None:
        """Go on with the inputs ``found``. ``rewind`` writes them down.

        Raises:
            InputError: they are not those of ``checkpoint``, and ``accept_changes`` is not set.
        """
        before = self.trained_on(checkpoint)
        changes = differing_inputs(before, found, str(self.path), accept=accept_changes)
        accepted = self.inputs.accepted
        if changes:
            step = checkpoint.state.step if checkpoint else 0
            accepted = (*accepted, Acceptance(step=step, changes=tuple(changes)))
        self.inputs = self.inputs.model_copy(
            update={"moved": moved, "found": found, "accepted": accepted}
        )

    def close(self) -> None:
        """Close the files and give the lock back."""
        if self._events is not None:
            self._events.close()
        self._metrics.close()
        self._contexts.close()
        self._answers.close()
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # What the loop tells.

    def record_seed(self, population: Population) -> None:
        """Write down the population that a run starts with, once, when it starts."""
        for rank, candidate in enumerate(population.candidates, start=1):
            self._record_context({"step": 0}, candidate, rank)

    def on_rollouts(
        self,
        phase: Phase,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
    ) -> None:
        if self.config.log.rollouts:
            with self._writing("rollouts"):
                write_rollouts(self.path / "rollouts", phase, step, cycle, rollouts)

    def on_evolution(self, step: int, cycle: int, evolution: Evolution) -> None:
        ranks = {digest: i for i, digest in enumerate(evolution.population.digests, start=1)}
        place = {"step": step, "phase_cycle": cycle}
        for candidate in evolution.candidates:
            self._record_context(place, candidate, ranks.get(candidate.context.digest))

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        """Write the row down with its time. None, a measure with nothing behind it, is left out."""
        position = {key: row[key] for key in ("step", "cycle", "phase")}
        measures = {key: value for key, value in row.items() if value is not None}
        stamped = {**position, "time": time.time(), **measures}
        with self._writing("metrics.jsonl"):
            self._metrics.append(stamped)
            if self.config.log.tensorboard:
                self._tensorboard().metrics(stamped)

    def on_anomaly(
        self,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
        anomaly: Anomaly,
    ) -> None:
        with self._writing("anomalies"):
            write_anomaly(self.path / "anomalies", step, cycle, rollouts, anomaly)

    def on_state(self, state: LoopState) -> None:
        self._mark = Mark(
            state,
            metrics_bytes=self._metrics.size,
            contexts_bytes=self._contexts.size,
            rollout_files=tuple(sorted(p.name for p in self._rollout_files())),
            answers_bytes=self._answers.size,
        )

    def remembering(self, ask: Callable[[str], str]) -> Callable[[str], str]:
        """The reflection model, with everything that it is asked and answers written down. What it
        has answered already, before the run was resumed, it is not asked again."""

        def answer(prompt: str) -> str:
            found = self._answers.again(prompt)
            if found is None:
                found = ask(prompt)
                with self._writing("reflections.jsonl"):
                    self._answers.add(prompt, found)
            return found

        return answer

    # Checkpoints.

    def save_checkpoint(self, policy_save: Callable[[Path], None]) -> Checkpoint:
        """Save the state that ``on_state`` told last, which ``rewind`` also counts as told, and
        remove the checkpoints that ``[log]`` does not want kept beside it.

        ``policy_save`` writes the weights and the optimiser state that belong to that state into
        the folder it is given.

        Raises:
            RunError: it could not be written. The checkpoint before it is intact.
        """
        if self._mark is None:
            raise ValueError("there is nothing to save: on_state was never called")
        with self._writing(f"checkpoints/step_{self._mark.state.step:06d}"):
            # The lengths that the checkpoint records must hold after a power cut as well.
            self._metrics.sync()
            self._contexts.sync()
            self._answers.sync()

            def write(folder: Path) -> None:
                policy_save(folder)
                disk.write_text(folder / CONFIG, to_toml(self.config))
                disk.write_text(folder / inputs.FILE, self.inputs.to_json())

            checkpoint = checkpoints.save(self.path / CHECKPOINTS, self._mark, write)
            self._prune(checkpoint)
            return checkpoint

    def latest_checkpoint(self) -> Checkpoint | None:
        """The latest checkpoint that is whole. One that is damaged is named in a warning."""
        return checkpoints.latest(self.path / CHECKPOINTS)

    def rewind(self, checkpoint: Checkpoint | None) -> None:
        """Take back whatever was written after ``checkpoint``, or everything if there is none, so
        that the run that goes on from there writes no row twice.

        Raises:
            RunError: a file is shorter than it was then, so rows are lost.
        """
        mark = checkpoint.mark if checkpoint else None
        if checkpoint is not None:
            _tell_versions(checkpoint)
        with self._writing("."):
            if to_toml(self.config) != (self.path / CONFIG).read_text(encoding="utf-8"):
                disk.write_text(self.path / CONFIG, to_toml(self.config))
            if self.inputs != inputs.read_inputs(self.path):
                disk.write_text(self.path / inputs.FILE, self.inputs.to_json())
            self._cut(self._metrics, mark.metrics_bytes if mark else 0)
            self._cut(self._contexts, mark.contexts_bytes if mark else 0)
            self._answers.rewind(mark.answers_bytes if mark else 0)
            for path in self._rollout_files():
                if mark is None or path.name not in mark.rollout_files:
                    path.unlink()
            forget_anomalies(self.path / "anomalies", after=mark.state.step if mark else -1)
            if checkpoint is not None:
                # A process killed in between may have left older ones than are to be kept.
                self._prune(checkpoint)
            self._write_events_anew()
        self._mark = mark

    def _prune(self, current: Checkpoint) -> None:
        folder, best = self.path / CHECKPOINTS, None
        if self.config.log.keep_best:
            rows = read_lines(self._metrics.path, model=MetricsRow)
            best = best_step(rows, trained_context(self.config), checkpoints.steps(folder))
        checkpoints.prune(folder, current, self.config.log.keep, best, self.discard)

    def _cut(self, file: JsonLines, size: int) -> None:
        try:
            file.cut(size)
        except ValueError as error:
            raise RunError(
                f"{file.path}: {error}, which it held when the checkpoint was written: rows are "
                "missing. Restore the file, or train under another name"
            ) from None

    def _write_events_anew(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
        inside.remove(self.path / "events")
        if self.config.log.tensorboard and self._metrics.size + self._contexts.size:
            for row in read_lines(self._metrics.path, model=MetricsRow):
                self._tensorboard().metrics(row)
            for record in read_lines(self._contexts.path, model=ContextRow):
                self._tensorboard().context(record)

    def _record_context(
        self, place: Mapping[str, int], candidate: Candidate, rank: int | None
    ) -> None:
        """``rank`` is the candidate's place in the population, from 1; None if it was not kept."""
        record: dict[str, Any] = {
            **place,
            "time": time.time(),
            "digest": candidate.context.digest,
            "parents": candidate.parents,
            "origin": candidate.origin,
            "cycle": candidate.cycle,
            "kept": rank is not None,
            **({} if rank is None else {"rank": rank}),
            **({} if candidate.mean is None else {"mean": candidate.mean}),
            **context_to_json(candidate.context),
            "scores": dict(candidate.scores),
            "shown": sorted(candidate.shown),
        }
        with self._writing("contexts.jsonl"):
            self._contexts.append(record)
            if self.config.log.tensorboard:
                self._tensorboard().context(record)

    def _tensorboard(self) -> Events:
        if self._events is None:
            self._events = Events(self.path / "events")
        return self._events

    def _rollout_files(self) -> list[Path]:
        return list((self.path / "rollouts").glob("*.parquet"))

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Turn an error of the disk into one that says what is intact and what to do."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            latest = self.latest_checkpoint()
            intact, origin = (
                (f"The checkpoint {latest.path} is intact", "it")
                if latest
                else ("No checkpoint was written before", "the start")
            )
            raise RunError(
                f"{self.path / what} could not be written: {error}. {intact}. Free some space, or "
                f"mend what failed; then `fastslow resume {self.path}` goes on from {origin}"
            ) from error


def _tell_versions(checkpoint: Checkpoint) -> None:
    """Warn where other versions go on with a run than wrote its checkpoint."""
    here = checkpoints.current_versions()
    differing = [
        f"{name} {version} (here {here.get(name, 'none')})"
        for name, version in checkpoint.versions.items()
        if here.get(name) != version
    ]
    if differing:
        log.warning(
            "%s was written by %s: from here on the run may differ in the last bit from one that "
            "was never stopped",
            checkpoint.path,
            ", ".join(differing),
        )


@contextmanager
def _kept_only_on_success(lock: Lock) -> Iterator[Lock]:
    try:
        yield lock
    except BaseException:
        lock.release()
        raise


def folder_of(config: RunConfig, source: str) -> Path:
    """The folder in which a run of this configuration stands: within ``log.folder``, and nowhere
    else. Raises: InputError if its name is no name of a folder."""
    name = config.run_name
    if name.strip() in ("", ".", "..") or re.search(r"[/\\\x00]", name):
        raise InputError(
            f"{source}: name: expected the name of one folder, without separators; found {name!r}: "
            "set log.folder to the folder that it is to stand in"
        )
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        raise InputError(
            f"{source}: name: has {_LONGEST_NAME} bytes at most; found {name[:50]!r}...: set a "
            "shorter one"
        )
    return config.log.folder / name


def refuse_checkpoint(path: Path) -> None:
    """Raises: InputError if ``path`` is a checkpoint, in which no run goes on."""
    if checkpoints.is_checkpoint(path):
        run = checkpoints.run_of(path)
        remedy = (
            f"`fastslow resume {run}` goes on with its run from the latest one"
            if run
            else "give the folder of its run"
        )
        raise InputError(
            f"{path}: is a checkpoint, not a run: {remedy}. To begin another run with its "
            'weights, set model = "..." to it'
        )


def differing_inputs(
    before: Inputs, found: Mapping[str, Input], run: str, *, accept: bool
) -> list[str]:
    """One line for each input that is not what it was; of inputs that ``before`` does not hold
    nothing is known.

    Args:
        before: what was recorded.
        found: what there is now.
        run: whose they are, for messages.
        accept: whether that they differ is only warned of.

    Raises:
        InputError: some differ and are not accepted.
    """
    if not before.found:
        log.warning("%s: its inputs were not recorded: changes of them are not noticed", run)
        return []
    changes = inputs.differences(before.found, found)
    if changes and not accept:
        raise InputError(
            "\n".join(f"{run}: {change}" for change in changes)
            + "\nThese inputs are not what the run was trained with. Put back what they were, say "
            "with --set KEY=... where that is now, or give --accept-changes to go on with what "
            "there is"
        )
    for change in changes:
        log.warning("%s: goes on with another input: %s", run, change)
    return changes


def refuse_used(path: Path) -> None:
    """Raises: InputError if ``path`` holds anything, is no folder, or stands within a run."""
    for above in Path(os.path.realpath(path)).parents:
        if checkpoints.is_checkpoint(above) or _is_run(above):
            raise InputError(
                f"{path}: stands within {above}, which is the folder of another run: set name or "
                "log.folder to another one"
            )
    try:
        found = {item.name for item in path.iterdir()} - _BEFORE_A_RUN
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be made a run's folder: {error}") from None
    if CONFIG in found:
        raise InputError(
            f"{path}: holds a run already: `fastslow resume {path}` goes on with it; "
            "to start another, set name or log.folder to another one"
        )
    if found:
        raise InputError(
            f"{path}: is not empty and holds no run, for there is no {CONFIG} in it: "
            "set name or log.folder to another one"
        )


def _is_run(path: Path) -> bool:
    files = (path / CONFIG, path / METRICS)
    return os.path.isdir(path / CHECKPOINTS) and all(map(os.path.isfile, files))
