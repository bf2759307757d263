"""The configuration of a run: its tables, but for those of the learners.

Imports without torch, so that ``--dry-run`` answers at once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fastslow.config.base import (
    Coefficient,
    NonNegative,
    Positive,
    Section,
    Seed,
    Size,
    SizeOrNone,
)
from fastslow.config.learners import FastConfig, SlowConfig
from fastslow.places import Place, PlaceOrName

Method = Literal["fst", "rl", "fast"]

DEFAULT_INSTRUCTIONS = "Answer the question. Give the final answer between <answer> and </answer>."


class DemonstrationConfig(Section):
    """One solved problem in the seed context."""

    question: str
    """Text of the user's turn."""
    answer: str
    """Text of the model's turn, in the format that the verifier wants."""


class ContextConfig(Section):
    """``[context]``: the seed context Phi_0."""

    instructions: str = DEFAULT_INSTRUCTIONS
    """System message of the seed context. Empty: no system message."""
    demonstrations: Annotated[tuple[DemonstrationConfig, ...], Field(max_length=1000)] = ()
    """Solved problems of the seed context, in the order in which they are shown."""


class TaskConfig(BaseModel):
    """``[task]``: the name of a registered task; its other keys are the task's own."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: PlaceOrName
    """A registered task, or a class as "path/to/file.py:ClassName"."""

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside ``name``, which the task itself validates."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """What people call it: a task that serves many data sets goes by the data set or the file,
        and one that serves many environments by the environment."""
        names = (self.options.get(key) for key in ("dataset", "environment"))
        if known := next((str(name) for name in names if name is not None), None):
            return known
        path = self.options.get("path")
        return Path(path).stem if isinstance(path, str) and Path(path).stem else self.name


class ShareConfig(Section):
    """``[[stages.mix]]``: a task and its share of every batch."""

    task: TaskConfig
    """A task of the mix, as a table with a name."""
    weight: Coefficient = 1.0
    """In proportion to the other weights of the stage: 2 and 1 are two thirds and one third."""


class StageConfig(Section):
    """``[[stages]]``: a stretch of the run on one task, or on several that are mixed."""

    steps: Positive
    """Slow steps of this stage."""
    task: TaskConfig | None = None
    """The task of this stage, as a table with a name. Give it, or ``mix``."""
    mix: Annotated[tuple[ShareConfig, ...], Field(max_length=100)] = ()
    """Tasks that share every batch of this stage, each with its weight."""

    @model_validator(mode="after")
    def _task_or_mix(self) -> StageConfig:
        if (self.task is None) == (not self.mix):
            raise ValueError(
                "a stage has either a task or a mix of them: set task = {...}, or a "
                "[[stages.mix]] table with a task and its weight for each"
            )
        tasks = [share.task for share in self.mix]
        if twice := next((task for task in tasks if tasks.count(task) > 1), None):
            raise ValueError(f"the mix names the task {twice.label!r} twice: add up the weights")
        return self

    @property
    def shares(self) -> tuple[ShareConfig, ...]:
        """The tasks of the stage with their weights; a single task is a mix of one."""
        return self.mix if self.task is None else (ShareConfig(task=self.task),)

    @property
    def label(self) -> str:
        return "-".join(share.task.label for share in self.shares)


class PolicyConfig(Section):
    """``[policy]``: where the model runs and how it is sampled."""

    backend: str = "local"
    """Where the model runs: in this process."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device that the model runs on. "auto": cuda, else mps, else cpu."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights that compute. In bfloat16 the optimiser moves fp32 copies of them. Logits
    and log-probabilities are fp32 either way."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model may run, with all rights of the run."""
    max_tokens: Size = 512
    """Tokens of one completion, at most."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=100)] = ()
    """Texts that end a completion, as the model's own end of turn does. They are kept in it."""
    temperature: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Temperature at which rollouts are sampled. 1: the model's own distribution."""
    rows: Size = 128
    """Completions decoded side by side, at most."""
    kv_memory: Annotated[float, Field(gt=0, le=10**6)] = 4.0
    """GiB of keys and values that sampling may hold: fewer completions are decoded side by side
    where they would need more. Half of it at most keeps contexts from call to call."""


class EvalConfig(Section):
    """``[eval]``: accuracy on problems that are never trained on."""

    every: NonNegative = 0
    """Slow steps between evaluations; 0: at the end of every cycle. The run's start and end are
    always evaluated."""
    split: Literal["validation", "test"] = "validation"
    """The split that problems of evaluations are taken from."""
    problems: SizeOrNone = 64
    """Problems evaluated (the first of the split); 0: no evaluation."""
    samples: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Completions per problem: accuracy is their mean (mean@k)."""
    contexts: Annotated[
        tuple[Literal["seed", "best", "population", "own"], ...], Field(max_length=100)
    ] = ("seed", "best")
    """Those to evaluate under. "best" and "population" are those in force; "own" is the best one
    that the last fast phase on the evaluated task left, which differs once a run of several stages
    has moved on."""
    drift: bool = False
    """Whether KL(pi_train || pi_base) is measured on the completions that were sampled, exactly
    over the vocabulary. A policy that keeps no copy of the base for its updates then makes one."""


class LogConfig(Section):
    """``[log]``: what is kept of a run, and where."""

    folder: Place = Path("runs")
    """Folder that holds the folders of runs."""
    checkpoint_every: NonNegative = 0
    """Slow steps between checkpoints; 0: at the end of every cycle. The end always has one."""
    keep: Positive = 2
    """Checkpoints kept, the latest ones: if one is damaged, the run goes on from the one before."""
    keep_best: bool = True
    """Whether the checkpoint is kept as well whose policy was most accurate when it was evaluated,
    under the contexts it is meant to be used with (see ``run.best``)."""
    rollouts: bool = True
    """Whether every rollout is stored in the run's folder."""
    tensorboard: bool = True
    """Whether metrics are also written for TensorBoard."""


class RunConfig(Section):
    """A whole run. Defaults are the paper's where the paper states them."""

    model: PlaceOrName
    """"smollm2-135m" (embedded), a hub id, a folder or a .gguf file; or the folder of a run, for
    the weights of its latest checkpoint, or that of a checkpoint."""
    method: Method = "fst"
    """fst: both learners. rl: weights only, under the seed context. fast: contexts only."""
    seed: Seed = 0
    """Seed of everything random in the run: sampling, order of problems, optimiser of contexts."""
    steps: Positive | None = None
    """Slow steps of the run on ``[task]``. A run of ``[[stages]]`` counts its stages' steps."""
    name: str | None = None
    """The run's folder within ``log.folder``; None: method, task and seed."""
    context: ContextConfig = ContextConfig()
    """The seed context."""
    task: TaskConfig | None = None
    """The task of a run that has one. Its other keys are the task's own."""
    stages: Annotated[tuple[StageConfig, ...], Field(max_length=1000)] = ()
    """Stretches of a run on several tasks, in order; they take the place of ``task`` and
    ``steps``."""
    fast: FastConfig = FastConfig()
    """The learner of contexts."""
    slow: SlowConfig = SlowConfig()
    """The learner of weights."""
    policy: PolicyConfig = PolicyConfig()
    """Where the model runs and how it is sampled."""
    eval: EvalConfig = EvalConfig()
    """Accuracy on problems that are never trained on."""
    log: LogConfig = LogConfig()
    """What is kept of a run, and where."""

    @model_validator(mode="after")
    def _parts_fit(self) -> RunConfig:
        if self.stages:
            if self.task is not None or self.steps is not None:
                raise ValueError("a run has either task and steps, or stages, not both")
        elif self.task is None:
            raise ValueError("the task is missing: add a [task] table with a name")
        elif self.steps is None:
            raise ValueError("steps is missing: set the number of slow steps")
        if self.approach == "fst" and self.slow.group % self.fast.population:
            divisors = [k for k in range(1, self.slow.group + 1) if self.slow.group % k == 0]
            raise ValueError(
                f"fast.population is {self.fast.population}, which does not divide slow.group, "
                f"{self.slow.group}: every context gets the same number of rollouts of a problem. "
                f"Allowed here: {', '.join(map(str, divisors))}"
            )
        return self

    @property
    def all_stages(self) -> tuple[StageConfig, ...]:
        """The stages of the run; a run on one task is a single stage."""
        if self.stages:
            return self.stages
        assert self.task is not None
        assert self.steps is not None
        return (StageConfig(task=self.task, steps=self.steps),)

    @property
    def tasks(self) -> dict[str, TaskConfig]:
        """Every task of the run by a name of its own, as metrics call it. Stages that return to a
        task, with the same options, return to its name."""
        named: dict[str, TaskConfig] = {}
        for share in (share for stage in self.all_stages for share in stage.shares):
            if share.task not in named.values():
                name = label = share.task.label
                number = 1
                while name in named:
                    number += 1
                    name = f"{label}-{number}"
                named[name] = share.task
        return named

    def task_name(self, task: TaskConfig) -> str:
        """The name of one of ``tasks``."""
        return next(name for name, other in self.tasks.items() if other == task)

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.all_stages)

    @property
    def run_name(self) -> str:
        # Stages that only vary a task, as a curriculum does, name it once.
        tasks = "+".join(dict.fromkeys(stage.label for stage in self.all_stages))
        readable = re.sub(r"[^\w.+-]+", "_", tasks)  # a task may be named by a path
        return self.name or f"{self.approach}-{readable}-seed{self.seed}"

    @property
    def approach(self) -> str:
        """What comparisons call the run: its method, or "distill" where the weights learn to do
        without the contexts (the paper's FST-distill)."""
        return "distill" if self.uses_slow and self.slow.algorithm == "distill" else self.method

    @property
    def uses_fast(self) -> bool:
        return self.method in ("fst", "fast")

    @property
    def uses_slow(self) -> bool:
        return self.method in ("fst", "rl")

    @property
    def reserves_pool(self) -> bool:
        """Whether problems are set aside for demonstrations. It does not depend on the method, so
        that all methods of one configuration train on the same problems in the same order."""
        return "demonstrations" in self.fast.components
