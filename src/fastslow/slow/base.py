"""What a slow learner is: a hook from rollouts to data, and the loss that is taken on them.

A learner of one's own::

    from fastslow.slow import LossInputs, PolicyGradient, slow_learner

    @slow_learner("reinforce_clipped")
    class Clipped(PolicyGradient):
        '''REINFORCE with a truncated importance weight.'''

        def loss(self, inputs: LossInputs):
            return -inputs.ratio.clamp(max=2.0).detach() * inputs.advantages * inputs.logprobs
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol

from fastslow.config import Section, SlowConfig
from fastslow.slow.advantages import Estimator
from fastslow.slow.aggregation import Aggregation
from fastslow.slow.data import policy_gradient_data
from fastslow.types import Context, Datum, Group, Rollout, TokenSequence

if TYPE_CHECKING:
    from torch import Tensor


class Reader(Protocol):
    """What a learner asks of a policy, its own or a teacher's, beside the rollouts that it has."""

    @property
    def window(self) -> int:
        """Maximum number of tokens of prompt and completion together."""

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of one completion."""

    @property
    def gives_distributions(self) -> bool:
        """Whether the backend can compare whole next-token distributions: exact distillation and
        exact drift need them. Without them the log-probabilities of sampled tokens serve."""

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        """Token ids of the context and the question in the model's own chat template, up to where
        the answer begins."""

    def logprobs(self, sequences: Sequence[TokenSequence]) -> list[list[float]]:
        """log pi of each sequence's scored tokens in nats."""


@dataclass(frozen=True)
class LossInputs:
    """What a loss sees: the N scored tokens of some sequences, each sequence whole.

    Attributes:
        logprobs: [N] log pi_theta in nats, with gradient.
        behaviour: [N] log pi_behaviour in nats, of the policy that sampled the tokens.
        advantages: [N] of the tokens.
        owners: [N] number of the sequence that each token belongs to, from 0, ascending.
        divergences: [N] KL(pi_theta || pi_teacher) in nats over the vocabulary, with gradient;
            None unless the data name a teacher.
    """

    logprobs: Tensor
    behaviour: Tensor
    advantages: Tensor
    owners: Tensor
    divergences: Tensor | None = None

    @cached_property
    def ratio(self) -> Tensor:
        """[N] rho = pi_theta / pi_behaviour of each token, with gradient."""
        return (self.logprobs - self.behaviour).exp()

    def sequence_mean(self, values: Tensor) -> Tensor:
        """[N] the mean of [N] values over the tokens of the same sequence, with gradient."""
        count = int(self.owners[-1]) + 1
        sums = values.new_zeros(count).index_add(0, self.owners, values)
        sizes = values.new_zeros(count).index_add(0, self.owners, values.new_ones(len(values)))
        return (sums / sizes)[self.owners]


class Loss(Protocol):
    """[N] losses of the scored tokens of whole sequences."""

    def __call__(self, inputs: LossInputs) -> Tensor: ...


class SlowLearner(ABC):
    """How the weights learn from groups of rollouts.

    Args:
        options: the learner's own table, ``[slow.NAME]``.
        config: ``[slow]``, what all learners share.
        max_tokens: of one completion, at most.

    Attributes:
        name: what ``[slow] algorithm`` calls it.
        Options: model of its own table.
        samples_contexts: whether rollouts are sampled under the contexts of the population, and so
            those of a fast phase can be reused. Else the seed context alone is read.
        top: likeliest tokens that the divergence from a teacher tells apart; None: all.
        models: names of models that the learner asks, by the keys that name them.
        samplers: these models, opened for sampling, by the same keys; filled before training.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Section]] = Section
    samples_contexts: ClassVar[bool] = True
    top: int | None = None
    models: Mapping[str, str] = MappingProxyType({})

    def __init__(self, options: Section, config: SlowConfig, max_tokens: int) -> None:
        self.options = options
        self.config = config
        self.max_tokens = max_tokens
        self.samplers: dict[str, Reader] = {}

    def check(self, policy: Reader) -> None:  # noqa: B027 - few learners ask models
        """Find ``samplers`` right beside the policy that learns. Raises: InputError."""

    @abstractmethod
    def data(
        self, groups: Sequence[Group], contexts: Sequence[Context], policy: Reader
    ) -> list[Datum]:
        """What to learn from a batch; no data where there is nothing to learn.

        Args:
            groups: the graded rollouts of each problem of the batch.
            contexts: those in force, best first.
            policy: encodes prompts; its weights are those that the step starts from.
        """

    def measures(self, data: Sequence[Datum]) -> dict[str, float]:
        """Further measures of a step on ``data``, by their metric names."""
        return {}

    @abstractmethod
    def loss(self, inputs: LossInputs) -> Tensor:
        """[N] losses per token. The step descends their sum, each times its ``Datum.weights``."""


class PolicyGradientOptions(Section):
    """Options that learners from rewards share. Each sets the defaults of its paper."""

    advantage: Estimator = "group"
    """What a reward is compared with, see ``slow.advantages``."""
    aggregation: Aggregation = "problem"
    """Whose losses weigh the same, see ``slow.aggregation``."""


class PolicyGradient(SlowLearner):
    """A learner from rewards: advantages within groups, and a loss per token made of them."""

    Options: ClassVar[type[PolicyGradientOptions]] = PolicyGradientOptions
    options: PolicyGradientOptions

    def data(
        self, groups: Sequence[Group], contexts: Sequence[Context], policy: Reader
    ) -> list[Datum]:
        return policy_gradient_data(
            groups,
            estimator=self.options.advantage,
            aggregation=self.options.aggregation,
            baseline=self.config.baseline,
            truncated=self.config.truncated,
            max_tokens=self.max_tokens,
            reward=self.reward,
        )

    def reward(self, rollout: Rollout) -> float:
        """What the learner makes of a verdict."""
        return rollout.reward
