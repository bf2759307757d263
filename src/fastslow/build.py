"""The one assembly: from a configuration to the parts of a run."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastslow.collect import Collector
from fastslow.config import RunConfig, TaskConfig
from fastslow.curriculum import Curriculum
from fastslow.data import BatchOrder, ProblemOrder, Shares
from fastslow.errors import InputError
from fastslow.evaluation import Evaluator
from fastslow.fast import registry as fast_registry
from fastslow.fast.base import FastLearner, Tools
from fastslow.fast.llm import Ask as AskReflector
from fastslow.fast.llm import make_reflector
from fastslow.fast.proposer import ProposalError
from fastslow.inputs import Located
from fastslow.loop import FastSlowLoop
from fastslow.policy.base import Sampler, SampleRequest
from fastslow.record import Record
from fastslow.run.observer import Observer
from fastslow.schedule import Schedule, Stage
from fastslow.seeding import derive_seed
from fastslow.slow import registry as slow_registry
from fastslow.slow.base import SlowLearner
from fastslow.tasks import registry
from fastslow.tasks.beside import refuse_namesakes
from fastslow.types import Candidate, Context, Demonstration, Population

if TYPE_CHECKING:
    from fastslow.policy.trainer import GradientTrainer


@dataclass
class Build:
    """The parts of a run. Each is made when it is first asked for, and only once.

    Attributes:
        located: the configuration, and where its files are now.
        date: the day that the run began, which the chat template is told; None: today.
        trainable: whether weights may learn.
        reflect: a function that takes the place of the reflection model.
        other: tasks to evaluate on instead of the run's own.
        remembering: writes down what the reflection model is asked and answers.
    """

    located: Located
    date: datetime.date | None = None
    trainable: bool = True
    reflect: AskReflector | None = None
    other: Curriculum | None = None
    remembering: Callable[[AskReflector], AskReflector] = lambda ask: ask

    @property
    def config(self) -> RunConfig:
        return self.located.config

    @property
    def source(self) -> str:
        return self.located.source

    @cached_property
    def seed_population(self) -> Population:
        """Phi_0: the one seed context, not K copies of it (paper, Algorithm)."""
        return seed_population(self.config)

    @cached_property
    def curriculum(self) -> Curriculum:
        """Every task of the run. Raises: InputError."""
        return self.other or build_curriculum(self.config, self.source, self.located.tasks)

    @cached_property
    def schedule(self) -> Schedule:
        """The steps of the run, and the order of its problems.

        Raises:
            InputError: a task has no problems to train on or evaluate, or too few of them.
        """
        every = self.config.fast.every
        return Schedule(
            build_stages(self.config, self.curriculum, self.source),
            every,
            self.config.eval.every or every,
            self.config.log.checkpoint_every,
        )

    def check(self) -> None:
        """Find the schedule and the learners' options right, before models are loaded. Raises:
        InputError."""
        _ = self.schedule, self.slow, self.files, reflects(self.config)

    @cached_property
    def slow(self) -> SlowLearner | None:
        """The slow learner, if weights learn. Raises: InputError."""
        learner = slow_registry.create(self.config.slow, self.config.policy.max_tokens, self.source)
        return learner if self.config.uses_slow else None

    @cached_property
    def trainer(self) -> GradientTrainer:
        """The weights; and the models that the slow learner asks, opened for sampling.

        Raises:
            InputError: the device is not there, or a model cannot be used.
        """
        trainable = self.trainable and self.config.uses_slow
        trainer = open_trainer(
            self.config,
            trainable=trainable,
            model=self.located.model,
            date=self.date,
            source=self.source,
        )
        if trainable and self.slow is not None:
            for key, model in self.slow.models.items():
                other = self.config.model_copy(update={"model": model})
                opened = open_trainer(other, trainable=False, date=self.date)
                self.slow.samplers[key] = opened.sampler()
            self.slow.check(trainer.published)
        return trainer

    @cached_property
    def fast(self) -> FastLearner | None:
        """The fast learner, if contexts learn. Raises: InputError."""
        if not self.config.uses_fast:
            return None
        reflector = None
        if reflects(self.config):
            ask_policy = _reflection_by(lambda: self.trainer.published, self.config)
            reflector = make_reflector(self.config.fast.reflection, ask_policy, self.reflect)
            if not _policy_reflects(self.config):  # whose answers follow from the seed
                ask = reflector.ask
                reflector = replace(reflector, ask=lambda prompt: self.remembering(ask)(prompt))
        tools = Tools(self.config.fast, reflector)
        return fast_registry.create(self.config.fast, tools, self.source)

    @property
    def files(self) -> Mapping[str, Path]:
        """Files that the fast learner reads, by key. Raises: InputError."""
        if not self.config.uses_fast:
            return {}
        learner, options = self.config.fast.find(fast_registry.LEARNERS, self.source)
        return learner.files(options)

    @contextmanager
    def evaluator(
        self, observer: Observer, check_interruption: Callable[[], None]
    ) -> Iterator[Evaluator]:
        """Evaluates, and tells ``observer``. As long as the context lasts, verifiers run in
        processes of their own."""
        record = Record(observer, self.curriculum)
        collector = Collector(
            self.curriculum.grade, self.curriculum.task_of, record.progress, check_interruption
        )
        seed_context = self.seed_population.best.context
        with self.curriculum.isolated():
            yield Evaluator(self.config, self.curriculum, seed_context, collector, record)

    @contextmanager
    def loop(
        self,
        observer: Observer,
        check_interruption: Callable[[], None],
        checkpoint: Callable[[], None],
    ) -> Iterator[FastSlowLoop]:
        """The loop with all its parts; otherwise as ``evaluator``."""
        with self.evaluator(observer, check_interruption) as evaluate:
            yield FastSlowLoop(
                config=self.config,
                schedule=self.schedule,
                curriculum=self.curriculum,
                seed_context=evaluate.seed_context,
                trainer=self.trainer,
                fast=self.fast,
                slow=self.slow,
                collector=evaluate.collector,
                evaluate=evaluate,
                record=evaluate.record,
                checkpoint=checkpoint,
            )


def seed_population(config: RunConfig) -> Population:
    """The population that a run begins with: its seed context."""
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


def open_trainer(
    config: RunConfig,
    *,
    trainable: bool,
    model: str | None = None,
    date: datetime.date | None = None,
    source: str = "config",
) -> GradientTrainer:
    """The trainer of ``[policy]`` and ``[slow]``.

    Args:
        config: of the run.
        trainable: whether the weights learn.
        model: whose weights it begins with; None: ``config.model``.
        date: the day that the chat template is told; None: today.

    Raises:
        InputError: the device is not there, or the model cannot be used.
    """
    from fastslow.policy.backend import Opening
    from fastslow.policy.registry import BACKENDS
    from fastslow.policy.trainer import GradientTrainer

    opener = BACKENDS.find(config.policy.backend, source)
    opening = Opening(config, model or config.model, trainable, date, _first_contexts(config))
    return GradientTrainer(opener.open(opening), config.slow)


def _first_contexts(config: RunConfig) -> list[Context]:
    """The contexts that the policy reads before any has evolved."""
    asked_to_reflect = [Context()] if reflects(config) and _policy_reflects(config) else []
    return [seed_population(config).best.context, *asked_to_reflect]


def reflects(config: RunConfig) -> bool:
    """Whether a run asks a reflection model."""
    if not config.uses_fast:
        return False
    learner, _ = config.fast.find(fast_registry.LEARNERS, "config")
    return learner.asks_reflection(config.fast)


def _policy_reflects(config: RunConfig) -> bool:
    """Whether the policy itself is the reflection model."""
    return config.fast.reflection.model == "policy" and config.fast.reflection.url is None


def _reflection_by(current: Callable[[], Sampler], config: RunConfig) -> Callable[[str], str]:
    """Lets the policy itself answer reflection prompts; its answers depend on the prompt alone."""
    settings = config.fast.reflection

    def ask(prompt: str) -> str:
        sampler = current()
        prompt_ids = sampler.encode(Context(), prompt)
        if len(prompt_ids) + settings.max_tokens > sampler.window:
            raise ProposalError(
                f"the policy's window of {sampler.window} tokens does not hold a reflection prompt "
                f"of {len(prompt_ids)} and fast.reflection.max_tokens, {settings.max_tokens}: "
                "lower that or fast.minibatch"
            )
        request = SampleRequest(prompt_ids, (derive_seed(config.seed, "reflect", prompt),))
        temperature = 1.0 if settings.temperature == "default" else settings.temperature
        ((turn,),) = sampler.sample(
            [request],
            max_tokens=settings.max_tokens,
            temperature=max(temperature, 0.01),  # 0, greedy, as nearly as sampling can
        )
        return turn.text

    return ask
