"""After an update every engine samples from, scores with and exports the weights of that update."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from architectures import PADDED, SHARED, build_architecture
from fastslow.engine.base import Engine
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.select import choose_engine
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.errors import InputError
from fastslow.types import TokenSequence, Turn

LIMITS = SamplingLimits(max_tokens=5, stop_ids=frozenset({2}), temperature=1.0)
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12], [5, 6, 7, 8, 9]]
SEEDS = [[1, 2], [3]]


def sampled(engine: Engine) -> list[tuple[TokenSequence, Turn]]:
    completions = engine.sample(PROMPTS, SEEDS, LIMITS, rows=3)
    return [
        (TokenSequence.of(prompt, tokens.sampled), tokens)
        for prompt, some in zip(PROMPTS, completions, strict=True)
        for tokens in some
    ]


def update(engine: Engine, sequences: Sequence[TokenSequence]) -> None:
    """One large step of the optimiser that training uses: tensors do not tell of it."""
    optimiser = torch.optim.AdamW(engine.model.parameters(), lr=0.1, fused=True)
    for passed in engine.passes(sequences, 1.0):
        passed.scores.logprobs.sum().backward()
    optimiser.step()
    optimiser.zero_grad()
    engine.weights_changed()


def recomputed(engine: Engine, sequences: Sequence[TokenSequence]) -> list[Tensor]:
    """Log-probabilities as an update computes them, with gradient."""
    found: dict[int, Tensor] = {}
    for passed in engine.passes(sequences, 1.0):
        lengths = [len(sequences[i].scored) for i in passed.indices]
        parts = passed.scores.logprobs.detach().split(lengths)
        found.update(zip(passed.indices, parts, strict=True))
    return [found[index] for index in range(len(sequences))]


@torch.no_grad()
def computed_freshly(model: PreTrainedModel, sequence: TokenSequence) -> Tensor:
    """Log-probabilities of a completion by transformers alone."""
    tokens = torch.tensor([list(sequence.tokens)])
    logits = model(input_ids=tokens, use_cache=False).logits[0].float()
    places = [position - 1 for position in sequence.scored]
    return logits[places].log_softmax(-1)[range(len(places)), sequence.targets]


def exported(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model as another program loads it."""
    model.save_pretrained(folder)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return loaded.eval()


def assert_current(engine: Engine, fresh: PreTrainedModel) -> None:
    """Sampling, scoring and recomputation all have the log-probabilities of a fresh model."""
    pairs = sampled(engine)
    sequences = [sequence for sequence, _ in pairs]
    scored = engine.score(sequences, 1.0)
    again = recomputed(engine, sequences)
    for (sequence, tokens), score, third in zip(pairs, scored, again, strict=True):
        expected = computed_freshly(fresh, sequence)
        found = torch.tensor(tokens.logprobs)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4, msg=lambda m: f"sample: {m}")
        torch.testing.assert_close(score.logprobs, expected, rtol=0, atol=2e-4)
        torch.testing.assert_close(third, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", [*PADDED, *SHARED])
def test_an_update_reaches_samples_scores_and_the_exported_model(name: str, tmp_path: Path) -> None:
    engine = choose_engine(build_architecture(name), 512, kv_memory=2**22)
    assert type(engine) is (PaddedEngine if name in PADDED else SharedPrefixEngine)
    before = sampled(engine)  # what is computed now must not serve later
    sequences = [sequence for sequence, _ in before]
    update(engine, sequences)
    changed = engine.score(sequences, 1.0)
    moved = [
        (score.logprobs - torch.tensor(tokens.logprobs)).abs().max()
        for score, (_, tokens) in zip(changed, before, strict=True)
    ]
    assert max(moved) > 0.01
    assert_current(engine, exported(engine.model, tmp_path))


def test_a_model_that_falls_back_is_as_it_came() -> None:
    """The reference must not compute by the shared engine's layers."""
    model = build_architecture("mamba")
    choose_engine(model, 512)
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["prophetnet", "cpmant", "xlnet"])
def test_a_model_that_reads_what_follows_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no causal language model"):
        choose_engine(build_architecture(name), 512)
