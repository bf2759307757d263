"""The weights, the engine that runs them and the optimiser that moves them, on one device."""

from __future__ import annotations

import copy
import datetime
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fastslow.config import PolicyConfig, SlowConfig
from fastslow.engine.base import Engine
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.select import choose_engine
from fastslow.engine.shared import GIBIBYTE
from fastslow.errors import InputError
from fastslow.policy.backend import Objective, Result
from fastslow.policy.chat import ChatTemplate
from fastslow.policy.local.lora import add_lora, is_adapter
from fastslow.policy.local.memory import in_parts
from fastslow.policy.local.optimiser import Optimiser
from fastslow.policy.local.sampler import LocalSampler
from fastslow.policy.local.teachers import teachers
from fastslow.policy.local.weights import load_weights, save_weights
from fastslow.policy.stops import StopStrings
from fastslow.seeding import derive_seed
from fastslow.types import Context, Datum, TokenSequence

log = logging.getLogger("fastslow.policy")

MISMATCH = {torch.float32: (0.01, 1.0), torch.bfloat16: (0.5, 5.0)}
"""Nats of ``slow.mismatch_warning`` and ``slow.mismatch_error`` where they are "auto". Sampling and
update add up in another order: in fp32 that shows in the fifth digit, in bf16 in the second. The
largest in four RL steps of SmolLM2-135M in bf16, 64 rollouts in groups with variance, was 0.18."""

_WEIGHTS = "model"
"""Folder of a checkpoint that holds the weights, or the adapter."""


class LocalBackend:
    """A ``Backend`` on one CPU, CUDA or MPS device.

    Args:
        model: in fp32, on its device; it is changed in place, to ``policy.dtype`` among others.
        tokenizer: with a chat template.
        policy: the ``[policy]`` table.
        slow: the ``[slow]`` table.
        trainable: False for weights that are only sampled: no optimiser.
        keep_base: whether the weights that it begins with are kept, beside those that it loads or
            learns. A KL term keeps them in any case.
        seed: of the initial LoRA weights.
        date: the day that the chat template is told; None: today.
        contexts: those that the run begins with, which the chat template has to take.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        policy: PolicyConfig,
        slow: SlowConfig,
        *,
        trainable: bool,
        keep_base: bool = False,
        seed: int = 0,
        date: datetime.date | None = None,
        contexts: Sequence[Context] = (Context(),),
    ) -> None:
        self._tokenizer = tokenizer
        self._chat = ChatTemplate(tokenizer, date=date, contexts=contexts)
        self._config = policy
        self.limits = self._sampling_limits(model)
        self._generation = 0
        self._peft: Any = None
        model.eval()  # type: ignore[no-untyped-call]
        kv_memory = policy.kv_memory * GIBIBYTE
        dtype = getattr(torch, policy.dtype)
        self._base_engine = None
        if slow.lora is None and (keep_base or (trainable and slow.kl > 0)):
            base = copy.deepcopy(model).requires_grad_(False)
            self._base_engine = choose_engine(base, slow.tokens_per_pass, kv_memory)
            self._base_engine.round_to(dtype, keep=is_adapter)
        if slow.lora is not None:
            self._peft = add_lora(model, slow.lora, derive_seed(seed, "lora"))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.trains(name) and (trainable or self._peft is not None))
        self._model = model
        self._engine = choose_engine(model, slow.tokens_per_pass, kv_memory)
        self._engine.round_to(dtype, keep=is_adapter)
        self._has_moved = False
        self._optimiser = Optimiser(model, slow) if trainable else None

    def trains(self, name: str) -> bool:
        """Whether the weight of this name is trained: all are, or those of the adapter."""
        return self._peft is None or is_adapter(name)

    @property
    def mismatch(self) -> tuple[float, float]:
        dtypes = {parameter.dtype for parameter in self._model.parameters()}
        return MISMATCH[min(dtypes, key=lambda dtype: dtype.itemsize)]

    def sampler(self, version: int) -> LocalSampler:
        # A run that resumes from here has no prefixes at hand, so this one goes on without them
        # too: what was computed in another order differs in the last bit.
        self._engine.weights_changed()
        limit = getattr(self._model.config, "max_position_embeddings", None)
        return LocalSampler(
            self,
            self._generation,
            version,
            self._chat,
            self._config,
            self.limits,
            int(limit) if limit else 2**31,
        )

    def engine(self, generation: int) -> Engine:
        """The engine. Raises: RuntimeError, if its weights have moved on since ``generation``."""
        if generation != self._generation:
            raise RuntimeError(
                "this sampler's weights are gone: they were updated in place. Ask the trainer for "
                "a new sampler after each step"
            )
        return self._engine

    @contextmanager
    def base(self, generation: int) -> Iterator[Engine]:
        """As long as it lasts, the engine runs the weights that training began from. Raises:
        RuntimeError, as ``engine``, or if those weights were not kept."""
        engine = self.engine(generation)
        if self._peft is not None:
            with self._peft.disable_adapter():
                yield engine
            return
        if self._base_engine is None and self._has_moved:
            raise RuntimeError(
                "the base weights were not kept: slow.kl is 0, and keep_base was not set"
            )
        yield self._base_engine or engine

    def attempt(self, work: Callable[[], Result]) -> Result:
        """``work``, in smaller passes if it takes more memory than there is."""
        engines = [engine for engine in (self._engine, self._base_engine) if engine is not None]
        usual = engines[0].tokens_per_pass

        def work_in(parts: int) -> Result:
            if parts > 1:
                self.clear_gradient()
            for engine in engines:
                engine.tokens_per_pass = max(1, usual // parts)
            return work()

        try:
            return in_parts(work_in, "an update")
        finally:
            for engine in engines:
                engine.tokens_per_pass = usual

    def clear_gradient(self) -> None:
        self._trained.clear_gradient()

    def accumulate(
        self, data: Sequence[Datum], objective: Objective, top: int | None = None
    ) -> None:
        sequences = [datum.sequence for datum in data]
        against = teachers(self._engine, data, top)
        for passed in self._engine.passes(sequences, self.limits.temperature, against):
            objective(passed).backward()

    def base_logprobs(self, sequences: Sequence[TokenSequence]) -> list[Tensor]:
        with self.base(self._generation) as engine:
            scores = engine.score(sequences, self.limits.temperature)
        return [score.logprobs for score in scores]

    def apply(self, lr: float, max_norm: float) -> float:
        norm = self._trained.clip(max_norm)
        if norm < float("inf"):
            self._trained.step(lr)
            self._moved()
        return norm

    def save(self, folder: Path) -> str:
        if self._optimiser is None:
            return "base"
        save_weights(self._peft or self._model, self._tokenizer, folder / _WEIGHTS)
        self._optimiser.save(folder)
        return "adapter" if self._peft is not None else "model"

    def load(self, folder: Path, holds: str) -> None:
        if holds != "base":
            is_own = (holds == "adapter") == (self._peft is not None)
            if not is_own:
                raise InputError(
                    f"{folder}: this checkpoint holds {holds!r}, and slow.lora is "
                    f"{'set' if self._peft is not None else 'not set'}: it is of another run"
                )
            if not (folder / _WEIGHTS).is_dir():
                raise InputError(
                    f"{folder}: {_WEIGHTS}/ is missing, in which this checkpoint holds the "
                    "weights: copy it again, or take another checkpoint"
                )
            load_weights(self._peft or self._model, folder / _WEIGHTS)
            self._moved()
        if self._optimiser is not None:
            self._optimiser.load(folder)

    def discard(self, folder: Path) -> None:
        """Nothing is kept outside of the folder."""

    def close(self) -> None:
        """Nothing is held elsewhere."""

    def _moved(self) -> None:
        self._has_moved = True
        self._generation += 1
        self._engine.weights_changed()

    @property
    def _trained(self) -> Optimiser:
        if self._optimiser is None:
            raise RuntimeError("these weights were opened for sampling only")
        return self._optimiser

    def _sampling_limits(self, model: PreTrainedModel) -> SamplingLimits:
        texts = (*self._config.stop, *self._chat.end_texts)
        return SamplingLimits(
            max_tokens=self._config.max_tokens,
            stop_ids=_stop_ids(model, self._tokenizer) | self._chat.end_tokens,
            temperature=self._config.temperature,
            stops=StopStrings(texts, self._decode) if texts else None,
            decode=self._decode,
        )

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text


def choose_device(name: str) -> str:
    """The device that ``[policy] device`` names; "auto" prefers CUDA, then MPS, then the CPU.

    Raises:
        InputError: the device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, there in available.items() if there)
    if not available[name]:
        there = ", ".join(device for device, there in available.items() if there)
        raise InputError(f"policy.device: {name!r} is not there; available here: auto, {there}")
    return name


def _stop_ids(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """End tokens: the tokenizer's and all that the generation config names."""
    generation = model.generation_config
    named = generation.eos_token_id if generation is not None else None
    ids = {tokenizer.eos_token_id}
    ids.update(named if isinstance(named, list) else [named])
    return frozenset(int(i) for i in ids if i is not None)
