"""The slow learner: one optimiser step from one batch of weighted, graded rollouts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastslow.config import SlowConfig
from fastslow.engine.base import Engine, TokenSequence
from fastslow.engine.head import TokenScores
from fastslow.errors import RunError
from fastslow.slow.losses import LOSSES, kl_to_reference
from fastslow.slow.master import MasterWeights
from fastslow.types import Datum

MASTER = "master"
"""What the fp32 copy of a weight is called beside its optimiser state."""

Reference = Callable[[Sequence[TokenSequence]], list[TokenScores]]
"""Scores of sequences under the base policy."""


class Learner:
    """AdamW on an engine's trainable parameters, with warm-up and clipping (paper, App. D).

    Args:
        engine: runs the model that is trained.
        reference: scores under the base policy; None where no KL term is wanted.
        config: the ``[slow]`` table.
        temperature: of the distribution that rollouts are sampled from.
    """

    def __init__(
        self,
        engine: Engine,
        reference: Reference | None,
        config: SlowConfig,
        temperature: float,
    ) -> None:
        self._engine = engine
        self._reference = reference
        self._config = config
        self._temperature = temperature
        self._parameters = {
            name: parameter
            for name, parameter in engine.model.named_parameters()
            if parameter.requires_grad
        }
        self._masters = MasterWeights(self._parameters)
        self._optimiser = torch.optim.AdamW(
            self._masters.parameters.values(),
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.updates = 0

    def update(self, data: Sequence[Datum], loss: str, on_policy_version: int) -> dict[str, float]:
        """Take one gradient step on ``data`` and return its measures by their metric names.

        The loss is the weighted sum over all completion tokens of the policy loss plus, with a
        reference, ``kl`` times the KL to the base. ``logprob/mismatch`` is the largest difference
        between stored and recomputed log-probabilities of rollouts that ``on_policy_version``
        sampled, in nats; it is left out if there are none.

        Raises:
            RunError: the gradient is not finite. The weights are as they were.
        """
        policy_loss = LOSSES[loss]
        sequences = [TokenSequence(d.prompt_ids, d.token_ids) for d in data]
        references = self._reference(sequences) if self._reference else None
        totals = {"loss": 0.0, "tokens/trained": 0.0}
        entropies: list[Tensor] = []
        divergences: list[Tensor] = []
        ratios: list[Tensor] = []
        mismatches: list[Tensor] = []
        self._optimiser.zero_grad(set_to_none=True)
        for indices, scores, tokens in self._engine.passes(sequences, self._temperature):
            batch = _TokenBatch([data[i] for i in indices], scores.logprobs.device)
            per_token = policy_loss(
                scores.logprobs, batch.behaviour, batch.advantages, cap=self._config.cap
            )
            if references is not None:
                base = torch.cat([references[i].logprobs for i in indices])
                divergence = kl_to_reference(
                    scores.logprobs, batch.behaviour, base, cap=self._config.cap
                )
                per_token = per_token + self._config.kl * divergence
                divergences.append(divergence.detach())
            total = (batch.weights * per_token).sum()
            total.backward()
            totals["loss"] += total.item()
            totals["tokens/trained"] += tokens
            entropies.append(scores.entropies)
            difference = scores.logprobs.detach() - batch.behaviour
            ratios.append(difference.exp())
            mismatches.append(difference[batch.versions == on_policy_version].abs())
        grad_norm = self._step()
        measures = {
            **totals,
            "tokens/trained_unshared": float(sum(len(p) + len(c) for p, c in sequences)),
            "grad_norm": grad_norm,
            "entropy": torch.cat(entropies).mean().item(),
            "ratio/max": torch.cat(ratios).max().item(),
            "lr": self._optimiser.param_groups[0]["lr"],
        }
        if divergences:
            measures["kl/base"] = torch.cat(divergences).mean().item()
        on_policy = torch.cat(mismatches)
        if len(on_policy):
            measures["logprob/mismatch"] = on_policy.max().item()
        return measures

    def _step(self) -> float:
        """Clip and apply the accumulated gradient; returns its norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(
            self._masters.parameters.values(), self._config.max_grad_norm
        ).item()
        if not math.isfinite(norm):
            self._optimiser.zero_grad(set_to_none=True)
            raise RunError(
                f"update {self.updates + 1}: the gradient's norm is {norm}. The weights were left "
                "as they were; resume from the last checkpoint, or train with a lower slow.lr"
            )
        warmup = self._config.warmup
        share = min(1.0, (self.updates + 1) / warmup) if warmup else 1.0
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.lr * share
        self._optimiser.step()
        self._masters.publish()
        self._engine.weights_changed()
        self.updates += 1
        return norm

    def save(self, folder: Path) -> None:
        """Write the optimiser's state as safetensors and JSON."""
        tensors = {
            f"{name}.{key}": value.contiguous()
            for name, parameter in self._masters.parameters.items()
            for key, value in self._optimiser.state.get(parameter, {}).items()
        }
        tensors |= {f"{name}.{MASTER}": master for name, master in self._masters.copies.items()}
        save_file(tensors, folder / "optimiser.safetensors")
        (folder / "optimiser.json").write_text(json.dumps({"updates": self.updates}) + "\n")

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote."""
        self.updates = json.loads((folder / "optimiser.json").read_text())["updates"]
        tensors = load_file(folder / "optimiser.safetensors")
        state = self._optimiser.state_dict()
        # The optimiser counts its parameters in the order in which it was given them.
        state["state"] = {
            number: {
                key: tensors[f"{name}.{key}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}.{key}" in tensors
            }
            for number, name in enumerate(self._parameters)
        }
        state["state"] = {number: entry for number, entry in state["state"].items() if entry}
        self._optimiser.load_state_dict(state)
        self._masters.restore({name: tensors[f"{name}.{MASTER}"] for name in self._masters.copies})


class _TokenBatch:
    """The data of one pass as flat tensors over its N completion tokens."""

    def __init__(self, data: Sequence[Datum], device: torch.device) -> None:
        lengths = torch.tensor([len(d.token_ids) for d in data], device=device)

        def per_token(values: list[float]) -> Tensor:
            return torch.tensor(values, device=device).repeat_interleave(lengths)

        self.behaviour = torch.tensor([p for d in data for p in d.logprobs], device=device)
        self.advantages = per_token([d.advantage for d in data])
        self.weights = per_token([d.weight for d in data])
        self.versions = torch.tensor([d.policy_version for d in data], device=device)
        self.versions = self.versions.repeat_interleave(lengths)
