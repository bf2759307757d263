"""From a configuration to a finished run: puts the parts together and starts the loop."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fastslow import config as configuration
from fastslow import evaluation
from fastslow.config import EvalConfig, RunConfig, TaskConfig
from fastslow.curriculum import Curriculum
from fastslow.data import BatchOrder, ProblemOrder, Shares
from fastslow.errors import InputError
from fastslow.fast import factory
from fastslow.fast.llm import Ask as AskReflector
from fastslow.fast.llm import Reflector, make_reflector
from fastslow.fast.proposer import ProposalError
from fastslow.fast.protocol import ContextOptimizer
from fastslow.inputs import MODEL, TEACHER, Located, locate, take, take_teacher
from fastslow.interruption import InterruptedRunError, Interruption
from fastslow.loop import FastSlowLoop, Stage
from fastslow.places import given, working_folder, working_in
from fastslow.policy.protocol import Policy, SampleRequest
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
from fastslow.run.inputs import Inputs, read_inputs
from fastslow.run.jsonl import read_lines
from fastslow.run.observer import Observer
from fastslow.run.observers import Fanout
from fastslow.run.state import LoopState
from fastslow.run.stored import MetricsRow
from fastslow.seeding import derive_seed
from fastslow.session import Session
from fastslow.slow import registry as slow_registry
from fastslow.slow.base import SlowLearner
from fastslow.slow.opd import check_teacher
from fastslow.tasks import registry
from fastslow.tasks.beside import refuse_namesakes
from fastslow.trust import remember, require_trust
from fastslow.types import Candidate, Context, Demonstration, Population


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
    curriculum = build_curriculum(config, source)
    stages = build_stages(config, curriculum, source)
    learner = build_learner(config, source)
    date = datetime.date.today()
    located = Located(config, source)
    found = take(located, curriculum) | take_teacher(located)
    inputs = Inputs(folder=str(here), date=date, found=found)
    policy = build_policy(config, trainable=config.uses_slow, date=date)
    give_teacher(learner, config, policy, date)
    reflector = _reflector(config, policy, reflect)
    with RunFolder.create(path, config, inputs) as folder:
        optimizer = _optimizer(config, reflector, folder)
        return _run(
            config,
            curriculum,
            stages,
            policy,
            optimizer,
            learner,
            folder,
            _beginning(folder),
            console,
        )


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
        curriculum = build_curriculum(config, source, located.tasks)
        stages = build_stages(config, curriculum, source)
        learner = build_learner(config, source)
        found = take(located, curriculum) | take_teacher(located)
        folder.take_up(saved, found, located.moved, accept_changes=accept_changes)
        policy = build_policy(
            config, trainable=config.uses_slow, model=located.model, date=folder.inputs.date
        )
        give_teacher(learner, config, policy, folder.inputs.date)
        optimizer = _optimizer(config, _reflector(config, policy, reflect), folder)
        folder.rewind(saved)
        if saved is not None:
            policy.load(saved.path)
        state = saved.state if saved is not None else _beginning(folder)
        return _run(config, curriculum, stages, policy, optimizer, learner, folder, state, console)


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
        curriculum = other or build_curriculum(config, source, located.tasks)
        found = take(located, None if other else curriculum)
        before = read_inputs(saved.path)
        looked_at = {
            key: was
            for key, was in before.found.items()
            if key.partition("/")[0] == MODEL or not (other or key.startswith(TEACHER))
        }
        before = before.model_copy(update={"found": looked_at})
        differing_inputs(before, found, str(path), accept=accept_changes)
        config = config.model_copy(update={"eval": settings})
        policy = build_policy(
            config, trainable=False, model=located.model, date=before.date or inputs.date
        )
        if not base:
            policy.load(saved.path)
        with Interruption() as interruption, curriculum.isolated():
            seed_context = seed_population(config).best.context
            session = Session(
                config, curriculum, policy, seed_context, observer, interruption.check
            )
            evaluation.evaluate(session, saved.state, curriculum.names)


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


def seed_population(config: RunConfig) -> Population:
    """Phi_0: the one seed context, not K copies of it (paper, Algorithm)."""
    turns = tuple(Demonstration(d.question, d.answer) for d in config.context.demonstrations)
    return Population((Candidate(Context(config.context.instructions, turns)),))


def build_curriculum(
    config: RunConfig, source: str = "config", tasks: Mapping[str, TaskConfig] | None = None
) -> Curriculum:
    """Every task of the run, or others by the names they are to have. Raises: InputError."""
    named = config.tasks if tasks is None else tasks
    refuse_namesakes(
        Path(file).expanduser().resolve()
        for file in {task.name.rpartition(":")[0]: None for task in named.values()}
        if file.endswith(".py")
    )
    return Curriculum(
        {name: registry.create(task, config.seed, source) for name, task in named.items()}
    )


def build_stages(config: RunConfig, curriculum: Curriculum, source: str = "config") -> list[Stage]:
    """Every stage with the order of its problems.

    Raises:
        InputError: a task has no problems to train on or evaluate, or too few of them.
    """
    stages: list[Stage] = []
    start = 0
    for number, stage in enumerate(config.all_stages):
        try:
            tasks = tuple(config.task_name(share.task) for share in stage.shares)
            if config.eval.problems:
                for task in tasks:
                    curriculum.problems(task, config.eval.split)  # says now if there are none
            order = _order(config, curriculum, number, tasks)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
        stages.append(Stage(tasks, order, start, start + stage.steps))
        start += stage.steps
    return stages


def _order(
    config: RunConfig, curriculum: Curriculum, number: int, tasks: Sequence[str]
) -> BatchOrder:
    """The batches of stage ``number``, and of each task its part of the pool."""
    weights = [share.weight for share in config.all_stages[number].shares]
    shares = Shares(weights, config.slow.problems)
    pool = config.fast.pool if config.reserves_pool else 0
    return BatchOrder(
        [
            ProblemOrder(
                curriculum.problems(name, "train"),
                partial(shares.size, task),
                shares.most(task),
                math.ceil(pool * shares.fractions[task]),
                seed_population(config).best.context,
                # A task that is mixed with others is not shuffled as they are.
                derive_seed(config.seed, "order", number, *([name] if len(tasks) > 1 else [])),
                name,
            )
            for task, name in enumerate(tasks)
        ]
    )


def build_learner(config: RunConfig, source: str) -> SlowLearner | None:
    """The slow learner of a run, if its weights learn. Raises: InputError."""
    learner = slow_registry.create(config.slow, config.policy.max_tokens, source)
    return learner if config.uses_slow else None


def give_teacher(
    learner: SlowLearner | None, config: RunConfig, policy: Policy, date: datetime.date | None
) -> None:
    """Open the model that a learner asks, if it asks one. Raises: InputError."""
    if learner is None or learner.teacher_model is None:
        return
    named = config.model_copy(update={"model": learner.teacher_model})
    learner.teacher = build_policy(named, trainable=False, date=date)
    check_teacher(learner.teacher, policy)


def build_policy(
    config: RunConfig,
    *,
    trainable: bool,
    model: str | None = None,
    date: datetime.date | None = None,
) -> Policy:
    """The policy of ``[policy]``.

    Args:
        config: of the run.
        trainable: whether it learns.
        model: whose weights it begins with; None: ``config.model``.
        date: the day that the run began, which the chat template is told; None: today.

    Raises:
        InputError: the device is not there, or the model cannot be used.
    """
    from fastslow.models import load_model
    from fastslow.policy.local import LocalPolicy, choose_device

    device = choose_device(config.policy.device)
    weights, tokenizer = load_model(
        model or config.model, device=device, trust_remote_code=config.policy.trust_remote_code
    )
    return LocalPolicy(
        weights,
        tokenizer,
        config.policy,
        config.slow,
        trainable=trainable,
        keep_base=config.eval.drift,
        seed=config.seed,
        date=date,
        contexts=_first_contexts(config),
    )


def _first_contexts(config: RunConfig) -> list[Context]:
    """The contexts that the policy reads before any has evolved."""
    asked_to_reflect = [Context()] if _reflects(config) and _is_policy(config) else []
    return [seed_population(config).best.context, *asked_to_reflect]


def _beginning(folder: RunFolder) -> LoopState:
    """The state that a run begins in, its seed population written down."""
    population = seed_population(folder.config)
    folder.record_seed(population)
    return LoopState(step=0, cycle=0, population=population)


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


def _run(
    config: RunConfig,
    curriculum: Curriculum,
    stages: list[Stage],
    policy: Policy,
    optimizer: ContextOptimizer | None,
    learner: SlowLearner | None,
    folder: RunFolder,
    state: LoopState,
    console: bool,
) -> RunResult:
    observers: list[Observer] = [folder]
    with ExitStack() as stack:
        if console:
            observers.append(stack.enter_context(Console(config)))
        interruption = stack.enter_context(Interruption())
        stack.enter_context(curriculum.isolated())
        session = Session(
            config,
            curriculum,
            policy,
            seed_population(config).best.context,
            Fanout(*observers),
            interruption.check,
        )
        loop = FastSlowLoop(session, stages, optimizer, learner, lambda: _save(folder, policy))
        try:
            state = loop.run(state)
        except InterruptedRunError as stop:
            _save(folder, policy)
            raise InterruptedRunError(
                f"{stop}: the run is saved; `fastslow resume {folder.path}` goes on from there"
            ) from None
    return RunResult(folder.path, state.population, state.own)


def _save(folder: RunFolder, policy: Policy) -> None:
    folder.save_checkpoint(policy.save)


def _reflector(config: RunConfig, policy: Policy, reflect: AskReflector | None) -> Reflector | None:
    """The reflection model, of a run that needs one. Raises: InputError."""
    if not _reflects(config):
        return None
    return make_reflector(config.fast.reflection, _reflection_by(policy, config), reflect)


def _optimizer(
    config: RunConfig, reflector: Reflector | None, folder: RunFolder
) -> ContextOptimizer | None:
    if not config.uses_fast:
        return None
    if reflector is not None and not _is_policy(config):  # whose answers follow from the seed
        reflector = replace(reflector, ask=folder.remembering(reflector.ask))
    return factory.build(config.fast, reflector)


def _reflects(config: RunConfig) -> bool:
    return config.uses_fast and "instructions" in config.fast.components


def _is_policy(config: RunConfig) -> bool:
    """Whether the policy itself is the reflection model."""
    return config.fast.reflection.model == "policy" and config.fast.reflection.url is None


def _reflection_by(policy: Policy, config: RunConfig) -> Callable[[str], str]:
    """Lets the policy itself answer reflection prompts; its answers depend on the prompt alone."""
    settings = config.fast.reflection

    def ask(prompt: str) -> str:
        prompt_ids = policy.encode(Context(), prompt)
        if len(prompt_ids) + settings.max_tokens > policy.window:
            raise ProposalError(
                f"the policy's window of {policy.window} tokens does not hold a reflection prompt "
                f"of {len(prompt_ids)} and fast.reflection.max_tokens, {settings.max_tokens}: "
                "lower that or fast.minibatch"
            )
        request = SampleRequest(prompt_ids, (derive_seed(config.seed, "reflect", prompt),))
        temperature = 1.0 if settings.temperature == "default" else settings.temperature
        ((completion,),) = policy.sample(
            [request],
            max_tokens=settings.max_tokens,
            temperature=max(temperature, 0.01),  # 0, greedy, as nearly as sampling can
        )
        return completion.text

    return ask
