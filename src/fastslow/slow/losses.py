"""Policy-gradient losses per token, as pure functions of log-probabilities.

Each takes flat tensors over the completion tokens of a batch; how tokens and problems are weighed
is not their matter (``slow.advantages`` decides that).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class PolicyLoss(Protocol):
    """A loss for each of N tokens, [N], from log pi_theta, log pi_behaviour and the advantages."""

    def __call__(
        self, logprobs: Tensor, behaviour_logprobs: Tensor, advantages: Tensor, *, cap: float
    ) -> Tensor: ...


def cispo(
    logprobs: Tensor, behaviour_logprobs: Tensor, advantages: Tensor, *, cap: float
) -> Tensor:
    """CISPO: -sg(min(rho, tau)) * A * log pi_theta with rho = pi_theta / pi_behaviour (paper).

    The cap tau is absolute (TRL's convention, not verl's 1 + eps), there is no lower bound, and no
    token loses its gradient: the ratio is a constant, the gradient flows through log pi_theta only.

    Args:
        logprobs: [N] log pi_theta of the sampled tokens in nats, with gradient.
        behaviour_logprobs: [N] log-probabilities under the policy that sampled them.
        advantages: [N] A_i of the rollout that each token belongs to.
        cap: tau.

    Returns:
        [N] losses.
    """
    ratio = (logprobs - behaviour_logprobs).exp().clamp(max=cap).detach()
    return -ratio * advantages * logprobs


def kl_to_reference(
    logprobs: Tensor, behaviour_logprobs: Tensor, reference_logprobs: Tensor, *, cap: float
) -> Tensor:
    """An estimate of KL(pi_theta || pi_reference) per sampled token, in nats, [N], never < 0.

    rho * k3 with k3 = exp(d) - d - 1, d = log pi_reference - log pi_theta (Schulman, "Approximating
    KL Divergence", 2020) and rho = pi_theta / pi_behaviour, through which the gradient flows too.
    Without rho, k3 is only right on samples of pi_theta itself: on a reused rollout with a token
    that pi_theta has since come to avoid, exp(d) explodes and drowns the reward's gradient, while
    rho * exp(d) = pi_reference / pi_behaviour does not. With it, value and gradient are unbiased
    on samples of any behaviour policy, as far as ``cap`` leaves rho alone.

    Far from the reference rho is 0 and exp(d) infinite, though their product is neither: there it
    is formed as exp(log rho + d). Value and gradient are finite for all finite log-probabilities.

    How the KL term enters the paper's loss is not stated.
    """
    difference = reference_logprobs - logprobs
    log_ratio = (logprobs - behaviour_logprobs).clamp(max=min(math.log(cap), _LARGEST - _NEAR))
    ratio = log_ratio.exp()
    near = ratio * (torch.expm1(difference.clamp(max=_NEAR)) - difference)
    far = (log_ratio + difference).clamp(max=_LARGEST).exp() - ratio * (1 + difference)
    return torch.where(difference <= _NEAR, near, far)


_NEAR = 20.0
"""Nats from the reference up to which exp(d) is formed by itself, with the digits of expm1 that
count where d is small."""

_LARGEST = 60.0
"""Exponents are bounded by this: e^60 is finite in fp32, and so is a batch's sum of such terms."""

LOSSES: dict[str, PolicyLoss] = {"cispo": cispo}
"""Losses by the name that ``[slow] algorithm`` gives."""
