"""The local policy: a transformers model, its engine and its learner on one device."""

from __future__ import annotations

import copy
import datetime
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from fastslow.config import LoraConfig, PolicyConfig, SlowConfig
from fastslow.engine.base import Engine, TokenSequence
from fastslow.engine.divergence import Distributions, TokenLogits
from fastslow.engine.head import TokenScores
from fastslow.engine.sampling import SampledTokens, SamplingLimits
from fastslow.engine.select import choose_engine
from fastslow.engine.shared import GIBIBYTE
from fastslow.errors import InputError
from fastslow.policy.chat import ChatTemplate
from fastslow.policy.learner import Learner
from fastslow.policy.memory import in_parts
from fastslow.policy.protocol import Drift, SampleRequest
from fastslow.policy.stops import StopStrings
from fastslow.policy.weights import load_weights, save_weights
from fastslow.run.stored import PolicyState, read_json
from fastslow.seeding import derive_seed
from fastslow.slow.base import Loss
from fastslow.types import Completion, Context, Datum

log = logging.getLogger("fastslow.policy")


class LocalPolicy:
    """A ``Policy`` on one CPU, CUDA or MPS device.

    Args:
        model: in fp32, on its device; it is changed in place, to ``policy.dtype`` among others.
        tokenizer: with a chat template.
        policy: the ``[policy]`` table.
        slow: the ``[slow]`` table.
        trainable: False for a policy that is only sampled: no optimiser.
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
        self._stop_ids = _stop_ids(model, tokenizer) | self._chat.end_tokens
        stops = (*policy.stop, *self._chat.end_texts)
        self._stops = StopStrings(stops, self._decode) if stops else None
        self._version = 0
        self._peft: Any = None
        model.eval()  # type: ignore[no-untyped-call]
        kv_memory = policy.kv_memory * GIBIBYTE
        dtype = getattr(torch, policy.dtype)
        self._base_engine = None
        if slow.lora is None and (keep_base or (trainable and slow.kl > 0)):
            base = copy.deepcopy(model).requires_grad_(False)
            self._base_engine = choose_engine(base, slow.tokens_per_pass, kv_memory)
            self._base_engine.round_to(dtype, keep=_is_adapter)
        if slow.lora is not None:
            self._peft = _add_lora(model, slow.lora, derive_seed(seed, "lora"))
        model.requires_grad_(trainable and self._peft is None)
        if self._peft is not None:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(_is_adapter(name))
        self._model = model
        self._engine = choose_engine(model, slow.tokens_per_pass, kv_memory)
        self._engine.round_to(dtype, keep=_is_adapter)
        self._learner = (
            Learner(
                self._engine,
                self._base_scores if slow.kl > 0 else None,
                slow,
                policy.temperature,
            )
            if trainable
            else None
        )

    @property
    def version(self) -> int:
        return self._version

    @property
    def window(self) -> int:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        return int(limit) if limit else 2**31

    @property
    def max_tokens(self) -> int:
        return self._config.max_tokens

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        return self._chat.encode(context.messages(question))

    def count_tokens(self, text: str) -> int:
        return self._chat.count(text)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        on_finished: Callable[[int], None] = lambda count: None,
    ) -> list[list[Completion]]:
        limits = SamplingLimits(
            max_tokens=max_tokens or self._config.max_tokens,
            stop_ids=self._stop_ids,
            temperature=temperature or self._config.temperature,
            stops=self._stops,
        )

        def sample(parts: int) -> list[list[SampledTokens]]:
            if parts > 1:
                self._engine.weights_changed()  # prefixes that are kept take memory too
            return self._engine.sample(
                [request.prompt_ids for request in requests],
                [request.seeds for request in requests],
                limits,
                max(1, self._config.rows // parts),
                # What was counted once is not counted again, but may still be interrupted.
                on_finished if parts == 1 else lambda count: on_finished(0),
            )

        sampled = in_parts(sample, "sampling")
        return [
            [
                Completion(
                    prompt_ids=request.prompt_ids,
                    token_ids=tokens.token_ids,
                    logprobs=tokens.logprobs,
                    text=self._decode(tokens.token_ids),
                    finished=tokens.finished,
                    policy_version=self._version,
                )
                for tokens in completions
            ]
            for request, completions in zip(requests, sampled, strict=True)
        ]

    def logprobs(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        base: bool = False,
    ) -> list[list[float]]:
        sequences = [TokenSequence.of(p, c) for p, c in zip(prompts, completions, strict=True)]
        scores = (
            self._base_scores(sequences)
            if base
            else self._engine.score(sequences, self._config.temperature)
        )
        return [score.logprobs.tolist() for score in scores]

    def update(
        self, data: Sequence[Datum], loss: Loss, *, top: int | None = None
    ) -> Mapping[str, float]:
        learner = self._trained()
        return self._in_passes(lambda: learner.update(data, loss, self._version, top))

    def drift(self, completions: Sequence[Completion]) -> list[Drift]:
        sequences = [TokenSequence.of(c.prompt_ids, c.token_ids) for c in completions]
        with self._base() as engine:
            base = _OfBase(self._base, engine.distributions(sequences))
        compared = self._engine.compare(sequences, base, self._config.temperature)
        return [
            Drift(
                tuple(scores.logprobs.tolist()),
                tuple(reference.tolist()),
                tuple(divergences.tolist()),
                tuple(scores.entropies.tolist()),
            )
            for scores, reference, divergences in compared
        ]

    def publish(self) -> None:
        if self._learner is not None:
            self._version = self._learner.updates
        # A run that resumes from here has no prefixes at hand, so this one goes on without them
        # too: what was computed in another order differs in the last bit.
        self._engine.weights_changed()

    def save(self, folder: Path) -> None:
        (folder / "policy.json").write_text(json.dumps({"version": self._version}) + "\n")
        if self._learner is None:
            return  # the weights are the base model's
        save_weights(self._peft or self._model, self._tokenizer, folder / "model")
        self._learner.save(folder)

    def load(self, folder: Path) -> None:
        self._version = read_json(folder / "policy.json", PolicyState).version
        if (folder / "model").is_dir():
            load_weights(self._peft or self._model, folder / "model")
            self._engine.weights_changed()
        if self._learner is not None:
            self._learner.load(folder)

    def _in_passes(self, update: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """An update, in smaller passes than usual if it takes more memory than there is."""
        engines = [engine for engine in (self._engine, self._base_engine) if engine is not None]
        usual = engines[0].tokens_per_pass

        def work(parts: int) -> Mapping[str, float]:
            for engine in engines:
                engine.tokens_per_pass = max(1, usual // parts)
            return update()

        try:
            return in_parts(work, "an update")
        finally:
            for engine in engines:
                engine.tokens_per_pass = usual

    def _trained(self) -> Learner:
        if self._learner is None:
            raise RuntimeError("this policy was opened for sampling only")
        return self._learner

    @contextmanager
    def _base(self) -> Iterator[Engine]:
        """As long as it lasts, the engine runs the weights that training began from."""
        if self._peft is not None:
            with self._peft.disable_adapter():
                yield self._engine
            return
        if self._base_engine is None and self._version:
            raise RuntimeError(
                "the base weights were not kept: slow.kl is 0, and keep_base was not set"
            )
        yield self._base_engine or self._engine

    def _base_scores(self, sequences: Sequence[TokenSequence]) -> list[TokenScores]:
        with self._base() as engine:
            return engine.score(sequences, self._config.temperature)

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text


class _OfBase:
    """Distributions of the base, which may be computed when they are asked for."""

    def __init__(
        self, base: Callable[[], AbstractContextManager[Engine]], distributions: Distributions
    ) -> None:
        self._base = base
        self._distributions = distributions

    def at(self, indices: Sequence[int]) -> TokenLogits:
        with self._base():
            return self._distributions.at(indices)


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


def _is_adapter(name: str) -> bool:
    return "lora_" in name


def _stop_ids(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """End tokens: the tokenizer's and all that the generation config names."""
    generation = model.generation_config
    named = generation.eos_token_id if generation is not None else None
    ids = {tokenizer.eos_token_id}
    ids.update(named if isinstance(named, list) else [named])
    return frozenset(int(i) for i in ids if i is not None)


def _add_lora(model: PreTrainedModel, lora: LoraConfig, seed: int) -> Any:
    try:
        import peft
    except ImportError:
        raise InputError(
            "slow.lora is set, which needs the package peft: pip install 'fastslow[lora]'"
        ) from None
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            adapted = peft.get_peft_model(
                model,
                peft.LoraConfig(
                    r=lora.rank,
                    lora_alpha=lora.alpha,  # type: ignore[arg-type]
                    target_modules=targets,
                    task_type="CAUSAL_LM",
                ),
            )
        except ValueError as error:
            raise InputError(f"slow.lora.targets: {error}") from None
    _refuse_tied_targets(adapted)
    return adapted


def _refuse_tied_targets(adapted: Any) -> None:
    """An adapter on one of two layers that share a weight is trained for that layer alone, but
    merging adds it to the weight of both. Raises: InputError."""
    owners: dict[int, list[str]] = {}
    for name, parameter in adapted.named_parameters(remove_duplicate=False):
        layer = name.removeprefix("base_model.model.").replace(".base_layer", "")
        owners.setdefault(id(parameter), []).append(layer.rpartition(".")[0])
    for name, module in adapted.named_modules():
        weight = getattr(getattr(module, "base_layer", None), "weight", None)
        layers = owners.get(id(weight), [])
        if len(layers) > 1:
            target = name.removeprefix("base_model.model.")
            other = next(layer for layer in layers if layer != target)
            raise InputError(
                f"slow.lora.targets: {target!r} shares its weight with {other!r} (tied "
                "embeddings), so the adapter could not be merged into the model: leave it out"
            )
