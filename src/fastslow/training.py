"""From a configuration to a finished run: puts the parts together and starts the loop."""

from __future__ import annotations

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
from fastslow.interruption import InterruptedRunError, Interruption
from fastslow.loop import FastSlowLoop, Stage
from fastslow.policy.protocol import Policy, SampleRequest
from fastslow.run import checkpoint as checkpoints
from fastslow.run.console import Console
from fastslow.run.folder import CHECKPOINTS, CONFIG, RunFolder, refuse_used
from fastslow.run.jsonl import read_lines
from fastslow.run.observer import Observer
from fastslow.run.observers import Fanout
from fastslow.run.state import LoopState
from fastslow.seeding import derive_seed
from fastslow.session import Session
from fastslow.tasks import registry
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
        return list(read_lines(self.folder / "metrics.jsonl"))


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
    curriculum = build_curriculum(config, source)
    stages = build_stages(config, curriculum, source)
    path = config.log.folder / config.run_name
    refuse_used(path)  # told now, not after the model was loaded
    policy = build_policy(config, trainable=config.uses_slow)
    reflector = _reflector(config, policy, reflect)
    with RunFolder.create(path, config) as folder:
        optimizer = _optimizer(config, reflector, folder)
        return _run(
            config, curriculum, stages, policy, optimizer, folder, _beginning(folder), console
        )


def resume(
    path: Path | str,
    overrides: Iterable[str] = (),
    *,
    reflect: AskReflector | None = None,
    console: bool = True,
) -> RunResult:
    """Go on with a run from its latest checkpoint, or from the beginning if it has none.

    Whatever was written after that checkpoint is taken back first and done again. Of the
    configuration only some keys may change, by ``overrides`` or in the folder's config.toml: see
    ``run.changes``. Raises: as ``train``.
    """
    with RunFolder.open(Path(path)) as folder:
        saved = folder.latest_checkpoint()
        overrides = list(overrides)
        folder.reconfigure(saved, overrides)
        config = folder.config
        configuration.refuse_other_keys(config, overrides, str(folder.path / CONFIG))
        curriculum = build_curriculum(config, str(folder.path / CONFIG))
        stages = build_stages(config, curriculum, str(folder.path / CONFIG))
        policy = build_policy(config, trainable=config.uses_slow)
        optimizer = _optimizer(config, _reflector(config, policy, reflect), folder)
        folder.rewind(saved)
        if saved is not None:
            policy.load(saved.path)
        state = saved.state if saved is not None else _beginning(folder)
        return _run(config, curriculum, stages, policy, optimizer, folder, state, console)


def evaluate(
    path: Path | str,
    settings: EvalConfig,
    observer: Observer,
    *,
    tasks: Mapping[str, TaskConfig] | None = None,
    base: bool = False,
    step: int | None = None,
) -> None:
    """Evaluate a checkpoint of a run; rows go to ``observer``.

    Args:
        path: the run's folder.
        settings: what is evaluated.
        observer: is told of rows and rollouts.
        tasks: by the names that rows call them; None for the run's own.
        base: whether the weights are those that the run began from instead, under the contexts that
            it has come to.
        step: that of the checkpoint; None: the latest that is whole.

    Raises:
        InputError: the folder is no run, has no checkpoint yet or a damaged one of ``step``, or a
            task is wrong.
    """
    path = Path(path)
    source = str(path / CONFIG)
    config = configuration.load(path / CONFIG).model_copy(update={"eval": settings})
    folder = path / CHECKPOINTS
    if step is not None:
        saved = checkpoints.load(checkpoints.path_of(folder, step))
    elif (latest := checkpoints.latest(folder)) is not None:
        saved = latest
    else:
        raise InputError(f"{path}: has no checkpoint yet: `fastslow resume {path}` makes one")
    policy = build_policy(config, trainable=False)
    if not base:
        policy.load(saved.path)
    curriculum = build_curriculum(config, source, tasks)
    with Interruption() as interruption, curriculum.isolated():
        seed_context = seed_population(config).best.context
        session = Session(config, curriculum, policy, seed_context, observer, interruption.check)
        evaluation.evaluate(session, saved.state, curriculum.names)


def seed_population(config: RunConfig) -> Population:
    """Phi_0: the one seed context, not K copies of it (paper, Algorithm)."""
    turns = tuple(Demonstration(d.question, d.answer) for d in config.context.demonstrations)
    return Population((Candidate(Context(config.context.instructions, turns)),))


def build_curriculum(
    config: RunConfig, source: str = "config", tasks: Mapping[str, TaskConfig] | None = None
) -> Curriculum:
    """Every task of the run, or others by the names they are to have. Raises: InputError."""
    named = config.tasks if tasks is None else tasks
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


def build_policy(config: RunConfig, *, trainable: bool) -> Policy:
    """The policy of ``[policy]``, on the weights of ``model``. Raises: InputError."""
    from fastslow.models import load_model
    from fastslow.policy.local import LocalPolicy, choose_device

    device = choose_device(config.policy.device)
    model, tokenizer = load_model(
        config.model, device=device, trust_remote_code=config.policy.trust_remote_code
    )
    return LocalPolicy(
        model,
        tokenizer,
        config.policy,
        config.slow,
        trainable=trainable,
        keep_base=config.eval.drift,
        seed=config.seed,
    )


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
        loop = FastSlowLoop(session, stages, optimizer, lambda: _save(folder, policy))
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
    if not config.uses_fast or "instructions" not in config.fast.components:
        return None
    return make_reflector(config.fast.reflection, _reflection_by(policy, config), reflect)


def _optimizer(
    config: RunConfig, reflector: Reflector | None, folder: RunFolder
) -> ContextOptimizer | None:
    if not config.uses_fast:
        return None
    reflection = config.fast.reflection
    is_policy = reflection.model == "policy" and reflection.url is None
    if reflector is not None and not is_policy:  # whose answers are derived from the run's seed
        reflector = replace(reflector, ask=folder.remembering(reflector.ask))
    return factory.build(config.fast, reflector)


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
