"""The configuration of a run: pydantic models read from TOML.

Imports without torch, so that ``--help`` and ``--dry-run`` answer at once. Every key that is not
known is an error that suggests the nearest known one.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fastslow.errors import InputError
from fastslow.places import Place, PlaceOrName, given
from fastslow.redaction import by_form, is_secret_name, redact, secrets
from fastslow.regular import read_bytes
from fastslow.terminal import name as name_shown

Positive = Annotated[int, Field(ge=1, le=10**9)]
NonNegative = Annotated[int, Field(ge=0, le=10**9)]
"""Counts. No run reaches a billion of anything; a count beyond it is a slip of the keyboard."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]

Size = Annotated[int, Field(ge=1, le=10**6)]
SizeOrNone = Annotated[int, Field(ge=0, le=10**6)]
"""Counts of things that are made or held all at once, such as the problems of a batch."""

Nats = Annotated[float, Field(gt=0, allow_inf_nan=True)]
"""A number of nats; inf: never reached. (nan is not greater than 0.)"""

_LARGEST_NUMBER = 10**100
"""Of whole numbers: Python does not write those of thousands of digits."""

_DEEPEST = 64
"""Tables and arrays within one another; a configuration needs six."""

Method = Literal["fst", "rl", "fast"]

_PROVIDERS = (
    "AI21", "ANTHROPIC", "AZURE", "AZURE_AI", "AZURE_OPENAI", "CEREBRAS", "CLARIFAI",
    "CODESTRAL", "COHERE", "DASHSCOPE", "DATABRICKS", "DEEPINFRA", "DEEPSEEK", "FIREWORKS",
    "FIREWORKS_AI", "GEMINI", "GOOGLE", "GROQ", "HOSTED_VLLM", "HUGGINGFACE", "LITELLM",
    "LITELLM_PROXY", "MINIMAX", "MISTRAL", "MOONSHOT", "NEBIUS", "NOVITA", "NVIDIA",
    "NVIDIA_NIM", "OPENAI", "OPENROUTER", "PERPLEXITY", "PERPLEXITYAI", "REPLICATE",
    "SAMBANOVA", "TOGETHER", "TOGETHERAI", "TOGETHER_AI", "VLLM", "VOLCENGINE", "VOYAGE",
    "WATSONX", "XAI", "ZAI",
)  # fmt: skip

PROVIDER_KEYS = frozenset({"HF_TOKEN", *(f"{name}_API_KEY" for name in _PROVIDERS)})
"""Environment variables that hold keys of providers of language models, and nothing else."""

DEFAULT_INSTRUCTIONS = "Answer the question. Give the final answer between <answer> and </answer>."


class Section(BaseModel):
    """Base of every table: unknown keys are refused, values are not silently converted, and numbers
    are finite unless a key says otherwise."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class DemonstrationConfig(Section):
    """One solved problem in the seed context."""

    question: str
    answer: str


class ContextConfig(Section):
    """``[context]``: the seed context Phi_0."""

    instructions: str = DEFAULT_INSTRUCTIONS
    demonstrations: Annotated[tuple[DemonstrationConfig, ...], Field(max_length=1000)] = ()


class TaskConfig(BaseModel):
    """``[task]``: the name of a registered task; its other keys are the task's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

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
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """In proportion to the other weights of the stage: 2 and 1 are two thirds and one third."""


class StageConfig(Section):
    """``[[stages]]``: a stretch of the run on one task, or on several that are mixed."""

    steps: Positive
    task: TaskConfig | None = None
    mix: Annotated[tuple[ShareConfig, ...], Field(max_length=100)] = ()

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


class DemonstrationsConfig(Section):
    """``[fast.demonstrations]``: the proposer that writes solved problems into the context."""

    max_turns: Size = 8
    """Demonstrations in one context, at most."""
    max_tokens: Size = 600
    """Tokens of all demonstrations of one context together, at most."""
    probe: Size = 4
    """Pool problems that the parent is tried on before a demonstration is made of one it fails."""


class ReflectionConfig(Section):
    """``[fast.reflection]``: the language model that rewrites instructions from feedback."""

    model: str | None = None
    """A litellm model name, "policy" for the policy itself, or "python" for the function given to
    ``fastslow.train(reflect=...)``. None: no reflection."""
    url: str | None = None
    """Base URL of an OpenAI-compatible server that serves ``model``, without password or query."""
    api_key_env: str | None = None
    """Name of the environment variable with the key, in capitals. The key itself never enters a
    config. A name other than those of ``PROVIDER_KEYS`` has to be given by ``--set``."""
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["default"] = 1.0
    """"default": not sent, for models that take no other. If a server refuses it, it is left out
    from then on."""
    max_tokens: Size = 2048
    max_tokens_key: Literal["auto", "max_tokens", "max_completion_tokens", "none"] = "auto"
    """What a server calls ``max_tokens``. "auto": max_tokens, or max_completion_tokens once that is
    refused; "none": not sent."""
    timeout: Annotated[float, Field(gt=0, le=86400)] = 120.0
    """Seconds for one request, from the connection to the last byte of the answer."""
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Further tries after a request that failed."""
    max_characters: Positive = 8000
    """A proposed instruction longer than this is refused."""

    @field_validator("url")
    @classmethod
    def _url_holds_no_secret(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "http://none")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address that begins with http:// or https://")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "this address holds a user name, a password or a query, and the configuration is "
                "copied into the run's folder: give the bare address, and in api_key_env the name "
                "of an environment variable that holds the key"
            )
        return url

    @field_validator("api_key_env")
    @classmethod
    def _names_no_key(cls, name: str | None) -> str | None:
        # Not quoted: what is no name of a variable may well be the key itself.
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise ValueError(
                "expected the name of an environment variable in capitals, such as OPENAI_API_KEY"
            )
        return name

    @model_validator(mode="after")
    def _url_needs_model(self) -> ReflectionConfig:
        if self.url is not None and self.model is None:
            raise ValueError("url is given, but not the model to ask for there: set model")
        return self


class FastConfig(Section):
    """``[fast]``: the learner of contexts (paper, fast phase). A learner's own options stand in a
    table of its name, such as ``[fast.bootstrap]``."""

    model_config = ConfigDict(extra="allow")

    algorithm: str = "gepa"
    """The fast learner: gepa, bootstrap, opro, playbook, frozen, or one of your own (see
    ``fast.base``)."""
    population: Annotated[int, Field(ge=1, le=10_000)] = 4
    """K, contexts kept for a cycle."""
    every: Positive = 6
    """T, slow steps per cycle."""
    budget: Positive | Literal["auto"] = "auto"
    """Metric calls (rollouts) of one fast phase, never exceeded. "auto": K+1 passes over the
    anchor set (960 at the paper's 192 anchors and K = 4) plus every proposal's minibatch and probe
    (see ``fast.gepa.auto_budget``)."""
    proposals: Size = 16
    """Contexts proposed in one fast phase, at most."""
    minibatch: Size = 3
    """Anchors on which a proposal must beat its parent before it is scored on all of them."""
    components: Annotated[tuple[str, ...], Field(max_length=100)] = ("demonstrations",)
    """What gepa may rewrite: demonstrations, instructions (needs ``[fast.reflection]``), or the
    component of a proposer of your own."""
    pool: SizeOrNone = 64
    """Training problems set aside for demonstrations, at most a quarter of the split: no slow step
    and no anchor set asks them."""
    reuse: bool = True
    """Whether rollouts of the fast phase take part in the slow phase of the same cycle."""
    demonstrations: DemonstrationsConfig = DemonstrationsConfig()
    reflection: ReflectionConfig = ReflectionConfig()

    @model_validator(mode="after")
    def _only_tables_are_left(self) -> FastConfig:
        _refuse_other_than_tables("fast", self)
        return self

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of learners, by their names."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _components_can_be_had(self) -> FastConfig:
        if not self.components:
            raise ValueError("components is empty: name demonstrations, instructions or both")
        if len(set(self.components)) != len(self.components):
            raise ValueError("components names one component twice")
        if "instructions" in self.components and self.reflection.model is None:
            raise ValueError(
                'components holds "instructions", which needs a model to write them: '
                'set fast.reflection.model (a litellm name, "policy" or "python")'
            )
        if "demonstrations" in self.components and self.pool == 0:
            raise ValueError(
                'components holds "demonstrations", which are made of problems set aside: '
                "set fast.pool to at least 1"
            )
        return self


def _refuse_other_than_tables(name: str, section: FastConfig | SlowConfig) -> None:
    """Learners validate their own tables; any other key that is not known is a mistake."""
    for key, value in (section.model_extra or {}).items():
        if not isinstance(value, Mapping):
            text = unknown_key(
                f"{name}.{name_shown(key)}", key, [*type(section).model_fields, section.algorithm]
            )
            raise PydanticCustomError("unknown_key", "{text}", {"text": text})


class LoraConfig(Section):
    """``[slow.lora]``: train low-rank adapters instead of all weights."""

    rank: Annotated[int, Field(ge=1, le=65_536)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class SlowConfig(Section):
    """``[slow]``: the learner of weights (paper, slow phase). A learner's own options stand in a
    table of its name, such as ``[slow.cispo]``."""

    model_config = ConfigDict(extra="allow")

    algorithm: str = "cispo"
    """The slow learner: cispo, grpo, dapo, dr_grpo, gspo, reinforce, sft, distill, opd, or one of
    your own (see ``slow.base``)."""
    problems: Annotated[int, Field(ge=1, le=100_000)] = 32
    """P, problems in one batch."""
    group: Annotated[int, Field(ge=2, le=10_000)] = 8
    """G, rollouts per problem, over all contexts together."""
    baseline: Literal["problem", "context"] = "problem"
    """What a rollout's reward is compared with: all rollouts of its problem, or those of its
    problem under its context alone."""
    truncated: Literal["keep", "mask", "zero"] = "keep"
    """What becomes of completions that ``policy.max_tokens`` cut off. keep: they are rewarded and
    trained on like others. mask: their rewards count in the baseline, but no gradient is taken on
    them (TRL's ``mask_truncated_completions``). zero: their reward is 0, in ``reward/mean`` as
    well; rollouts keep the verifier's score. ``truncated/fraction`` is their share of a batch.
    sft, distill and opd learn from no advantage of ours and pass over
    "mask"."""
    lr: Annotated[float, Field(gt=0)] = 1e-6
    warmup: NonNegative = 10
    """Steps over which the learning rate rises linearly from 0."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0
    """Norm that gradients are clipped to; inf: no clipping."""
    kl: Annotated[float, Field(ge=0)] = 0.001
    """Coefficient of the KL term to the base policy. 0: neither computed nor logged."""
    kl_cap: Annotated[float, Field(gt=0)] = 4.0
    """Upper bound of the importance ratio that weighs the KL term."""
    tokens_per_pass: Positive = 4096
    """Tokens of one forward and backward pass: memory does not grow with the batch."""
    max_skipped: Positive = 3
    """Steps in a row that may go without an update because a number of it was not finite. Then the
    run ends."""
    mismatch_warning: Nats | Literal["auto"] = "auto"
    """Nats by which a log-probability may differ between sampling and update, under the same
    weights, before a warning names the rollout. "auto": 0.01 in float32, 0.5 in bfloat16."""
    mismatch_error: Nats | Literal["auto"] = "auto"
    """Nats of the same from which the run ends. "auto": 1 in float32, 5 in bfloat16; inf: never."""
    lora: LoraConfig | None = None

    @model_validator(mode="after")
    def _only_tables_are_left(self) -> SlowConfig:
        _refuse_other_than_tables("slow", self)
        return self

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of learners, by their names."""
        return dict(self.model_extra or {})


class PolicyConfig(Section):
    """``[policy]``: where the model runs and how it is sampled."""

    backend: str = "local"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights that compute. In bfloat16 the optimiser moves fp32 copies of them. Logits
    and log-probabilities are fp32 either way."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model may run, with all rights of the run."""
    max_tokens: Size = 512
    """Tokens of one completion, at most."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=100)] = ()
    """Texts that end a completion, as the model's own end of turn does. They are kept in it."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    rows: Size = 128
    """Completions decoded side by side, at most."""
    kv_memory: Annotated[float, Field(gt=0)] = 4.0
    """GiB of keys and values that sampling may hold: fewer completions are decoded side by side
    where they would need more. Half of it at most keeps contexts from call to call."""


class EvalConfig(Section):
    """``[eval]``: accuracy on problems that are never trained on."""

    every: NonNegative = 0
    """Slow steps between evaluations; 0: at the end of every cycle. The run's start and end are
    always evaluated."""
    split: Literal["validation", "test"] = "validation"
    problems: SizeOrNone = 64
    """Problems evaluated (the first of the split); 0: no evaluation."""
    samples: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Completions per problem: accuracy is their mean (mean@k)."""
    contexts: tuple[Literal["seed", "best", "population", "own"], ...] = ("seed", "best")
    """Those to evaluate under. "best" and "population" are those in force; "own" is the best one
    that the last fast phase on the evaluated task left, which differs once a run of several stages
    has moved on."""
    drift: bool = False
    """Whether KL(pi_train || pi_base) is measured on the completions that were sampled, exactly
    over the vocabulary. A policy that keeps no copy of the base for its updates then makes one."""


class LogConfig(Section):
    """``[log]``: what is kept of a run, and where."""

    folder: Place = Path("runs")
    checkpoint_every: NonNegative = 0
    """Slow steps between checkpoints; 0: at the end of every cycle. The end always has one."""
    keep: Positive = 2
    """Checkpoints kept, the latest ones: if one is damaged, the run goes on from the one before."""
    keep_best: bool = True
    """Whether the checkpoint is kept as well whose policy was most accurate when it was evaluated,
    under the contexts it is meant to be used with (see ``run.best``)."""
    rollouts: bool = True
    tensorboard: bool = True


class RunConfig(Section):
    """A whole run. Defaults are the paper's where the paper states them."""

    model: PlaceOrName
    """"smollm2-135m" (embedded), a hub id, a folder or a .gguf file; or the folder of a run, for
    the weights of its latest checkpoint, or that of a checkpoint."""
    method: Method = "fst"
    """fst: both learners. rl: weights only, under the seed context. fast: contexts only."""
    seed: Seed = 0
    steps: Positive | None = None
    """Slow steps of the run on ``[task]``. A run of ``[[stages]]`` counts its stages' steps."""
    name: str | None = None
    """The run's folder within ``log.folder``; None: method, task and seed."""
    context: ContextConfig = ContextConfig()
    task: TaskConfig | None = None
    stages: Annotated[tuple[StageConfig, ...], Field(max_length=1000)] = ()
    fast: FastConfig = FastConfig()
    slow: SlowConfig = SlowConfig()
    policy: PolicyConfig = PolicyConfig()
    eval: EvalConfig = EvalConfig()
    log: LogConfig = LogConfig()

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


def load(path: Path | str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a configuration file and apply ``section.key=value`` overrides.

    Raises:
        InputError: naming the file, the key, what was found and what is allowed.
    """
    path = given(path)
    return parse(read_toml(path), overrides, source=str(path))


def parse(
    data: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "config"
) -> RunConfig:
    """Validate a configuration given as nested mappings. Raises: InputError, as ``load``."""
    _refuse_unreadable(data, source)
    merged = _copy(data)
    texts = dict(apply_override(merged, override) for override in overrides)
    _refuse_unreadable(merged, source)
    _refuse_secrets(merged, source)
    for key in _texts_expected(merged, texts):
        _assign(merged, key, texts[key])
    return validate(RunConfig, merged, source)


def refuse_other_keys(config: RunConfig, overrides: Iterable[str], source: str) -> None:
    """See that a configuration sends no secret of yours to the server that it names.

    ``fast.reflection.api_key_env`` may name a variable of ``PROVIDER_KEYS``, or one that an
    override names as well. Raises: InputError.
    """
    name = config.fast.reflection.api_key_env
    given: dict[str, Any] = {}
    for override in overrides:
        if override.partition("=")[0].strip() == "fast.reflection.api_key_env":
            apply_override(given, override)
    named = given["fast"]["reflection"]["api_key_env"] if given else None
    if name is not None and name != named and name not in PROVIDER_KEYS:
        raise InputError(
            f"{source}: fast.reflection.api_key_env: names {name}, whose value would be sent to "
            "the reflection server. It is not one of the variables that only hold a key for such "
            "a server (OPENAI_API_KEY, ANTHROPIC_API_KEY and the like). If that is what you want, "
            f"say so: --set fast.reflection.api_key_env={name}"
        )


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file in UTF-8, with a byte order mark or without, as nested mappings.

    Raises: InputError if it cannot be read or is no TOML.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; expected a configuration file (TOML)")
        read = read_bytes(path, _MAX_BYTES, follow=True)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such configuration file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        return tomllib.loads(read.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read: {error}: save it as UTF-8") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply to be a configuration") from None
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python reads
        raise InputError(f"{path}: is not valid TOML: {error}") from None


_MAX_BYTES = 2**22
"""Of a configuration: the longest instructions and a thousand stages are a tenth of it."""

Model = typing.TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], data: Mapping[str, Any], source: str, prefix: str = "") -> Model:
    """Build ``model`` from ``data``; every problem found becomes a line of one InputError.

    ``source`` is the file that the message names, ``prefix`` the table that the keys stand in.
    Tasks use it for their own options.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        lines = [_explain(model, item, prefix) for item in error.errors()]
        raise InputError("\n".join(f"{source}: {line}" for line in lines)) from None


def _explain(model: type[BaseModel], item: Any, prefix: str) -> str:
    kind, found = item["type"], item["input"]
    location = [part for part in item["loc"] if not _is_branch(part)]
    if kind == "extra_forbidden" and _is_branch(item["loc"][-1]):
        location.append(item["loc"][-1])  # it only looks like one: a person wrote it
    key = ".".join([*([prefix] if prefix else []), *map(name_shown, location)])
    if kind == "extra_forbidden":
        return unknown_key(key, str(location[-1]), _fields_at(model, location[:-1]))
    if kind == "unknown_key":
        return str(item["msg"])
    if kind == "missing":
        return f"{key}: this key is missing"
    message = item["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    quoted = isinstance(found, (int, float)) and kind in ("string_type", "path_type")
    hint = f': a text stands in quotes, {key} = "..."' if quoted else ""
    return f"{key}: {message[0].lower()}{message[1:]}; found {shown(key, found)}{hint}"


def shown(key: str, value: Any) -> str:
    """What stands at a key, as far as a message may say: not where keys of servers may stand."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if key.startswith("fast.reflection") or any(map(is_secret_name, key.split("."))):
        return f"{type(value).__name__} (not shown: it may be secret)"
    if isinstance(value, (dict, list, tuple)):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text):,} characters)"


def unknown_key(key: str, name: str, known: Iterable[str]) -> str:
    """What is said of a key that nobody knows, whose last part is ``name``."""
    allowed = sorted(known)
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{key}: unknown key{hint} Allowed: {', '.join(allowed)}"


def _is_branch(part: int | str) -> bool:
    """Whether pydantic put the name of a union's branch into a location, which no person wrote."""
    return isinstance(part, str) and (
        any(mark in part for mark in "[(-") or part in {"int", "str", "float", "bool", "none"}
    )


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> set[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        current = _section_of(current.model_fields[part].annotation)
        if current is None:
            return set()
    return set(current.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The table that an annotation such as ``LoraConfig | None`` or ``tuple[X, ...]`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            if (section := _section_of(argument)) is not None:
                return section
    return None


Key = tuple[str | int, ...]
"""The parts of a key; a whole number is a place in an array."""


def split_override(override: str) -> tuple[str, str]:
    """The key and the text of ``section.key=value``. Raises: InputError if it is none."""
    key, separator, text = override.partition("=")
    if not separator or not all(key.strip().split(".")):
        raise InputError(f"--set {_cut(override)}: expected section.key=value")
    return key.strip(), text.strip()


def apply_override(data: dict[str, Any], override: str) -> tuple[Key, str]:
    """Set a key of nested mappings, in place, as ``--set section.key=value`` says.

    A whole number names an element of an array: ``stages.0.steps=5``.

    Returns:
        The key and the text of its value, as it was written.

    Raises:
        InputError: it does not say a key and a value, or goes through a key that is no table.
    """
    name, text = split_override(override)
    parts = name.split(".")
    if len(parts) > _DEEPEST:
        raise InputError(f"--set {_cut(override)}: a key has {_DEEPEST} parts at most")
    key: list[str | int] = []
    table: Any = data
    for depth, part in enumerate(parts):
        place = _place_in(table, part)
        if place is None:
            where = ".".join(parts[:depth])
            raise InputError(f"--set {_cut(override)}: {where} {_kind(table)}")
        key.append(place)
        if depth == len(parts) - 1:
            table[place] = parse_value(text)
        elif isinstance(table, dict):
            table = table.setdefault(part, {})
        else:
            table = table[place]
    return tuple(key), text


def _place_in(table: Any, part: str) -> str | int | None:
    """Where ``part`` of a key leads in a table or array; None: nowhere."""
    if isinstance(table, dict):
        return part
    if isinstance(table, list) and part.isdecimal() and int(part[:9]) < len(table):
        return int(part)
    return None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"is an array of {len(value)}: its elements are 0 to {len(value) - 1}"
    return "is a value, not a table"


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def _texts_expected(data: Mapping[str, Any], texts: Mapping[Key, str]) -> list[Key]:
    """Which of the overridden keys hold text, though what was written reads as something else in
    TOML: ``--set name=123`` names a run "123"."""
    if not texts:
        return []
    try:
        RunConfig.model_validate(data)
    except ValidationError as error:
        wrong = {
            tuple(part for part in item["loc"] if not _is_branch(part))
            for item in error.errors()
            if item["type"] in ("string_type", "path_type")
        }
        return [key for key in texts if key in wrong]
    return []


def _assign(data: Any, key: Key, value: Any) -> None:
    for part in key[:-1]:
        data = data[part]
    data[key[-1]] = value


def _refuse_unreadable(data: Mapping[str, Any], source: str) -> None:
    """Raises: InputError, if ``data`` is nested too deeply or a number cannot be shown."""
    level: list[Any] = [data]
    for _ in range(_DEEPEST):
        items = [item for value in level for item in _items(value)]
        for item in items:
            if isinstance(item, int) and abs(item) >= _LARGEST_NUMBER:
                raise InputError(f"{source}: holds a whole number of more than 100 digits")
        level = [item for item in items if isinstance(item, (Mapping, list, tuple))]
        if not level:
            return
    raise InputError(f"{source}: is nested more than {_DEEPEST} tables and arrays deep")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value


def _refuse_secrets(data: Any, source: str) -> None:
    """Raises: InputError, if a text in ``data`` holds a secret of the environment, as it does after
    a shell has expanded one in an override."""
    known = secrets()
    for key, text in _texts(data):
        if by_form(text) != text:
            raise InputError(
                f"{source}: {by_form(key)}: holds what has the form of a key or of a password in "
                "an address, and the configuration is copied into the run's folder: have what "
                "needs it read an environment variable, or give the name of one where that is "
                "asked for (api_key_env)"
            )
        for name, secret in known.items():
            if secret in text:
                raise InputError(
                    f"{source}: {redact(key)}: holds the value of the environment variable {name}, "
                    "and the configuration is copied into the run's folder: have what needs it "
                    "read the variable, or give its name where that is asked for (api_key_env)"
                )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested tables and lists, names of keys too, with its key."""
    if isinstance(value, str):
        yield key, value
    parts = value.items() if isinstance(value, dict) else ()
    for part, _ in parts:
        yield f"{key}.{part}" if key else str(part), str(part)
    for part, item in enumerate(value) if isinstance(value, list) else parts:
        yield from _texts(item, f"{key}.{part}" if key else str(part))


def parse_value(text: str) -> Any:
    """A TOML value; text that is none is taken as a string, so that shells need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    return value
