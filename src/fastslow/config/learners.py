"""``[fast]`` and ``[slow]``: the learners of contexts and of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fastslow.config.base import (
    Coefficient,
    CoefficientOrNone,
    Nats,
    NonNegative,
    Positive,
    Section,
    Size,
    SizeOrNone,
)
from fastslow.config.explain import unknown_key, validate
from fastslow.plugins import Registry
from fastslow.terminal import name as name_shown


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
    temperature: Annotated[float, Field(ge=0, le=1000)] | Literal["default"] = 1.0
    """"default": not sent, for models that take no other. If a server refuses it, it is left out
    from then on."""
    max_tokens: Size = 2048
    """Tokens of one answer of the reflection model, at most."""
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


class HasOptions(Protocol):
    """A learner: a class with a model of its own table."""

    Options: ClassVar[type[Section]]


Learner = TypeVar("Learner", bound=HasOptions)


class LearnerSection(Section):
    """A table of options that learners share. A learner's own options stand in a table of its name
    within it, such as ``[slow.cispo]``, and the learner validates them."""

    model_config = ConfigDict(extra="allow")

    section: ClassVar[str]
    algorithm: str

    @model_validator(mode="after")
    def _only_tables_are_left(self) -> Self:
        """Any other key that is not known is a mistake."""
        for key, value in (self.model_extra or {}).items():
            if not isinstance(value, Mapping):
                known = [*type(self).model_fields, self.algorithm]
                text = unknown_key(f"{self.section}.{name_shown(key)}", key, known)
                raise PydanticCustomError("unknown_key", "{text}", {"text": text})
        return self

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of learners, by their names."""
        return dict(self.model_extra or {})

    def find(self, registry: Registry[Learner], source: str) -> tuple[type[Learner], Any]:
        """The class that ``algorithm`` names, and its own options: an instance of its ``Options``.

        Raises:
            InputError: a table or ``algorithm`` names no learner, or an option is wrong.
        """
        for name in self.tables:
            registry.find(name, f"{source}: [{self.section}.{name}]")
        learner = registry.find(self.algorithm, source)
        prefix = f"{self.section}.{self.algorithm}"
        table = self.tables.get(self.algorithm, {})
        return learner, validate(learner.Options, table, source, prefix=prefix)


class FastConfig(LearnerSection):
    """``[fast]``: the learner of contexts (paper, fast phase)."""

    section = "fast"

    algorithm: str = "gepa"
    """The fast learner: gepa (the paper's), bootstrap, opro, playbook, frozen, or one of your own
    (see docs/extending.md)."""
    population: Annotated[int, Field(ge=1, le=10_000)] = 4
    """K, contexts kept for a cycle."""
    every: Positive = 6
    """T, slow steps per cycle."""
    budget: Positive | Literal["auto"] = "auto"
    """gepa: metric calls (rollouts) of one fast phase, never exceeded. "auto": K+1 passes over the
    anchor set (960 at the paper's 192 anchors and K = 4) plus every proposal's minibatch and probe
    (see ``fast.gepa.auto_budget``)."""
    proposals: Size = 16
    """gepa: contexts proposed in one fast phase, at most."""
    minibatch: Size = 3
    """gepa: anchors on which a proposal must beat its parent before it is scored on all of them."""
    components: Annotated[tuple[str, ...], Field(max_length=100)] = ("demonstrations",)
    """What gepa may rewrite: demonstrations, instructions (needs ``[fast.reflection]``), or the
    component of a proposer of your own."""
    pool: SizeOrNone = 64
    """Training problems set aside for demonstrations, at most a quarter of the split: no slow step
    and no anchor set asks them."""
    reuse: bool = True
    """Whether rollouts of the fast phase take part in the slow phase of the same cycle."""
    demonstrations: DemonstrationsConfig = DemonstrationsConfig()
    """Limits of the proposer that writes solved problems into the context."""
    reflection: ReflectionConfig = ReflectionConfig()
    """The language model that rewrites instructions."""

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


class LoraConfig(Section):
    """``[slow.lora]``: train low-rank adapters instead of all weights."""

    rank: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Rank of each adapter."""
    alpha: Coefficient = 32.0
    """Scale of the adapters: their product is multiplied by alpha / rank."""
    targets: Annotated[tuple[str, ...], Field(max_length=10_000)] | Literal["all-linear"] = (
        "all-linear"
    )
    """Names of the linear layers that get an adapter. "all-linear": all but the output layer."""


class SlowConfig(LearnerSection):
    """``[slow]``: the learner of weights (paper, slow phase)."""

    section = "slow"

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
    lr: Coefficient = 1e-6
    """Learning rate of AdamW after the warm-up. The default is the paper's."""
    warmup: NonNegative = 10
    """Steps over which the learning rate rises linearly from 0."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """Decay rates of AdamW's running means of the gradient and of its square."""
    eps: Coefficient = 1e-8
    """Number that AdamW adds to the denominator of an update."""
    weight_decay: CoefficientOrNone = 0.0
    """Decoupled weight decay of AdamW. 0: none."""
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0
    """Norm that gradients are clipped to; inf: no clipping."""
    kl: CoefficientOrNone = 0.001
    """Coefficient of the KL term to the base policy. 0: neither computed nor logged."""
    kl_cap: Coefficient = 4.0
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
    """Trains low-rank adapters. Left out: all weights are trained."""
