"""Losses of the slow learners against TRL's own code, verl's formula and closed forms."""

from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from fastslow.config import SlowConfig
from fastslow.errors import InputError
from fastslow.slow.base import LossInputs, Reader, SlowLearner
from fastslow.slow.coefficients import coefficients
from fastslow.slow.registry import create
from fastslow.testing import rollout, turn
from fastslow.types import Context, Datum, Group, Problem, TokenSequence

MAX_TOKENS = 12
CAP = 4.0


def learner(algorithm: str, shared: dict[str, Any] | None = None, **options: Any) -> SlowLearner:
    """A slow learner with some of its own options, and some of those that all share."""
    config = SlowConfig(algorithm=algorithm, **{algorithm: options}, **(shared or {}))
    return create(config, MAX_TOKENS, "test")


def groups_of(seed: int, drift: float) -> tuple[list[Group], list[Tensor]]:
    """Two problems with five rollouts of unequal lengths each, some cut off, and log pi_theta of
    every rollout's tokens. The logarithm of the ratio has the standard deviation ``drift``."""
    generator = torch.Generator().manual_seed(seed)
    groups, logprobs = [], []
    for name, rewards in (("a", [1.0, 0.0, 0.25, 0.5, 0.0]), ("b", [0.0, 0.0, 1.0, 1.0, 0.75])):
        rollouts = []
        for number, reward in enumerate(rewards):
            length = int(torch.randint(1, MAX_TOKENS + 1, (), generator=generator))
            policy, noise = torch.randn(2, length, generator=generator, dtype=torch.float64)
            policy = -policy.abs() - 0.01
            behaviour = (policy - drift * noise).tolist()
            said = turn(
                read=(7, number), sampled=range(length), logprobs=behaviour, finished=number != 1
            )
            rollouts.append(rollout(name, "c", reward, said))
            logprobs.append(policy)
        groups.append(Group(Problem(name, "?"), tuple(rollouts)))
    return groups, logprobs


def data_of(learner: SlowLearner, groups: Sequence[Group]) -> list[Datum]:
    return learner.data(groups, (), cast(Reader, None))


def sampled(values: Sequence[float], datum: Datum) -> Tensor:
    return torch.tensor([values[n] for n in datum.sequence.scored], dtype=torch.float64)


def ours(
    learner: SlowLearner, data: Sequence[Datum], logprobs: Sequence[Tensor]
) -> tuple[float, list[Tensor]]:
    """The weighted sum of the losses of all data, and its gradient for each datum's tokens."""
    leaves = [row.clone().requires_grad_() for row in logprobs]
    inputs = LossInputs(
        torch.cat(leaves),
        torch.cat([sampled(d.logprobs, d) for d in data]),
        torch.cat([sampled(d.advantages, d) for d in data]),
        torch.cat([torch.full((len(d.sequence.scored),), n) for n, d in enumerate(data)]),
    )
    weights = torch.cat([sampled(d.weights, d) for d in data])
    loss = (weights * learner.loss(inputs)).sum()
    loss.backward()
    return loss.item(), [leaf.grad for leaf in leaves if leaf.grad is not None]


def trl_s(
    data: Sequence[Datum],
    logprobs: Sequence[Tensor],
    loss_type: str,
    level: str = "token",
    low: float = 0.2,
    high: float = 0.2,
) -> tuple[float, list[Tensor]]:
    """What GRPOTrainer._compute_loss makes of the same tokens and advantages.

    It runs on a stand-in for the trainer that gives these log-probabilities instead of a model's,
    padded on the right; the tokens that its mask lets through are the items of the batch.
    """
    from trl import GRPOTrainer

    leaves = [row.clone().requires_grad_() for row in logprobs]
    pad = torch.nn.utils.rnn.pad_sequence
    policy = pad(leaves, batch_first=True, padding_value=-1.0)
    behaviour = pad([sampled(d.logprobs, d) for d in data], batch_first=True, padding_value=-1.0)
    mask = pad([torch.ones(len(row), dtype=torch.long) for row in leaves], batch_first=True)
    model = torch.nn.Identity().eval()
    trainer = SimpleNamespace(
        model=model,
        loss_type=loss_type,
        epsilon_low=low,
        epsilon_high=high,
        importance_sampling_level=level,
        beta=0.0,
        args=SimpleNamespace(use_bias_correction_kl=True, delta=None),
        max_completion_length=MAX_TOKENS,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            policy,
            torch.zeros_like(policy),
            None,
        ),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    inputs = {
        "prompt_ids": mask[:, :1],
        "prompt_mask": mask[:, :1],
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": torch.stack([sampled(d.advantages, d)[0] for d in data]),
        "old_per_token_logps": behaviour,
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, model, inputs)
    loss.backward()
    return loss.item(), [leaf.grad for leaf in leaves if leaf.grad is not None]


def assert_same(found: tuple[float, list[Tensor]], expected: tuple[float, list[Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-10, abs=1e-12)
    for a, b in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


TRL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # TRL averages CISPO over tokens; the paper over problems, which is our default.
    "cispo": ({"aggregation": "token"}, {"loss_type": "cispo", "high": CAP}),
    "grpo": ({}, {"loss_type": "grpo"}),
    "dapo": ({"overlong": 0.0}, {"loss_type": "dapo", "high": 0.28}),
    "dr_grpo": ({}, {"loss_type": "dr_grpo"}),
    "gspo": ({}, {"loss_type": "grpo", "level": "sequence", "low": 3e-4, "high": 4e-4}),
}


@pytest.mark.parametrize("truncated", ["keep", "mask"])
@pytest.mark.parametrize("drift", [0.0, 1e-3, 0.3, 2.0])
@pytest.mark.parametrize("name", TRL)
def test_losses_are_trl_s(name: str, drift: float, truncated: str) -> None:
    """Value and gradient, with the learner's own aggregation. With "mask" TRL's tokens of cut off
    completions leave the loss and its count, and advantages stay as they are."""
    options, theirs = TRL[name]
    groups, logprobs = groups_of(3, drift)
    this = learner(name, {"truncated": truncated}, **options)
    data = data_of(this, groups)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if truncated == "mask":
        logprobs = [row for row, r in zip(logprobs, rollouts, strict=True) if r.finished]
    assert_same(ours(this, data, logprobs), trl_s(data, logprobs, **theirs))


def test_the_settings_above_reach_bounds_on_both_sides() -> None:
    groups, logprobs = groups_of(3, 2.0)
    data = data_of(learner("cispo"), groups)
    ratios = torch.cat(
        [(row - sampled(d.logprobs, d)).exp() for d, row in zip(data, logprobs, strict=True)]
    )
    assert (ratios > CAP).any()
    assert (ratios < 0.8).any()
    assert ((ratios > 1.2) & (ratios < 1.28)).any() or (ratios > 1.28).any()


@pytest.mark.parametrize("drift", [0.0, 0.3, 2.0])
def test_cispo_is_verl_s_where_its_bounds_say_the_same(drift: float) -> None:
    """verl: -sg(clamp(rho, 1 - low, 1 + high)) * A * log pi. At low = 1, high = 3 the bounds are
    [0, 4], and a ratio is never negative: that is our absolute cap of 4."""
    groups, logprobs = groups_of(7, drift)
    this = learner("cispo")
    data = data_of(this, groups)
    leaves = [row.clone().requires_grad_() for row in logprobs]
    loss = torch.stack(
        [
            (
                sampled(d.weights, d)
                * -torch.exp(leaf - sampled(d.logprobs, d)).clamp(1 - 1.0, 1 + 3.0).detach()
                * sampled(d.advantages, d)
                * leaf
            ).sum()
            for d, leaf in zip(data, leaves, strict=True)
        ]
    ).sum()
    loss.backward()
    expected = loss.item(), [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert_same(ours(this, data, logprobs), expected)


def inputs_of(logprobs: Tensor, behaviour: Tensor, advantages: list[float]) -> LossInputs:
    owners = torch.arange(len(logprobs))
    return LossInputs(logprobs, behaviour, torch.tensor(advantages), owners)


def test_the_cap_is_absolute_and_no_token_loses_its_gradient() -> None:
    logprobs = torch.full((4,), -1.0, requires_grad=True)
    behaviour = logprobs.detach() - torch.tensor([0.01, 3.9, 4.1, 100.0]).log()
    losses = learner("cispo").loss(inputs_of(logprobs, behaviour, [1.0, 1.0, 1.0, -1.0]))
    losses.sum().backward()
    expected = torch.tensor([0.01, 3.9, 4.0, -4.0])
    torch.testing.assert_close(losses.detach(), expected)
    # Only log pi is differentiated: the gradient is -min(rho, tau) * A.
    torch.testing.assert_close(logprobs.grad, -expected)


@pytest.mark.parametrize("on_policy", [True, False])
def test_reinforce_has_the_gradient_of_the_expected_reward(on_policy: bool) -> None:
    """Of one token out of twelve, over all of which the behaviour policy's mean is taken."""
    generator = torch.Generator().manual_seed(0)
    logits, other, rewards = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    exact = logits.clone().requires_grad_()
    (-(exact.softmax(-1) * rewards).sum()).backward()
    leaf = logits.clone().requires_grad_()
    policy = leaf.log_softmax(-1)
    behaviour = policy.detach() if on_policy else other.log_softmax(-1)
    inputs = LossInputs(policy, behaviour, rewards, torch.arange(12))
    (behaviour.exp() * learner("reinforce").loss(inputs)).sum().backward()
    torch.testing.assert_close(leaf.grad, exact.grad, rtol=1e-10, atol=1e-12)


def test_reinforce_sums_over_a_completion_and_averages_over_completions() -> None:
    groups, _ = groups_of(3, 0.0)
    data = data_of(learner("reinforce"), groups)
    assert {weight for d in data for weight in sampled(d.weights, d).tolist()} == {0.1}
    rewards = [r.reward for r in groups[0].rollouts]
    for own, (place, reward) in zip(data, enumerate(rewards), strict=False):
        others = [r for n, r in enumerate(rewards) if n != place]
        assert sampled(own.advantages, own)[0] == pytest.approx(reward - sum(others) / 4)


def test_dapo_takes_up_to_one_off_the_reward_of_long_completions() -> None:
    """Of 12 tokens the last half is the buffer: a completion of 9 loses a half."""
    lengths = [3, 6, 9, 12]
    rollouts = tuple(
        rollout("a", "c", 1.0, turn(sampled=(1,) * n, logprobs=(-1.0,) * n)) for n in lengths
    )
    groups = [Group(Problem("a", "?"), rollouts)]
    assert data_of(learner("dapo", overlong=0.0), groups) == []
    data = data_of(learner("dapo", overlong=0.5, advantage="centred"), groups)
    expected = [r - (1 + 1 + 0.5 + 0) / 4 for r in (1, 1, 0.5, 0)]
    found = [float(sampled(d.advantages, d)[0]) for d in data]
    assert found == pytest.approx(expected)


class Encoder:
    """A policy that encodes a context as the number of its words."""

    window, max_tokens, gives_distributions = 40, 12, True

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        return (*range(len(context.instructions.split())), 99)


@pytest.mark.parametrize("under_context", [True, False])
def test_sft_is_the_cross_entropy_of_right_answers(under_context: bool) -> None:
    groups, logprobs = groups_of(3, 0.5)
    this = learner("sft", under_context=under_context)
    data = this.data(groups, (), cast(Reader, Encoder()))
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    right = [n for n, rollout in enumerate(rollouts) if rollout.reward == 1]
    assert len(right) == 3
    chosen = [logprobs[n] for n in right]
    found = ours(this, data, chosen)
    assert found[0] == pytest.approx(-torch.cat(chosen).mean().item())
    for datum, number in zip(data, right, strict=True):
        right_one = rollouts[number]
        prompt = right_one.prompt if under_context else (99,)
        assert datum.tokens == [*prompt, *right_one.sampled]
        assert datum.policy_version == (0 if under_context else None)
    assert this.data(groups[:0], (), cast(Reader, Encoder())) == []


def test_distillation_takes_turns_with_the_contexts_that_the_window_holds() -> None:
    groups, _ = groups_of(3, 0.5)
    contexts = [Context("one two"), Context("word " * 40), Context("one")]
    data = learner("distill").data(groups, contexts, cast(Reader, Encoder()))
    teachers = [datum.teacher_prompt for datum in data]
    assert [teachers.count((0, 1, 99)), teachers.count((0, 99))] == [5, 5]
    assert sum(sum(datum.weights) for datum in data[:5]) == pytest.approx(0.5)
    assert sum(sum(datum.weights) for datum in data[5:]) == pytest.approx(0.5)
    assert learner("distill").data(groups, contexts[1:2], cast(Reader, Encoder())) == []


class Teacher(Encoder):
    """Finds every token of the n-th completion n nats likelier than -5."""

    def logprobs(self, sequences: Sequence[TokenSequence]) -> list[list[float]]:
        return [[-5.0 + n] * len(sequence.scored) for n, sequence in enumerate(sequences)]


def test_on_policy_distillation_follows_the_teacher_token_by_token() -> None:
    groups, logprobs = groups_of(3, 0.0)
    this = learner("opd", teacher="another")
    this.samplers["slow.opd.teacher"] = cast(Reader, Teacher())
    assert this.models == {"slow.opd.teacher": "another"}
    empty = Group(Problem("c", "?"), ())
    data = this.data([*groups, empty], (), cast(Reader, Encoder()))
    value, gradients = ours(this, data, logprobs)
    count = sum(map(len, logprobs))
    for n, (row, gradient) in enumerate(zip(logprobs, gradients, strict=True)):
        torch.testing.assert_close(gradient, -(-5.0 + n - row) / count)
    assert value == pytest.approx(sum(float(g.sum()) for g in gradients))


def test_a_teacher_with_other_tokens_is_refused() -> None:
    class Other(Encoder):
        def encode(self, context: Context, question: str) -> tuple[int, ...]:
            return (1, 2)

    this = learner("opd", teacher="another")
    this.samplers["slow.opd.teacher"] = cast(Reader, Teacher())
    this.check(cast(Reader, Encoder()))
    this.samplers["slow.opd.teacher"] = cast(Reader, Other())
    with pytest.raises(InputError, match=r"slow\.opd\.teacher: the teacher's tokenizer"):
        this.check(cast(Reader, Encoder()))


@pytest.mark.parametrize("name", ["cispo", "grpo", "dapo", "dr_grpo", "gspo", "reinforce"])
def test_coefficients_take_the_same_step(name: str) -> None:
    """The parameters are a linear model's: its log-probabilities are products with them."""
    groups, logprobs = groups_of(3, 0.2)
    this = learner(name)
    data = data_of(this, groups)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(sum(map(len, logprobs)), 4, generator=generator, dtype=torch.float64)
    weights = torch.cat([sampled(d.weights, d) for d in data])
    parameters = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    inputs = LossInputs(
        torch.cat(logprobs) + rows @ parameters,
        torch.cat([sampled(d.logprobs, d) for d in data]),
        torch.cat([sampled(d.advantages, d) for d in data]),
        torch.cat([torch.full((len(d.sequence.scored),), n) for n, d in enumerate(data)]),
    )
    loss = (weights * this.loss(inputs)).sum()
    (expected,) = torch.autograd.grad(loss, parameters)
    value, factors = coefficients(this.loss, inputs, weights)
    assert value.item() == pytest.approx(loss.item())
    policy = torch.cat(logprobs) + rows @ parameters
    (found,) = torch.autograd.grad(-(factors * policy).sum(), parameters)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


class SampledOnly(Encoder):
    """A backend that scores sampled tokens and compares no distributions."""

    gives_distributions = False

    def logprobs(self, sequences: Sequence[TokenSequence]) -> list[list[float]]:
        assert all(sequence.tokens[0] == 0 for sequence in sequences), "behind the context"
        return [[-2.0] * len(sequence.scored) for sequence in sequences]


def test_without_distributions_distillation_goes_by_sampled_tokens() -> None:
    groups, logprobs = groups_of(3, 0.0)
    this = learner("distill")
    data = this.data(groups, [Context("one two")], cast(Reader, SampledOnly()))
    assert all(datum.teacher_prompt is None for datum in data)
    _, gradients = ours(this, data, logprobs)
    for datum, row, gradient in zip(data, logprobs, gradients, strict=True):
        torch.testing.assert_close(gradient, -sampled(datum.weights, datum) * (-2.0 - row))
    expected = torch.cat([row + 2.0 for row in logprobs]).mean().item()
    assert this.measures(data) == {"kl/teacher/sampled": pytest.approx(expected)}
    exact = this.data(groups, [Context("one two")], cast(Reader, Encoder()))
    assert this.measures(exact) == {}
