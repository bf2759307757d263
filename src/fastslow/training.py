"""Train, go on, evaluate: what the commands of the same names do."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastslow import config as configuration
from fastslow.build import Build, build_curriculum
from fastslow.config import EvalConfig, RunConfig, TaskConfig
from fastslow.errors import InputError
from fastslow.fast.llm import Ask as AskReflector
from fastslow.inputs import ASKED, MODEL, Located, locate, take
from fastslow.interruption import InterruptedRunError, Interruption
from fastslow.places import given, working_folder, working_in
from fastslow.run import checkpoint as checkpoints
from fastslow.run import inside
from fastslow.run.changes import refuse_changes
from fastslow.run.checkpoint import Checkpoint
from fastslow.run.console import Console
from fastslow.run.folder import (
    CHECKPOINTS,
    CONFIG,
    RunFolder,
    differing_inputs,
    folder_of,
    refuse_used,
)
from fastslow.run.inputs import Input, Inputs, read_inputs
from fastslow.run.jsonl import read_lines
from fastslow.run.observer import Observer
from fastslow.run.observers import Fanout
from fastslow.run.state import LoopState
from fastslow.run.stored import MetricsRow
from fastslow.trust import remember, require_trust
from fastslow.types import Context, Population


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: the run's folder.
        population: the contexts in force at the end, best mean first.
        own: the context to use with each task (see ``LoopState.own``): where a run of several
            stages has moved on, the contexts in force are those of the last one.
    """

    folder: Path
    population: Population
    own: Mapping[str, Context]

    @property
    def best(self) -> Context:
        """The best context of the last fast phase; the seed context for plain RL."""
        return self.population.best.context

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl."""
        return list(read_lines(self.folder / "metrics.jsonl", model=MetricsRow))


def train(
    config: RunConfig | Mapping[str, Any] | Path | str,
    overrides: Iterable[str] = (),
    *,
    reflect: AskReflector | None = None,
    console: bool = True,
) -> RunResult:
    """Train from the beginning.

    Args:
        config: a configuration, nested mappings, or the path of a TOML file.
        overrides: ``section.key=value``, as the command's ``--set``.
        reflect: a function from prompt to answer that takes the place of the reflection model.
        console: whether progress is shown on standard output.

    Raises:
        InputError: the configuration, a data file or the model is wrong, or the run exists.
        RunError: the run failed; its folder says how far it came.
        InterruptedRunError: SIGINT or SIGTERM came; the run was saved.
    """
    source = str(config) if isinstance(config, (str, Path)) else "config"
    config = _as_config(config, overrides)
    here, path = working_folder(), folder_of(config, source)
    refuse_used(path)  # told now, not after the data were read and the model was loaded
    remember(config)
    date = datetime.date.today()
    build = Build(Located(config, source), date, reflect=reflect)
    found = _inputs(build)
    inputs = Inputs(folder=str(here), date=date, found=found)
    _open(build)
    with RunFolder.create(path, config, inputs) as folder:
        return _run(build, folder, _beginning(build, folder), console)


def resume(
    path: Path | str,
    overrides: Iterable[str] = (),
    *,
    reflect: AskReflector | None = None,
    console: bool = True,
    accept_changes: bool = False,
    trust: bool = False,
) -> RunResult:
    """Go on with a run from its latest checkpoint, or from the beginning if it has none.

    Whatever was written after that checkpoint is taken back first and done again. Of the
    configuration only some keys may change, by ``overrides`` or in the folder's config.toml: see
    ``run.changes``. Overrides of keys that name files say where a file is now.

    The run goes on in the working directory that it was begun in, if that is still there: it is
    the process's own until this returns.

    Args:
        path: the run's folder.
        overrides: ``section.key=value``.
        reflect: as in ``train``.
        console: as in ``train``.
        accept_changes: whether the run goes on though its inputs (a task's file, data, the base
            model) are not what they were. Its record tells of it.
        trust: whether the run may execute code, and speak to servers, that no configuration of this
            user has named on this machine (see ``trust``).

    Raises:
        InputError: as ``train``; or inputs have changed and that is not accepted; or the folder
            holds links or other odd things, or names code or servers that are not trusted.
        RunError, InterruptedRunError: as ``train``.
    """
    here = working_folder()
    path = here / given(path)
    is_own = require_trust(path, trust)
    with (
        RunFolder.open(path) as folder,
        working_in(Path(folder.inputs.folder)),
    ):
        saved = folder.latest_checkpoint()
        source = str(folder.path / CONFIG)
        located, others = locate(folder.config, source, folder.inputs, overrides, here)
        folder.reconfigure(saved, others)
        config = folder.config
        configuration.refuse_other_keys(config, others, source)
        if is_own:
            remember(config)  # with what the overrides name
        located = replace(located, config=config)
        build = Build(located, folder.inputs.date, reflect=reflect)
        found = _inputs(build)
        folder.take_up(saved, found, located.moved, accept_changes=accept_changes)
        _open(build)
        folder.rewind(saved)
        if saved is None:
            state = _beginning(build, folder)
        else:
            build.trainer.load(saved.path)
            state = saved.state_with(build.curriculum.known)
        return _run(build, folder, state, console)


def evaluate(
    path: Path | str,
    settings: EvalConfig,
    observer: Observer,
    *,
    tasks: Mapping[str, TaskConfig] | None = None,
    base: bool = False,
    step: int | None = None,
    overrides: Iterable[str] = (),
    accept_changes: bool = False,
    trust: bool = False,
) -> None:
    """Evaluate a checkpoint of a run; rows go to ``observer``.

    It is done in the working directory that the run was begun in, as by ``resume``; nothing is
    written to the run's folder.

    Args:
        path: the run's folder, or that of the checkpoint.
        settings: what is evaluated.
        observer: is told of rows and rollouts.
        tasks: by the names that rows call them; None for the run's own.
        base: whether the weights are those that the run began from instead, under the contexts that
            it has come to.
        step: that of the checkpoint; None: the latest that is whole.
        overrides: ``section.key=value``, as ``resume`` takes them.
        accept_changes: whether it is measured though the run's inputs are not what they were.
        trust: as of ``resume``.

    Raises:
        InputError: the folder is no run, names code or servers that are not trusted, has no
            checkpoint yet or a damaged one of ``step``, a task is wrong, or inputs have changed.
    """
    here = working_folder()
    path = here / given(path)
    source = str(path / CONFIG)
    require_trust(path, trust)
    trained = inside.load_config(path)
    saved = _checkpoint(path, step)
    inputs = read_inputs(path)
    other = None if tasks is None else build_curriculum(trained, source, tasks)
    with working_in(Path(inputs.folder)):
        located, others = locate(trained, source, inputs, overrides, here)
        config = configuration.load(path / CONFIG, others)
        refuse_changes(trained, config, source)
        config = config.model_copy(update={"eval": settings})
        before = read_inputs(saved.path)
        build = Build(
            replace(located, config=config),
            before.date or inputs.date,
            trainable=False,
            other=other,
        )
        curriculum = build.curriculum
        found = take(located, None if other else curriculum)
        looked_at = {
            key: was
            for key, was in before.found.items()
            if key.partition("/")[0] == MODEL or not (other or key.startswith(ASKED))
        }
        before = before.model_copy(update={"found": looked_at})
        differing_inputs(before, found, str(path), accept=accept_changes)
        if not base:
            build.trainer.load(saved.path)
        with (
            Interruption() as interruption,
            build.evaluator(observer, interruption.check) as evaluate,
        ):
            evaluate(build.trainer.sampler(), saved.state, curriculum.names)


def _checkpoint(path: Path, step: int | None) -> Checkpoint:
    """The checkpoint to evaluate: ``path`` itself, or that of a step of the run there. Raises:
    InputError."""
    if checkpoints.is_checkpoint(path):
        return checkpoints.load(path)
    folder = path / CHECKPOINTS
    if step is not None:
        return checkpoints.load(checkpoints.path_of(folder, step))
    latest = checkpoints.latest(folder)
    if latest is None:
        raise InputError(f"{path}: has no checkpoint yet: `fastslow resume {path}` makes one")
    return latest


def _as_config(
    config: RunConfig | Mapping[str, Any] | Path | str, overrides: Iterable[str]
) -> RunConfig:
    overrides = list(overrides)
    if isinstance(config, RunConfig):
        return configuration.parse(config.model_dump(), overrides)
    if isinstance(config, Mapping):
        source, parsed = "config", configuration.parse(config, overrides)
    else:
        source, parsed = str(config), configuration.load(config, overrides)
    configuration.refuse_other_keys(parsed, overrides, source)
    return parsed


def _inputs(build: Build) -> dict[str, Input]:
    """Every input of a run, after the schedule and the learners have found it right. Raises:
    InputError."""
    build.check()
    models = build.slow.models if build.slow is not None else {}
    return take(build.located, build.curriculum, models, build.files)


def _open(build: Build) -> None:
    """Load the models, and find the fast learner right. Raises: InputError."""
    _ = build.trainer, build.fast


def _beginning(build: Build, folder: RunFolder) -> LoopState:
    """The state that a run begins in, its seed population written down."""
    folder.record_seed(build.seed_population)
    return LoopState(step=0, cycle=0, population=build.seed_population)


def _run(build: Build, folder: RunFolder, state: LoopState, console: bool) -> RunResult:
    observers: list[Observer] = [folder]
    build.remembering = folder.remembering
    folder.discard = build.trainer.discard

    def save() -> None:
        folder.save_checkpoint(build.trainer.save)

    with ExitStack() as stack:
        stack.callback(build.trainer.close)
        if console:
            observers.append(stack.enter_context(Console(build.config)))
        interruption = stack.enter_context(Interruption())
        loop = stack.enter_context(build.loop(Fanout(*observers), interruption.check, save))
        try:
            state = loop.run(state)
        except InterruptedRunError as stop:
            save()
            raise InterruptedRunError(
                f"{stop}: the run is saved; `fastslow resume {folder.path}` goes on from there"
            ) from None
    return RunResult(folder.path, state.population, state.own)
