"""The KL term against TRL's formula and exact expectations."""

import pytest
import torch
from torch import Tensor

from fastslow.slow.reference import kl_to_reference

CAP = 4.0


def random_tokens(seed: int, drift: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the policy, of the behaviour and of a reference, [40]; the logarithm of
    the ratio has the standard deviation ``drift``."""
    generator = torch.Generator().manual_seed(seed)
    logprobs, noise, other = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    logprobs = -logprobs.abs() - 0.01
    return logprobs, logprobs - drift * noise, logprobs + 0.5 * other


@pytest.mark.parametrize("seed", range(3))
def test_the_kl_term_is_trl_s_with_bias_correction(seed: int) -> None:
    """TRL's use_bias_correction_kl multiplies k3 by the ratio as we do, but knows no cap."""
    logprobs, behaviour, reference = random_tokens(seed, 0.8)
    found, expected = (logprobs.clone().requires_grad_() for _ in range(2))
    kl_to_reference(found, behaviour, reference, cap=torch.inf).sum().backward()
    difference = reference - expected
    k3 = torch.exp(difference) - difference - 1
    (k3 * torch.exp(expected - behaviour)).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-10)


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
