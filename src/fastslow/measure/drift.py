"""How far a policy has moved from its base: KL(pi_train || pi_base) on samples of pi_train.

On a prefix that pi_train sampled, the KL of the two next-token distributions is computed exactly
over the vocabulary. Summed over a completion, its mean over completions is the KL of the two
distributions over completions (the chain rule), with no noise but that of the prefixes. Beside it
the two usual estimators, which look at sampled tokens alone (Schulman, "Approximating KL
Divergence", 2020): k1 = d and k3 = exp(-d) - 1 + d, with d = log pi_train - log pi_base.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastslow.policy.base import Drift


def drift_measures(drifts: Sequence[Drift]) -> dict[str, float]:
    """Nats per token, means over all tokens: ``drift/exact``, ``drift/k1``, ``drift/k3`` and the
    actor's ``entropy``; and ``drift/sequence``, the mean over completions of the exact divergence
    summed over each. The exact ones and the entropy are
    left out where the backend does not compare distributions. Empty without tokens."""
    tokens = sum(len(drift.logprobs) for drift in drifts)
    if not tokens:
        return {}
    differences = [
        own - base
        for drift in drifts
        for own, base in zip(drift.logprobs, drift.base_logprobs, strict=True)
    ]
    measures = {
        "drift/k1": math.fsum(differences) / tokens,
        "drift/k3": math.fsum(_k3(d) for d in differences) / tokens,
    }
    exact = [drift.divergences for drift in drifts if drift.divergences is not None]
    if len(exact) == len(drifts):
        total = math.fsum(itertools.chain.from_iterable(exact))
        measures |= {"drift/exact": total / tokens, "drift/sequence": total / len(drifts)}
    entropies = [drift.entropies for drift in drifts if drift.entropies is not None]
    if len(entropies) == len(drifts):
        measures["entropy"] = math.fsum(itertools.chain.from_iterable(entropies)) / tokens
    return measures


def _k3(difference: float) -> float:
    try:
        return math.expm1(-difference) + difference
    except OverflowError:  # the base finds a token likely that the policy all but rules out
        return math.inf
