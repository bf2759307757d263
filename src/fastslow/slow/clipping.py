"""The clipped surrogate of PPO, which GRPO and its relatives share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def clipped_surrogate(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """-min(rho * A, clip(rho, 1 - low, 1 + high) * A) (PPO, arXiv 1707.06347, Eq. 7).

    Args:
        ratio: [N] importance ratios, with gradient.
        advantages: [N].
        low, high: distances from 1 beyond which a ratio earns no more.

    Returns:
        [N] losses.
    """
    clipped = ratio.clamp(1 - low, 1 + high)
    return -(ratio * advantages).minimum(clipped * advantages)
