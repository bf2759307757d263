"""Losses against TRL's own code, verl's formula and exact expectations."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fastslow.slow.advantages import group_advantages, training_data
from fastslow.slow.losses import LOSSES, cispo, kl_to_reference
from fastslow.types import Completion, Group, Problem, Rollout, Verdict

CAP = 4.0


def random_tokens(seed: int, drift: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities of the policy, of the behaviour and of a reference, and advantages; [5, 8].

    The logarithm of the ratio has the standard deviation ``drift``.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    logprobs = -normal(5, 8).abs() - 0.01
    behaviour = logprobs - drift * normal(5, 8)
    reference = logprobs + 0.5 * normal(5, 8)
    return logprobs, behaviour, reference, normal(5)


def ours(
    logprobs: Tensor, behaviour: Tensor, advantages: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """The summed loss and its gradient with respect to the log-probabilities."""
    leaf = logprobs.clone().requires_grad_()
    per_token = advantages[:, None].expand_as(leaf)
    loss = cispo(leaf.flatten(), behaviour.flatten(), per_token.flatten(), cap=CAP).sum()
    if options:
        kl = kl_to_reference(
            leaf.flatten(), behaviour.flatten(), options["reference"].flatten(), cap=options["cap"]
        )
        loss = loss + options["beta"] * kl.sum()
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def trl_s(
    logprobs: Tensor,
    behaviour: Tensor,
    advantages: Tensor,
    reference: Tensor | None = None,
    beta: float = 0.0,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What GRPOTrainer._compute_loss makes of the same log-probabilities with loss_type="cispo".

    It runs on a stand-in for the trainer that gives these log-probabilities instead of a model's
    and counts one item in the batch, so that the loss is a sum; with a mask, [5, 8], it counts the
    items that the mask lets through, as TRL does, so that the loss is their mean.
    """
    from trl import GRPOTrainer

    leaf = logprobs.clone().requires_grad_()
    ones = torch.ones(leaf.shape, dtype=torch.long)
    model = torch.nn.Identity().eval()
    trainer = SimpleNamespace(
        model=model,
        loss_type="cispo",
        epsilon_high=CAP,
        importance_sampling_level="token",
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=True),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (leaf, torch.zeros_like(leaf), None),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    inputs = {
        "prompt_ids": ones[:, :1],
        "prompt_mask": ones[:, :1],
        "completion_ids": ones,
        "completion_mask": ones if mask is None else mask,
        "advantages": advantages,
        "old_per_token_logps": behaviour,
        "num_items_in_batch": torch.tensor(1.0) if mask is None else mask.sum(),
    }
    if reference is not None:
        inputs["ref_per_token_logps"] = reference
    loss = GRPOTrainer._compute_loss(trainer, model, inputs)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("drift", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_cispo_is_trl_s(seed: int, drift: float) -> None:
    logprobs, behaviour, _, advantages = random_tokens(seed, drift)
    above = int(((logprobs - behaviour).exp() > CAP).sum())
    assert (above > 0) == (drift == 2.0)
    assert_same(ours(logprobs, behaviour, advantages), trl_s(logprobs, behaviour, advantages))


@pytest.mark.parametrize("seed", range(3))
def test_the_kl_term_is_trl_s_with_bias_correction(seed: int) -> None:
    """TRL's use_bias_correction_kl multiplies k3 by the ratio as we do, but knows no cap."""
    logprobs, behaviour, reference, advantages = random_tokens(seed, 0.8)
    found = ours(logprobs, behaviour, advantages, reference=reference, beta=0.3, cap=torch.inf)
    assert_same(found, trl_s(logprobs, behaviour, advantages, reference, beta=0.3))


@pytest.mark.parametrize("seed", range(3))
def test_masked_completions_are_trl_s(seed: int) -> None:
    """TRL's mask_truncated_completions takes their tokens out of the loss and of its count, and
    leaves the advantages as they are."""
    logprobs, behaviour, _, _ = random_tokens(seed, 0.5)
    rewards = [1.0, 0.0, 0.25, 0.5, 0.0]
    finished = [True, False, True, False, True]
    rollouts = tuple(
        Rollout(
            "p",
            "c",
            Completion((1,), tuple(range(8)), tuple(old.tolist()), "", whole, 0),
            Verdict(reward),
        )
        for old, whole, reward in zip(behaviour, finished, rewards, strict=True)
    )
    data = training_data([Group(Problem("p", "?"), rollouts)], truncated="mask")
    leaf = logprobs.clone().requires_grad_()
    losses = [
        datum.weight
        * cispo(
            row,
            torch.tensor(datum.logprobs, dtype=row.dtype),
            torch.tensor(datum.advantage, dtype=row.dtype),
            cap=CAP,
        )
        for datum, row in zip(data, leaf[finished], strict=True)
    ]
    loss = torch.cat(losses).sum()
    loss.backward()
    assert leaf.grad is not None
    advantages = torch.tensor(group_advantages(rewards), dtype=torch.float64)
    mask = torch.tensor(finished)[:, None].expand(5, 8).long()
    assert_same((loss.detach(), leaf.grad), trl_s(logprobs, behaviour, advantages, mask=mask))


@pytest.mark.parametrize("drift", [0.0, 0.1, 2.0])
def test_cispo_is_verl_s_where_its_bounds_say_the_same(drift: float) -> None:
    """verl: -sg(clamp(rho, 1 - low, 1 + high)) * A * log pi. At low = 1, high = 3 the bounds are
    [0, 4], and a ratio is never negative: that is our absolute cap of 4."""
    logprobs, behaviour, _, advantages = random_tokens(7, drift)
    leaf = logprobs.clone().requires_grad_()
    ratio = torch.exp(leaf - behaviour).clamp(1 - 1.0, 1 + 3.0).detach()
    loss = (-ratio * advantages[:, None] * leaf).sum()
    loss.backward()
    assert leaf.grad is not None
    assert_same(ours(logprobs, behaviour, advantages), (loss.detach(), leaf.grad))


def test_the_cap_is_absolute_and_no_token_loses_its_gradient() -> None:
    logprobs = torch.full((4,), -1.0, requires_grad=True)
    behaviour = logprobs.detach() - torch.tensor([0.01, 3.9, 4.1, 100.0]).log()
    losses = cispo(logprobs, behaviour, torch.tensor([1.0, 1.0, 1.0, -1.0]), cap=CAP)
    losses.sum().backward()
    expected = torch.tensor([0.01, 3.9, 4.0, -4.0])
    torch.testing.assert_close(losses.detach(), expected)
    # Only log pi is differentiated: the gradient is -min(rho, tau) * A.
    torch.testing.assert_close(logprobs.grad, -expected)


def test_the_loss_s_name_is_the_configuration_s() -> None:
    assert LOSSES["cispo"] is cispo


# --- the KL term, on a vocabulary small enough to be enumerated ---------------------------------


def distributions(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a policy, and log-probabilities of a reference and of a behaviour policy."""
    generator = torch.Generator().manual_seed(seed)
    logits, reference, behaviour = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    return logits, reference.log_softmax(-1), behaviour.log_softmax(-1)


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_expectation_and_its_gradient_are_the_exact_kl_s(seed: int, on_policy: bool) -> None:
    logits, reference, behaviour = distributions(seed)
    if on_policy:
        behaviour = logits.log_softmax(-1)
    values, gradients = [], []
    for exact in (True, False):
        leaf = logits.clone().requires_grad_()
        policy = leaf.log_softmax(-1)
        if exact:
            value = (policy.exp() * (policy - reference)).sum()
        else:
            estimates = kl_to_reference(policy, behaviour, reference, cap=torch.inf)
            value = (behaviour.exp() * estimates).sum()
        value.backward()
        assert leaf.grad is not None
        values.append(value.detach())
        gradients.append(leaf.grad)
    torch.testing.assert_close(values[0], values[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_the_kl_term_is_never_negative_and_zero_only_at_the_reference(seed: int) -> None:
    logits, reference, behaviour = distributions(seed)
    policy = logits.log_softmax(-1)
    assert (kl_to_reference(policy, behaviour, reference, cap=CAP) > 0).all()
    at_reference = reference.clone().requires_grad_()
    estimates = kl_to_reference(at_reference, behaviour, reference, cap=CAP)
    estimates.sum().backward()
    assert estimates.tolist() == [0.0] * 12
    assert at_reference.grad is not None
    assert at_reference.grad.abs().max() == 0


def test_the_cap_bounds_the_ratio_of_the_kl_term() -> None:
    policy, reference = torch.tensor([-1.0]), torch.tensor([-2.0])
    k3 = torch.exp(torch.tensor([-1.0])) + 1 - 1
    found = kl_to_reference(policy, policy - 10, reference, cap=CAP)
    torch.testing.assert_close(found, CAP * k3)


@pytest.mark.parametrize("cap", [CAP, torch.inf])
def test_the_kl_term_is_finite_for_all_finite_log_probabilities(cap: float) -> None:
    points = [-1e4, -1000.0, -300.0, -95.0, -41.0, -21.0, -19.0, -2.0, -1e-3, 0.0]
    policy, behaviour, reference = map(
        torch.Tensor.flatten, torch.meshgrid(*[torch.tensor(points)] * 3, indexing="ij")
    )
    leaf = policy.clone().requires_grad_()
    values = kl_to_reference(leaf, behaviour, reference, cap=cap)
    values.sum().backward()
    assert leaf.grad is not None
    assert values.isfinite().all()
    assert leaf.grad.isfinite().all()
    assert (values >= -1e-4).all()


@pytest.mark.parametrize("distance", [0.0, 0.5, 5.0, 19.9, 20.1, 40.0])
def test_the_kl_term_has_its_value_and_gradient_on_both_sides_of_the_switch(
    distance: float,
) -> None:
    for behind in (-1.0, 0.0, 3.0):  # the behaviour below, at and above the policy; one is capped
        policy = torch.tensor([-45.0], dtype=torch.float64, requires_grad=True)
        behaviour, reference = policy.detach() - behind, policy.detach() + distance
        kl_to_reference(policy, behaviour, reference, cap=CAP).sum().backward()
        plain = policy.detach().clone().requires_grad_()
        ratio = (plain - behaviour).exp().clamp(max=CAP)
        (ratio * ((reference - plain).exp() - (reference - plain) - 1)).sum().backward()
        torch.testing.assert_close(policy.grad, plain.grad, rtol=1e-6, atol=1e-12)


def test_a_token_the_policy_came_to_avoid_does_not_explode() -> None:
    policy = torch.tensor([-40.0], requires_grad=True)
    value = kl_to_reference(policy, torch.tensor([-1.0]), torch.tensor([-1.0]), cap=CAP)
    value.sum().backward()
    assert policy.grad is not None
    assert 0 <= value.item() <= 1.01
    assert abs(policy.grad.item()) < 1.01
