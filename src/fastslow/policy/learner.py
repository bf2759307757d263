"""One optimiser step from one batch of data."""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastslow.config import SlowConfig
from fastslow.engine.base import Against, Engine, PassScores, TokenSequence
from fastslow.engine.head import TokenScores
from fastslow.errors import InputError
from fastslow.policy.master import MasterWeights
from fastslow.run.stored import OptimiserState, read_json
from fastslow.slow.anomalies import (
    AT_SAMPLING,
    NOT_FINITE,
    AnomalyError,
    MismatchError,
    not_finite,
)
from fastslow.slow.base import Loss, LossInputs
from fastslow.slow.reference import kl_to_reference
from fastslow.types import Datum

log = logging.getLogger("fastslow.slow")

MASTER = "master"
"""What the fp32 copy of a weight is called beside its optimiser state."""

MISMATCH = {torch.float32: (0.01, 1.0), torch.bfloat16: (0.5, 5.0)}
"""Nats of ``slow.mismatch_warning`` and ``slow.mismatch_error`` where they are "auto". Sampling and
update add up in another order: in fp32 that shows in the fifth digit, in bf16 in the second. The
largest in four RL steps of SmolLM2-135M in bf16, 64 rollouts in groups with variance, was 0.18."""

_NAMED = 3
"""Rollouts that a warning names, at most."""

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
        lowest = min((p.dtype for p in engine.model.parameters()), key=lambda dtype: dtype.itemsize)
        warning, error = config.mismatch_warning, config.mismatch_error
        self._mismatch_warning = MISMATCH[lowest][0] if warning == "auto" else warning
        self._mismatch_error = MISMATCH[lowest][1] if error == "auto" else error
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

    def update(
        self,
        data: Sequence[Datum],
        loss: Loss,
        on_policy_version: int,
        top: int | None = None,
    ) -> dict[str, float]:
        """Take one gradient step on ``data`` and return its measures by their metric names.

        What is descended is the weighted sum of ``loss`` over all sampled tokens plus, with a
        reference, ``kl`` times the KL to the base. ``logprob/mismatch`` is the largest difference
        between stored and recomputed log-probabilities of rollouts that ``on_policy_version``
        sampled, in nats; it is left out if there are none. One beyond ``slow.mismatch_warning`` is
        logged with the rollouts it is found in.

        Where the data name teachers, all of them do: ``loss`` is given the divergence from what the
        present weights say behind ``Datum.teacher_prompt``, of the ``top`` likeliest tokens and the
        rest as one, or of the whole vocabulary. ``kl/teacher`` is its mean, in nats per token.

        Raises:
            AnomalyError: a log-probability, the loss or the gradient is not finite. Weights and
                optimiser are as they were.
            MismatchError: the mismatch is beyond ``slow.mismatch_error``. The same holds.
        """
        self._optimiser.zero_grad(set_to_none=True)
        _refuse_non_finite(data)
        try:
            measures = self._accumulate(data, loss, on_policy_version, top)
            grad_norm = self._step()
        except AnomalyError:
            self._optimiser.zero_grad(set_to_none=True)
            raise
        return {**measures, "grad_norm": grad_norm, "lr": self._optimiser.param_groups[0]["lr"]}

    def _accumulate(
        self, data: Sequence[Datum], loss: Loss, on_policy_version: int, top: int | None
    ) -> dict[str, float]:
        """The gradient of that sum, pass by pass; returns what was measured on the way."""
        sequences = [TokenSequence(d.tokens, d.scored) for d in data]
        against = self._teachers(data, top)
        references = self._reference(sequences) if self._reference else None
        totals = {"loss": 0.0, "tokens/trained": 0.0}
        entropies: list[Tensor] = []
        divergences: list[Tensor] = []
        from_teachers: list[Tensor] = []
        ratios: list[Tensor] = []
        mismatches: dict[int, float] = {}
        for passed in self._engine.passes(sequences, self._temperature, against):
            scores = passed.scores
            batch = _TokenBatch([data[i] for i in passed.indices], scores.logprobs.device)
            per_token = loss(batch.inputs(passed))
            suspects = {"log-probability": scores.logprobs}
            if references is not None:
                base = torch.cat([references[i].logprobs for i in passed.indices])
                divergence = kl_to_reference(
                    scores.logprobs, batch.behaviour, base, cap=self._config.kl_cap
                )
                per_token = per_token + self._config.kl * divergence
                divergences.append(divergence.detach())
                suspects["log-probability under the base"] = base
            total = (batch.weights * per_token).sum()
            if not math.isfinite(value := total.item()):
                raise batch.not_finite({**suspects, "loss": per_token})
            total.backward()
            totals["loss"] += value
            totals["tokens/trained"] += passed.tokens
            entropies.append(scores.entropies)
            if passed.divergences is not None:
                from_teachers.append(passed.divergences.detach())
            difference = scores.logprobs.detach() - batch.behaviour
            ratios.append(difference.exp())
            largest = zip(passed.indices, batch.largest(difference.abs()), strict=True)
            mismatches |= {i: x for i, x in largest if data[i].policy_version == on_policy_version}
        measures = {
            **totals,
            "tokens/trained_unshared": float(sum(len(sequence.tokens) for sequence in sequences)),
            "entropy": torch.cat(entropies).mean().item(),
            "ratio/max": torch.cat(ratios).max().item(),
        }
        if divergences:
            measures["kl/base"] = torch.cat(divergences).mean().item()
        if from_teachers:
            measures["kl/teacher"] = torch.cat(from_teachers).mean().item()
        if mismatches:
            measures["logprob/mismatch"] = max(mismatches.values())
            self._judge(data, mismatches)
        return measures

    def _teachers(self, data: Sequence[Datum], top: int | None) -> Against | None:
        """What the present weights say behind the teachers' prompts; None without teachers."""
        taught = []
        for datum in data:
            if datum.teacher_prompt is None:
                continue
            scored = datum.scored
            shift = len(datum.teacher_prompt) - scored[0]
            tokens = [*datum.teacher_prompt, *datum.tokens[scored[0] :]]
            taught.append(TokenSequence(tokens, [position + shift for position in scored]))
        if not taught:
            return None
        if len(taught) < len(data):
            raise ValueError("some data of a step name a teacher and others do not")
        return Against(self._engine.distributions(taught), top)

    def _judge(self, data: Sequence[Datum], mismatches: Mapping[int, float]) -> None:
        """Warn of mismatches, by index into ``data``, or refuse to go on with them."""
        worst = max(mismatches.values())
        if worst <= self._mismatch_warning:
            return
        blamed = [data[i].source for i, nats in mismatches.items() if nats > self._mismatch_warning]
        told = (
            f"log-probabilities differ between sampling and update, under the same weights, by up "
            f"to {worst:.3g} nats"
        )
        if worst > self._mismatch_error:
            raise MismatchError(f"{told} (slow.mismatch_error)", blamed)
        log.warning(
            "update %d: %s (slow.mismatch_warning), in %d of %d rollouts: %s%s",
            self.updates + 1, told, len(blamed), len(mismatches),
            ", ".join(list(dict.fromkeys(blamed))[:_NAMED]), ", ..." * (len(blamed) > _NAMED),
        )  # fmt: skip

    def _step(self) -> float:
        """Clip and apply the accumulated gradient; returns its norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(
            self._masters.parameters.values(), self._config.max_grad_norm
        ).item()
        if not math.isfinite(norm):
            raise AnomalyError(f"the gradient's norm is {norm}")
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
        """Read what ``save`` wrote. Raises: InputError if it is not of this model."""
        updates = read_json(folder / "optimiser.json", OptimiserState).updates
        tensors = self._read(folder / "optimiser.safetensors")
        self.updates = updates
        state = self._optimiser.state_dict()
        # The optimiser counts its parameters in the order in which it was given them.
        state["state"] = {
            number: {
                key: tensors[f"{name}.{key}"]
                for key in ("step", *_MOMENTS)
                if f"{name}.{key}" in tensors
            }
            for number, name in enumerate(self._parameters)
        }
        state["state"] = {number: entry for number, entry in state["state"].items() if entry}
        self._optimiser.load_state_dict(state)
        self._masters.restore({name: tensors[f"{name}.{MASTER}"] for name in self._masters.copies})

    def _read(self, path: Path) -> dict[str, Tensor]:
        """The optimiser's tensors. A fused kernel would read beyond one that is too small."""
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        for name, parameter in self._masters.parameters.items():
            needed = {MASTER} if name in self._masters.copies else set()
            kept = {key for key in ("step", *_MOMENTS) if f"{name}.{key}" in tensors}
            if kept:  # a parameter that was never updated has none of them
                needed |= {"step", *_MOMENTS}
            for key in needed:
                tensor = tensors.get(f"{name}.{key}")
                shape = () if key == "step" else tuple(parameter.shape)
                if tensor is None or tuple(tensor.shape) != shape:
                    found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
                    raise InputError(f"{path}: {name}.{key} is {found}; expected shape {shape}")
                if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
                    raise InputError(f"{path}: {name}.{key} : expected finite float32 numbers")
        return tensors


_MOMENTS = ("exp_avg", "exp_avg_sq")


class _TokenBatch:
    """The data of one pass as flat tensors over its N sampled tokens."""

    def __init__(self, data: Sequence[Datum], device: torch.device) -> None:
        lengths = torch.tensor([sum(d.mask) for d in data], device=device)
        self._owners = torch.arange(len(data), device=device).repeat_interleave(lengths)
        self._data = data
        self._device = device
        self.behaviour = self._sampled(lambda datum: datum.logprobs)
        self.weights = self._sampled(lambda datum: datum.weights)

    def inputs(self, passed: PassScores) -> LossInputs:
        """What a loss is computed from."""
        advantages = self._sampled(lambda datum: datum.advantages)
        return LossInputs(
            passed.scores.logprobs, self.behaviour, advantages, self._owners, passed.divergences
        )

    def _sampled(self, values: Callable[[Datum], Sequence[float]]) -> Tensor:
        """[N] what a field of the data says of the sampled tokens."""
        flat = [v for d in self._data for v in itertools.compress(values(d), d.mask)]
        return torch.tensor(flat, dtype=torch.float32, device=self._device)

    def largest(self, values: Tensor) -> list[float]:
        """For each rollout the largest of [N] values, which are not negative."""
        found = values.new_zeros(len(self._data)).scatter_reduce(0, self._owners, values, "amax")
        largest: list[float] = found.tolist()
        return largest

    def not_finite(self, suspects: Mapping[str, Tensor]) -> AnomalyError:
        """Blames the first of some [N] tensors that is not finite somewhere."""
        for name, values in suspects.items():
            owners = self._owners[~values.isfinite()].unique().tolist()
            if blamed := [self._data[owner].source for owner in owners]:
                return AnomalyError(NOT_FINITE.format(name), blamed)
        return AnomalyError(NOT_FINITE.format("loss"))  # finite terms add up to infinity


def _refuse_non_finite(data: Sequence[Datum]) -> None:
    """A ratio would hide it: where a log-probability at sampling is -inf, it is capped like any."""
    if blamed := not_finite((d.source, d.logprobs) for d in data):
        raise AnomalyError(NOT_FINITE.format(AT_SAMPLING), blamed)
