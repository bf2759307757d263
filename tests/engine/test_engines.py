"""Both engines against an independent computation: log-probabilities, entropies, gradients."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from fastslow.engine.base import Engine, TokenSequence, batches_by_tokens
from fastslow.engine.head import CHUNK
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.shared import SharedPrefixEngine

VOCABULARY = 61
SERVED = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt2")

Build = Callable[[str], PreTrainedModel]
Batch = list[TokenSequence]

TOKENS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Rollouts under one to four contexts, some of which begin with another or are equal to it."""
    contexts = draw(st.lists(TOKENS, min_size=1, max_size=2))
    for _ in range(draw(st.integers(0, 2))):
        contexts.append([*draw(st.sampled_from(contexts)), *draw(st.just([]) | TOKENS)])
    sequences: Batch = []
    for context in contexts:
        for _ in range(draw(st.integers(1, 2))):
            prompt = [*context, *draw(st.just([]) | TOKENS)]
            completions = draw(st.lists(TOKENS, min_size=1, max_size=3))
            sequences += [TokenSequence(prompt, completion) for completion in completions]
    return sequences


BUDGETS = st.sampled_from([1, 12, 40, 4096])
TEMPERATURES = st.sampled_from([1.0, 0.7])

CONTEXT = list(range(3, 15))
ROLLOUTS = [
    TokenSequence([*CONTEXT, *question], [question[0] + i for i in range(1, length)])
    for question in ([20, 21], [30, 31, 32])
    for length in (2, 5, 9)
]


def weights_of(sequences: Batch) -> list[Tensor]:
    """A weight per token, unlike for every token, so that gradients cannot be mixed up."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(len(s.completion), generator=generator) for s in sequences]


def computed_by(
    engine: Engine, sequences: Batch, temperature: float
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Log-probabilities and entropies of all tokens, and gradients of a weighted sum."""
    weights = weights_of(sequences)
    logprobs: dict[int, Tensor] = {}
    entropies: dict[int, Tensor] = {}
    engine.model.zero_grad(set_to_none=True)
    for indices, scores, _ in engine.passes(sequences, temperature):
        (torch.cat([weights[i] for i in indices]) * scores.logprobs).sum().backward()
        lengths = [len(sequences[i].completion) for i in indices]
        logprobs.update(zip(indices, scores.logprobs.detach().split(lengths), strict=True))
        entropies.update(zip(indices, scores.entropies.split(lengths), strict=True))
    everything = range(len(sequences))
    return (
        torch.cat([logprobs[i] for i in everything]),
        torch.cat([entropies[i] for i in everything]),
        gradients(engine.model),
    )


def computed_plainly(
    model: PreTrainedModel, sequences: Batch, temperature: float
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The same, one sequence at a time and by the book."""
    model.zero_grad(set_to_none=True)
    logprobs, entropies = [], []
    for (prompt, completion), weights in zip(sequences, weights_of(sequences), strict=True):
        logits = model(torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0]
        predictions = logits[len(prompt) - 1 : -1] / temperature
        chosen = predictions.log_softmax(-1)[range(len(completion)), list(completion)]
        (weights * chosen).sum().backward()
        logprobs.append(chosen.detach())
        entropies.append(torch.distributions.Categorical(logits=predictions.detach()).entropy())
    return torch.cat(logprobs), torch.cat(entropies), gradients(model)


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(
    found: tuple[Tensor, Tensor, dict[str, Tensor]],
    expected: tuple[Tensor, Tensor, dict[str, Tensor]],
) -> None:
    for tensor, reference in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-4)
    assert found[2].keys() == expected[2].keys()
    scale = max(float(g.norm()) for g in expected[2].values())
    for name, reference in expected[2].items():
        error = float((found[2][name] - reference).norm())
        # Some gradients are zero but for rounding: a key's bias moves all scores alike.
        assert error <= 1e-4 * max(float(reference.norm()), 1e-2 * scale), f"{name}: {error}"


@pytest.fixture(scope="module")
def models(build: Build) -> dict[tuple[str, str], PreTrainedModel]:
    """Each architecture twice: as it comes, and for the shared-prefix engine to change."""
    return {(name, use): build(name) for name in SERVED for use in ("plain", "shared")}


@pytest.mark.parametrize("name", SERVED)
@settings(max_examples=15)
@given(batches(), BUDGETS, TEMPERATURES)
@example(ROLLOUTS, 40, 0.7)
def test_sharing_prefixes_changes_nothing(
    models: dict[tuple[str, str], PreTrainedModel],
    name: str,
    sequences: Batch,
    budget: int,
    temperature: float,
) -> None:
    shared = SharedPrefixEngine(models[name, "shared"], budget)
    plain = PaddedEngine(models[name, "plain"], 4096)
    assert_same(
        computed_by(shared, sequences, temperature), computed_by(plain, sequences, temperature)
    )


@pytest.mark.parametrize("name", ["llama", "mistral"])
@settings(max_examples=15)
@given(batches(), BUDGETS, TEMPERATURES)
def test_padding_changes_nothing(
    models: dict[tuple[str, str], PreTrainedModel],
    name: str,
    sequences: Batch,
    budget: int,
    temperature: float,
) -> None:
    model = models[name, "plain"]
    assert_same(
        computed_by(PaddedEngine(model, budget), sequences, temperature),
        computed_plainly(model, sequences, temperature),
    )


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_completions_longer_than_a_chunk_of_the_head(build: Build, engine: type[Engine]) -> None:
    completion = [(7 * i) % VOCABULARY for i in range(CHUNK + 30)]
    sequences = [TokenSequence([1, 2, 3], completion), TokenSequence([1, 2, 3], [4, 5])]
    expected = computed_plainly(build("llama"), sequences, 1.0)
    assert_same(computed_by(engine(build("llama"), 4096), sequences, 1.0), expected)


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_scores_come_in_the_order_of_the_batch_and_without_gradient(
    build: Build, engine: type[Engine]
) -> None:
    scored = engine(build("llama"), 40).score(ROLLOUTS, 1.0)
    expected = computed_plainly(build("llama"), ROLLOUTS, 1.0)
    assert [len(s.logprobs) for s in scored] == [len(s.completion) for s in ROLLOUTS]
    torch.testing.assert_close(
        torch.cat([s.logprobs for s in scored]), expected[0], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        torch.cat([s.entropies for s in scored]), expected[1], rtol=1e-4, atol=1e-4
    )
    assert not any(s.logprobs.requires_grad for s in scored)


def forwarded(engine: Engine, sequences: Batch) -> tuple[int, int]:
    """Tokens that a pass says it computed, and those that an embedding lookup saw, padding too."""
    seen: list[int] = []
    hook = engine.model.get_input_embeddings().register_forward_hook(
        lambda module, arguments, output: seen.append(arguments[0].numel())
    )
    with torch.no_grad():
        told = sum(p.tokens for p in engine.passes(sequences, 1.0))
    hook.remove()
    return told, sum(seen)


def test_a_shared_prefix_goes_through_the_model_once(build: Build) -> None:
    sequences = [TokenSequence([*CONTEXT, 20 + i], [40]) for i in range(5)]
    engine = SharedPrefixEngine(build("llama"), 4096)
    assert forwarded(engine, sequences) == (len(CONTEXT) + 5, len(CONTEXT) + 5)
    plain = PaddedEngine(build("llama"), 4096)
    assert forwarded(plain, sequences) == (5 * (len(CONTEXT) + 2),) * 2


def test_the_prefix_is_computed_once_however_many_passes_read_it(build: Build) -> None:
    sequences = [TokenSequence([*CONTEXT, 20 + i], [40, 41, 42]) for i in range(6)]
    engine = SharedPrefixEngine(build("llama"), 6)  # two rows of three tokens a pass
    with torch.no_grad():
        passes = list(engine.passes(sequences, 1.0))
    assert [p.tokens for p in passes] == [len(CONTEXT) + 6, 6, 6]


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_rows_of_like_length_go_together_without_padding(
    build: Build, engine: type[Engine]
) -> None:
    sequences = [TokenSequence([*CONTEXT, 20 + i], [40] * (1 + 8 * (i % 2))) for i in range(8)]
    told, seen = forwarded(engine(build("llama"), 43), sequences)
    assert told == seen


@given(st.lists(st.integers(1, 20), max_size=12), st.integers(1, 60))
def test_batches_stay_in_the_budget(lengths: Sequence[int], budget: int) -> None:
    runs = list(batches_by_tokens(lengths, budget))
    assert [i for run in runs for i in run] == list(range(len(lengths)))
    for run in runs:
        assert len(run) == 1 or len(run) * max(lengths[i] for i in run) <= budget
