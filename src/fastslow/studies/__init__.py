"""The paper's protocols, each as one command. Imports nothing, so that ``--help`` can list them."""

from __future__ import annotations

STUDIES = {
    "efficiency": "samples that FST, RL and contexts alone need to reach a reward",
    "ceiling": "what FST, RL and distillation level off at",
    "drift": "KL to the base policy at matched reward",
    "plasticity": "how well RL learns a second task after RL or FST on a first",
    "continual": "several tasks, one after the other, in one run",
    "star-graph": "when reward and gradient leave zero on a task the base model never solves",
    "quadrants": "{base, trained} weights under {seed, evolved} contexts",
    "ood": "other and harder tasks, under the seed context",
    "ablations": "K, T, G, the baseline, rollout reuse and components, each varied alone",
    "final-contexts": "contexts optimised for the final RL weights, beside FST",
}
"""Every study by the name that the command knows it by, with the question it asks."""
