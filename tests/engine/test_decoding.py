"""Sampling over the prefix tree: what is computed, what is held, and that neither shows."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prefix_batches import SERVED, VOCABULARY, small_parts
from transformers import PreTrainedModel

from fastslow.engine import decoding
from fastslow.engine.base import Engine
from fastslow.engine.decoding import SharedDecoder
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.types import TokenSequence, Turn

Build = Callable[[str], PreTrainedModel]
Tokens = list[tuple[int, ...]]

TOKEN_BYTES = 2 * 2 * 2 * 4 * 4
"""Of the tests' models: layers, keys and values, heads, size, bytes of a number."""

NEVER = 10**9

CONTEXTS = [list(range(3, 23)), list(range(3, 10)), [50, 51]]
PROMPTS = [[*context, *question] for context in CONTEXTS for question in ([24], [30, 31, 32])]
PROMPTS += [PROMPTS[0], CONTEXTS[0]]  # asked twice; one that others begin with
SEEDS = [[100 * number + i for i in range(4)] for number in range(len(PROMPTS))]
LIMITS = SamplingLimits(10, frozenset(range(5)), 1.0)


def tokens_of(samples: Sequence[Sequence[Turn]]) -> list[Tokens]:
    return [[completion.sampled for completion in completions] for completions in samples]


@contextmanager
def calls_of(engine: Engine) -> Iterator[list[tuple[int, int]]]:
    """Rows and tokens of each call of the model."""
    shapes: list[tuple[int, int]] = []
    hook = engine.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape))
    )
    yield shapes
    hook.remove()


def prefilled(shapes: Sequence[tuple[int, int]]) -> int:
    """Tokens of prompts that were computed: a pass over a tree is a single row."""
    return sum(tokens for rows, tokens in shapes if tokens > 1)


@pytest.fixture(scope="module")
def expected(build: Build) -> dict[str, list[Tokens]]:
    """What the plain engine samples with each architecture."""
    return {
        name: tokens_of(PaddedEngine(build(name), 4096).sample(PROMPTS, SEEDS, LIMITS, 100))
        for name in SERVED
    }


@pytest.fixture(scope="module")
def model(build: Build) -> PreTrainedModel:
    """For engines that differ in their settings alone."""
    return build("llama")


# --- the same samples -------------------------------------------------------------------------


@pytest.mark.parametrize("worth", [0, 60, NEVER], ids=["trunks", "some trunks", "copies"])
@pytest.mark.parametrize("name", SERVED)
def test_samples_are_those_of_the_plain_engine(
    build: Build, expected: dict[str, list[Tokens]], name: str, worth: int
) -> None:
    """Whether prompts are read in place or copied into rows, also with a sliding window."""
    engine = SharedPrefixEngine(build(name), 4096)
    with small_parts(4, worth):
        for rows in (100, 7):
            assert tokens_of(engine.sample(PROMPTS, SEEDS, LIMITS, rows)) == expected[name]


@settings(max_examples=20)
@given(
    rows=st.integers(1, 20),
    tokens_per_pass=st.sampled_from([1, 5, 30, 4096]),
    kv_tokens=st.sampled_from([0, 20, 60, 150, 100_000]),
    worth=st.sampled_from([0, 40, NEVER]),
    order=st.permutations(range(len(PROMPTS))),
    left_out=st.integers(0, 6),
)
def test_samples_depend_on_prompts_and_seeds_alone(
    model: PreTrainedModel,
    expected: dict[str, list[Tokens]],
    rows: int,
    tokens_per_pass: int,
    kv_tokens: int,
    worth: int,
    order: list[int],
    left_out: int,
) -> None:
    engine = SharedPrefixEngine(model, tokens_per_pass, kv_tokens * TOKEN_BYTES)
    asked = order[left_out:]
    prompts, seeds = [PROMPTS[i] for i in asked], [SEEDS[i][1::-1] for i in asked]
    limits = replace(LIMITS, max_tokens=5)
    with small_parts(4, worth):
        for _ in range(2):  # the second time prefixes are known
            found = tokens_of(engine.sample(prompts, seeds, limits, rows))
            assert found == [[t[:5] for t in expected["llama"][i][1::-1]] for i in asked]


def test_nothing_is_sampled_where_nothing_is_asked(build: Build) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096)
    assert engine.sample([], [], LIMITS, 5) == []
    without = tokens_of(engine.sample([[3, 4], [3, 5]], [[1], [1]], LIMITS, 5))
    with_empty = tokens_of(engine.sample([[3, 4], [9], [3, 5]], [[1], [], [1]], LIMITS, 5))
    assert with_empty == [without[0], [], without[1]]


def test_bfloat16_weights_are_served(build: Build) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096)
    engine.round_to(torch.bfloat16, keep=lambda name: False)
    with small_parts(4, 0):
        samples = engine.sample(PROMPTS, SEEDS, LIMITS, 9)
    pairs = [(p, c) for p, some in zip(PROMPTS, samples, strict=True) for c in some]
    scores = engine.score([TokenSequence.of(p, c.sampled) for p, c in pairs], 1.0)
    stored = torch.tensor([value for _, c in pairs for value in c.logprobs])
    found = torch.cat([score.logprobs for score in scores])
    torch.testing.assert_close(stored, found, rtol=0.03, atol=0.1)
    assert engine.example.keys[0].dtype == torch.bfloat16
    assert engine.kv_tokens == 2 * SharedPrefixEngine(build("llama"), 4096).kv_tokens


# --- what is computed -------------------------------------------------------------------------


def test_a_call_computes_each_prompt_token_once(build: Build) -> None:
    context = list(range(3, 33))
    prompts = [[*context, 40, 41], [*context, 50, 51]]
    engine = SharedPrefixEngine(build("llama"), 4096)
    with calls_of(engine) as shapes:
        engine.sample(prompts, [range(8), range(8, 16)], LIMITS, 16)
    assert prefilled(shapes) == len(context) + 2 + 2


def test_completions_of_a_prompt_are_one_row_until_they_differ(build: Build) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096)
    limits = SamplingLimits(12, frozenset(range(5)), 0.5)  # cold, so that some begin alike
    with calls_of(engine) as shapes:
        ((*completions,),) = engine.sample([[3, 4, 5]], [range(24)], limits, 24)
    sampled = [completion.sampled for completion in completions]
    going_on = [
        {tokens[:place] for tokens in sampled if len(tokens) > place} for place in range(1, 12)
    ]
    rows = [rows for rows, tokens in shapes if tokens == 1]
    assert rows == [len(beginnings) for beginnings in going_on if beginnings]
    assert rows[0] < 24, "some begin alike"
    assert max(rows) > rows[-1], "and rows that ended are dropped"


def test_the_place_of_a_finished_row_is_taken(build: Build) -> None:
    """Rows are kept busy: far fewer steps than if each batch waited for its longest completion."""
    limits = SamplingLimits(30, frozenset(range(12)), 1.0)
    for prompts, seeds in (
        ([[3, 4, 5]], [range(40)]),  # of one prompt with many completions too
        ([[3, 4, 5 + i] for i in range(40)], [[i] for i in range(40)]),
    ):
        engine = SharedPrefixEngine(build("llama"), 4096)
        with calls_of(engine) as shapes:
            samples = engine.sample(prompts, seeds, limits, 8)
        lengths = [len(c.sampled) for some in samples for c in some]
        steps = [rows for rows, tokens in shapes if tokens == 1]
        waiting_for_all = sum(max(lengths[i : i + 8]) - 1 for i in range(0, 40, 8))
        assert max(steps) <= 8
        assert len(steps) < 0.75 * waiting_for_all


def test_contexts_are_computed_once_while_the_weights_stand_still(build: Build) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096)
    contexts = [[i, *range(3, 40)] for i in range(2)]

    def ask(question: int) -> int:
        with calls_of(engine) as shapes:
            prompts = [[*c, question, q] for c in contexts for q in (50, 51)]
            engine.sample(prompts, [[1, 2]] * 4, LIMITS, 16)
        return prefilled(shapes)

    fresh = 2 * (len(contexts[0]) + 1 + 2)
    assert ask(42) == fresh
    assert [ask(43), ask(44)] == [2 * (1 + 2)] * 2, "the questions alone"
    engine.weights_changed()
    assert ask(45) == fresh
    assert ask(46) == 2 * (1 + 2)


def test_what_one_prompt_reads_is_not_kept(build: Build) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096)
    long = list(range(3, 60))
    engine.sample([long], [[1, 2, 3]], LIMITS, 8)
    assert engine.store.tokens == 0
    engine.sample([[*long, 1], [*long, 2]], [[1], [2]], LIMITS, 8)
    assert engine.store.tokens == len(long)


@pytest.mark.parametrize("worth", [0, NEVER])
def test_samples_after_a_change_of_weights_are_those_of_the_new_ones(
    build: Build, worth: int
) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096)
    changed = build("llama")
    with small_parts(4, worth):
        before = tokens_of(engine.sample(PROMPTS, SEEDS, LIMITS, 30))
        for model in (engine.model, changed):
            for parameter in model.parameters():
                parameter.data.mul_(1.3)
        engine.weights_changed()
        after = tokens_of(engine.sample(PROMPTS, SEEDS, LIMITS, 30))
    plain = PaddedEngine(changed, 4096)
    assert after == tokens_of(plain.sample(PROMPTS, SEEDS, LIMITS, 30))
    assert after != before


# --- what is held -----------------------------------------------------------------------------


def held_bytes(decoder: SharedDecoder) -> int:
    """Memory of all keys and values that outlive a step, each piece of memory once."""
    kept = [stretch.key_values for stretch in decoder._engine.store._all()]
    kept += [known.key_values for known in decoder._known.values() if known.key_values]
    kept += [trunk.key_values for row in decoder._rows for trunk in row.trunks]
    tensors = [tensor for kv in kept for tensor in (*kv.keys, *kv.values)]
    tensors += [t for t in (decoder._cache._keys, decoder._cache._values) if t is not None]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@contextmanager
def recorded_memory() -> Iterator[list[tuple[int, int]]]:
    """Completions under way and bytes held, after every step of decoding and its beginnings."""
    seen: list[tuple[int, int]] = []
    under_way = 0
    admit, step = SharedDecoder.admit, SharedDecoder.step

    def recording_admit(self: SharedDecoder, prompts, completions, before):  # type: ignore[no-untyped-def]
        nonlocal under_way
        logits = admit(self, prompts, completions, before)
        if logits is not None:
            under_way = before + sum(completions)
            seen.append((under_way, held_bytes(self)))
        return logits

    def recording_step(self: SharedDecoder, tokens: torch.Tensor) -> torch.Tensor:
        logits = step(self, tokens)
        seen.append((under_way, held_bytes(self)))
        return logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharedDecoder, "admit", recording_admit)
        patch.setattr(SharedDecoder, "step", recording_step)
        yield seen


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**20),
    budget=st.sampled_from([60, 120, 300, 600]),
    worth=st.sampled_from([0, 20, NEVER]),
    rows=st.sampled_from([3, 8, 64]),
)
def test_keys_and_values_stay_within_their_memory(
    model: PreTrainedModel, seed: int, budget: int, worth: int, rows: int
) -> None:
    """Over several calls that know some of each other's contexts, with all that is held counted."""
    engine = SharedPrefixEngine(model, 4096, budget * TOKEN_BYTES)
    assert engine.kv_tokens == budget
    draw = random.Random(seed)

    def some(count: int) -> list[int]:
        return [draw.randrange(VOCABULARY) for _ in range(count)]

    contexts = [some(draw.choice([5, 20, 40])) for _ in range(4)]
    with small_parts(4, worth), recorded_memory() as seen:
        for _ in range(3):
            prompts = [[*draw.choice(contexts), *some(draw.randrange(1, 6))] for _ in range(6)]
            seeds = [some(draw.randrange(5)) for _ in prompts]
            limits = SamplingLimits(draw.choice([1, 5, 12]), frozenset(range(6)), 1.0)
            samples = engine.sample(prompts, seeds, limits, rows)
            assert [len(s) for s in samples] == [len(s) for s in seeds]
            contexts = [*contexts[1:], [*contexts[0][:3], *some(10)]]
    for under_way, held in seen:
        # A single completion is sampled whatever it takes.
        assert held <= budget * TOKEN_BYTES or under_way == 1


def test_memory_splits_the_work_and_is_used(build: Build) -> None:
    prompts, seeds = [[3, 4, 5 + i] for i in range(8)], [[i, i + 50] for i in range(8)]
    limits = SamplingLimits(9, frozenset(), 1.0)
    for slots in (1, 2, 5, 16):
        engine = SharedPrefixEngine(build("llama"), 4096, slots * (3 + 9) * TOKEN_BYTES)
        with calls_of(engine) as shapes:
            engine.sample(prompts, seeds, limits, 64)
        rows = [rows for rows, tokens in shapes if tokens == 1]
        assert slots - 1 <= max(rows) <= slots


def test_prompts_that_wait_drive_no_context_out_in_vain(build: Build) -> None:
    """All at once do not fit, whatever would be forgotten; some fit beside the context."""
    context = list(range(3, 43))
    engine = SharedPrefixEngine(build("llama"), 4096, 100 * TOKEN_BYTES)
    with small_parts(128, worth=20):
        for question in range(2):
            prompts = [[*context, 50 + question, i] for i in range(12)]
            with calls_of(engine) as shapes:
                engine.sample(prompts, [[i] for i in range(12)], LIMITS, 64)
            assert engine.store.tokens >= len(context)
            assert max(rows for rows, tokens in shapes if tokens == 1) > 1
    assert prefilled(shapes) < len(context)


def test_what_is_read_is_forgotten_last(build: Build) -> None:
    """Room is made by the context whose turn comes later, though it was asked for later too."""
    first, second = list(range(3, 23)), list(range(30, 50))
    prompts = [[*context, 50 + i] for context in (first, second) for i in range(5)]
    limits = SamplingLimits(12, frozenset(), 1.0)
    engine = SharedPrefixEngine(build("llama"), 4096, 100 * TOKEN_BYTES)
    with small_parts(4, worth=0):
        engine.sample([p for p in prompts if p[-1] < 52], [[1]] * 4, limits, 5)
        assert engine.store.tokens == 40
        with calls_of(engine) as shapes:
            engine.sample(prompts, [[1]] * 10, limits, 5)
    assert prefilled(shapes) == 5 + (20 + 5)


def test_a_context_that_the_store_lets_go_is_let_go(build: Build) -> None:
    """Also if prompts that read it wait."""
    waiting, begun = list(range(30, 50)), list(range(3, 23))
    limits = SamplingLimits(12, frozenset(), 1.0)
    engine = SharedPrefixEngine(build("llama"), 4096, 60 * TOKEN_BYTES)
    with small_parts(4, worth=0):
        engine.sample([[*waiting, 50], [*waiting, 51]], [[1], [2]], limits, 3)
        prompts = [[*context, token] for context in (waiting, begun) for token in (50, 51)]
        with recorded_memory() as seen:
            engine.sample(prompts, [[1], [2], [1], [2, 3, 4]], limits, 3)
    assert max(under_way for under_way, _ in seen) == 3
    assert max(held for _, held in seen) <= 60 * TOKEN_BYTES


def test_long_sampling_forgets_contexts_that_it_does_not_read(build: Build) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096, 100 * TOKEN_BYTES)
    context = list(range(3, 43))
    engine.sample(
        [[*context, 50], [*context, 51]], [[1], [2]], SamplingLimits(2, frozenset(), 1.0), 2
    )
    assert engine.store.tokens == len(context)
    limits = SamplingLimits(30, frozenset(), 1.0)
    with calls_of(engine) as shapes:
        engine.sample([[1, 2]], [range(3)], limits, 3)
    assert engine.store.tokens == 0
    assert max(rows for rows, tokens in shapes if tokens == 1) == 3


def test_a_prompt_that_many_read_is_not_copied_to_their_rows(build: Build) -> None:
    engine = SharedPrefixEngine(build("llama"), 4096)
    prompt = [i % VOCABULARY for i in range(decoding._WORTH // 8)]
    limits = SamplingLimits(4, frozenset(), 1.0)
    with recorded_memory() as seen:
        engine.sample([prompt], [range(40)], limits, 40)
    copied = 40 * len(prompt) * TOKEN_BYTES
    assert max(held for _, held in seen) < copied / 2
