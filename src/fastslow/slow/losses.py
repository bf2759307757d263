"""Policy-gradient losses per token, as pure functions of log-probabilities.

Each takes flat tensors over the completion tokens of a batch; how tokens and problems are weighed
is not their matter (``slow.advantages`` decides that).
"""

from __future__ import annotations

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


def kl_to_reference(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """The k3 estimator of KL(pi_theta || pi_reference) per sampled token, in nats, [N], never < 0.

    k3 = exp(d) - d - 1 with d = log pi_reference - log pi_theta (Schulman, "Approximating KL
    divergence", 2020). How the paper's KL term enters its loss is not stated; this is GRPO's way.
    """
    difference = reference_logprobs - logprobs
    return torch.expm1(difference) - difference


LOSSES: dict[str, PolicyLoss] = {"cispo": cispo}
"""Losses by the name that ``[slow] algorithm`` gives."""
