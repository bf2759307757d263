"""The trainer above every backend: loss, KL term, warm-up, and the guards of an update."""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastslow.config import SlowConfig
from fastslow.engine.base import PassScores
from fastslow.policy.backend import Backend
from fastslow.policy.base import Sampler, StepResult
from fastslow.run.stored import PolicyState, read_json
from fastslow.slow.anomalies import (
    AT_SAMPLING,
    MISMATCH,
    NOT_FINITE,
    AnomalyError,
    not_finite,
)
from fastslow.slow.base import Loss, LossInputs, SlowLearner
from fastslow.slow.reference import kl_to_reference
from fastslow.types import Datum

log = logging.getLogger("fastslow.slow")

_STATE = "policy.json"

_NAMED = 3
"""Number of rollouts that a warning names, at most."""


class GradientTrainer:
    """A ``Trainer`` that takes AdamW steps with warm-up and clipping (paper, App. D).

    Args:
        backend: holds the weights.
        config: the ``[slow]`` table.
    """

    def __init__(self, backend: Backend, config: SlowConfig) -> None:
        self._backend = backend
        self._config = config
        warning, error = config.mismatch_warning, config.mismatch_error
        self._warn_beyond = backend.mismatch[0] if warning == "auto" else warning
        self._stop_beyond = backend.mismatch[1] if error == "auto" else error
        self.version = 0
        self.published = backend.sampler(0)
        """The latest sampler."""

    def sampler(self) -> Sampler:
        self.published = self._backend.sampler(self.version)
        return self.published

    def step(self, data: Sequence[Datum], learner: SlowLearner) -> StepResult:
        """One gradient step; see ``Trainer``.

        The step descends the weighted sum of the learner's loss over all sampled tokens plus, where
        ``slow.kl`` is positive, ``slow.kl`` times the KL to the base. Measures:

        - ``logprob/mismatch``: the largest difference between stored and recomputed
          log-probabilities of rollouts that the present weights sampled, in nats; left out if there
          are none. A difference beyond ``slow.mismatch_warning`` is logged with its rollouts.
        - ``kl/teacher``: where the data name teachers, the mean divergence from what the present
          weights say behind ``Datum.teacher_prompt``, in nats per token.

        A step is refused if a log-probability, the loss or the gradient is not finite, or if the
        mismatch is beyond ``slow.mismatch_error``.
        """
        if not data:
            return StepResult()
        self._backend.clear_gradient()
        try:
            if blamed := not_finite((d.source, d.logprobs) for d in data):
                # A ratio would hide it: it is capped like any other.
                raise AnomalyError(NOT_FINITE.format(AT_SAMPLING), blamed)
            measures = self._backend.attempt(lambda: self._accumulate(data, learner))
            warmup = self._config.warmup
            lr = self._config.lr * (min(1.0, (self.version + 1) / warmup) if warmup else 1.0)
            norm = self._backend.apply(lr, self._config.max_grad_norm)
            if not math.isfinite(norm):
                raise AnomalyError(f"the gradient's norm is {norm}")
        except AnomalyError as error:
            self._backend.clear_gradient()
            return StepResult(refused=error.anomaly)
        self.version += 1
        return StepResult({**measures, "grad_norm": norm, "lr": lr})

    def save(self, folder: Path) -> None:
        holds = self._backend.save(folder)
        state = {"version": self.version, "holds": holds}
        (folder / _STATE).write_text(json.dumps(state) + "\n")

    def load(self, folder: Path) -> None:
        state = read_json(folder / _STATE, PolicyState)
        self._backend.load(folder, state.holds)
        self.version = state.version

    def discard(self, folder: Path) -> None:
        self._backend.discard(folder)

    def close(self) -> None:
        self._backend.close()

    def _accumulate(self, data: Sequence[Datum], learner: SlowLearner) -> dict[str, float]:
        """The gradient of the step; returns what was measured on the way."""
        references = None
        if self._config.kl > 0:
            references = self._backend.base_logprobs([datum.sequence for datum in data])
        total = _Total(data, learner.loss, references, self._config, self.version)
        self._backend.accumulate(data, total, learner.top)
        if total.mismatches:
            self._judge(data, total.mismatches)
        return {**total.measures(), **learner.measures(data)}

    def _judge(self, data: Sequence[Datum], mismatches: Mapping[int, float]) -> None:
        """Warn of mismatches, by index into ``data``, or refuse to go on with them."""
        worst = max(mismatches.values())
        if worst <= self._warn_beyond:
            return
        blamed = [data[i].source for i, nats in mismatches.items() if nats > self._warn_beyond]
        told = (
            f"log-probabilities differ between sampling and update, under the same weights, by up "
            f"to {worst:.3g} nats"
        )
        if worst > self._stop_beyond:
            raise AnomalyError(f"{told} (slow.mismatch_error)", blamed, kind=MISMATCH)
        log.warning(
            "update %d: %s (slow.mismatch_warning), in %d of %d rollouts: %s%s",
            self.version + 1, told, len(blamed), len(mismatches),
            ", ".join(list(dict.fromkeys(blamed))[:_NAMED]), ", ..." * (len(blamed) > _NAMED),
        )  # fmt: skip


class _Total:
    """The objective of a step, pass by pass, and what is measured on the way.

    Attributes:
        mismatches: by index into the data, the largest difference between stored and recomputed
            log-probabilities, of data that policy ``version`` sampled.
    """

    def __init__(
        self,
        data: Sequence[Datum],
        loss: Loss,
        references: Sequence[Tensor] | None,
        config: SlowConfig,
        version: int,
    ) -> None:
        self._data, self._loss, self._references = data, loss, references
        self._config, self._version = config, version
        self._loss_sum, self._tokens = 0.0, 0
        self._entropies: list[Tensor] = []
        self._from_base: list[Tensor] = []
        self._from_teachers: list[Tensor] = []
        self._ratios: list[Tensor] = []
        self.mismatches: dict[int, float] = {}

    def __call__(self, passed: PassScores) -> Tensor:
        """The weighted loss of a pass. Raises: AnomalyError if it is not finite."""
        scores = passed.scores
        batch = _TokenBatch([self._data[i] for i in passed.indices], scores.logprobs.device)
        per_token = self._loss(batch.inputs(passed))
        suspects = {"log-probability": scores.logprobs}
        if self._references is not None:
            base = torch.cat([self._references[i] for i in passed.indices])
            divergence = kl_to_reference(
                scores.logprobs, batch.behaviour, base, cap=self._config.kl_cap
            )
            per_token = per_token + self._config.kl * divergence
            self._from_base.append(divergence.detach())
            suspects["log-probability under the base"] = base
        total = (batch.weights * per_token).sum()
        if not math.isfinite(value := total.item()):
            raise batch.not_finite({**suspects, "loss": per_token})
        self._loss_sum += value
        self._tokens += passed.tokens
        self._entropies.append(scores.entropies)
        if passed.divergences is not None:
            self._from_teachers.append(passed.divergences.detach())
        difference = scores.logprobs.detach() - batch.behaviour
        self._ratios.append(difference.exp())
        for i, nats in zip(passed.indices, batch.largest(difference.abs()), strict=True):
            if self._data[i].policy_version == self._version:
                self.mismatches[i] = nats
        return total

    def measures(self) -> dict[str, float]:
        """All measures, by their metric names."""
        found = {
            "loss": self._loss_sum,
            "tokens/trained": float(self._tokens),
            "tokens/trained_unshared": float(sum(len(d.tokens) for d in self._data)),
            "entropy": torch.cat(self._entropies).mean().item(),
            "ratio/max": torch.cat(self._ratios).max().item(),
        }
        if self._from_base:
            found["kl/base"] = torch.cat(self._from_base).mean().item()
        if self._from_teachers:
            found["kl/teacher"] = torch.cat(self._from_teachers).mean().item()
        if self.mismatches:
            found["logprob/mismatch"] = max(self.mismatches.values())
        return found


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
