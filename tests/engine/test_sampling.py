"""Samples: of the right distribution, with the log-probabilities that the learner finds again."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from fastslow.engine.base import Engine
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.sampling import SamplingLimits, draw
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.types import TokenSequence, Turn

Build = Callable[[str], PreTrainedModel]
Samples = list[list[Turn]]

LAST_UNIFORM = 1 - 2**-24  # the largest number below 1 that an fp32 generator gives

CONTEXTS = [list(range(3, 15)), list(range(3, 9)), [50, 51]]
PROMPTS = [[*context, *question] for context in CONTEXTS for question in ([20], [30, 31, 32])]
PROMPTS.append(PROMPTS[0])  # two requests may ask the same
SEEDS = [[100 * number + i for i in range(4)] for number in range(len(PROMPTS))]


def limits(
    max_tokens: int = 12, stop_ids: Sequence[int] = tuple(range(5)), temperature: float = 1.0
) -> SamplingLimits:
    return SamplingLimits(max_tokens, frozenset(stop_ids), temperature)


def sample(engine: Engine, rows: int = 100, **options: float) -> Samples:
    return engine.sample(PROMPTS, SEEDS, limits(**options), rows)


def tokens_of(samples: Samples) -> list[list[tuple[int, ...]]]:
    return [[completion.sampled for completion in completions] for completions in samples]


@pytest.fixture(scope="module")
def engines(build: Build) -> dict[str, Engine]:
    names = ("llama", "qwen3", "mistral", "gemma2")
    served: dict[str, Engine] = {name: SharedPrefixEngine(build(name), 64) for name in names}
    return {**served, "padded": PaddedEngine(build("llama"), 64)}


# --- what is stored ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma2", "padded"])
def test_stored_logprobs_are_those_that_the_learner_finds(
    engines: dict[str, Engine], name: str, temperature: float
) -> None:
    samples = sample(engines[name], temperature=temperature)
    flat = [(p, c) for p, some in zip(PROMPTS, samples, strict=True) for c in some]
    assert max(len(c.sampled) for _, c in flat) > 6, "too short to leave a sliding window"
    scores = engines[name].score([TokenSequence.of(p, c.sampled) for p, c in flat], temperature)
    for (_, completion), score in zip(flat, scores, strict=True):
        stored = torch.tensor(completion.logprobs)
        torch.testing.assert_close(stored, score.logprobs, rtol=0, atol=1e-4)


# --- what samples depend on -------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 7, 16])
@pytest.mark.parametrize("name", ["llama", "padded"])
def test_samples_do_not_depend_on_the_rows_side_by_side(
    engines: dict[str, Engine], name: str, rows: int
) -> None:
    assert tokens_of(sample(engines[name], rows)) == tokens_of(sample(engines[name]))


@pytest.mark.parametrize("shuffling", range(3))
def test_samples_do_not_depend_on_the_order_of_requests_or_on_each_other(
    engines: dict[str, Engine], shuffling: int
) -> None:
    expected = tokens_of(sample(engines["llama"]))
    order = random.Random(shuffling).sample(range(len(PROMPTS)), len(PROMPTS) - shuffling)
    found = engines["llama"].sample(
        [PROMPTS[i] for i in order], [SEEDS[i][::-1] for i in order], limits(), 5
    )
    assert tokens_of(found) == [expected[i][::-1] for i in order]


def test_a_longer_limit_goes_on_where_a_shorter_one_stopped(engines: dict[str, Engine]) -> None:
    short, long = (tokens_of(sample(engines["llama"], max_tokens=n)) for n in (3, 9))
    assert [[tokens[:3] for tokens in some] for some in long] == short


def test_seeds_make_the_difference(engines: dict[str, Engine]) -> None:
    (completions,) = engines["llama"].sample([PROMPTS[0]], [[1, 1, 2]], limits(), 3)
    assert completions[0] == completions[1]
    assert completions[0].sampled != completions[2].sampled


# --- when a completion ends -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "padded"])
def test_a_completion_ends_with_a_stop_token_or_at_the_limit(
    engines: dict[str, Engine], name: str
) -> None:
    stops, most = set(range(5)), 12
    completions = [c for some in sample(engines[name]) for c in some]
    for completion in completions:
        assert len(completion.logprobs) == len(completion.sampled) <= most
        assert not stops & set(completion.sampled[:-1])
        assert completion.finished == (completion.sampled[-1] in stops)
        assert completion.finished or len(completion.sampled) == most
    assert {c.finished for c in completions} == {True, False}, "both endings are tested"


def test_one_token_is_the_shortest_limit(engines: dict[str, Engine]) -> None:
    samples = sample(engines["llama"], max_tokens=1)
    assert {len(tokens) for some in tokens_of(samples) for tokens in some} == {1}


def test_every_completion_is_told_of_once(engines: dict[str, Engine]) -> None:
    told: dict[tuple[int, int], Turn] = {}

    def end(prompt: int, seed: int, turn: Turn) -> None:
        assert (prompt, seed) not in told
        told[prompt, seed] = turn

    found = engines["llama"].sample(PROMPTS, SEEDS, limits(), 10, end)
    assert told == {(u, n): turn for u, some in enumerate(found) for n, turn in enumerate(some)}
    assert list(told) != sorted(told), "as they end, not all at the end"
    for (prompt, _), turn in told.items():
        assert turn.read == tuple(PROMPTS[prompt])


def test_on_turn_may_stop_the_sampling(engines: dict[str, Engine]) -> None:
    def stop(prompt: int, seed: int, turn: Turn) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engines["llama"].sample(PROMPTS, SEEDS, limits(), 10, stop)
    again = engines["llama"].sample(PROMPTS, SEEDS, limits(), 10)
    assert tokens_of(again) == tokens_of(sample(engines["llama"])), "nothing is left of it"


@pytest.mark.parametrize("name", ["llama", "padded"])
def test_a_completion_ends_where_its_tokens_say_so(engines: dict[str, Engine], name: str) -> None:
    """As stop strings do, which may span tokens."""

    def stops(tokens: Sequence[int]) -> bool:
        return len(tokens) > 1 and tokens[-2] % 4 == tokens[-1] % 4 == 3

    free = engines[name].sample(PROMPTS, SEEDS, limits(), 100)
    ended = engines[name].sample(PROMPTS, SEEDS, replace(limits(), stops=stops), 100)
    pairs = [(f, e) for some in zip(free, ended, strict=True) for f, e in zip(*some, strict=True)]
    for before, after in pairs:
        tokens = before.sampled
        places = [n for n in range(1, len(tokens) + 1) if stops(tokens[:n])]
        assert after.sampled == tokens[: places[0] if places else None]
        assert after.finished == (before.finished or bool(places))
        assert after.logprobs == pytest.approx(before.logprobs[: len(after.sampled)], abs=1e-4)
    assert any(before != after for before, after in pairs)


def test_no_more_rows_than_allowed_are_under_way(engines: dict[str, Engine]) -> None:
    rows: list[int] = []
    hook = (
        engines["llama"]
        .model.get_input_embeddings()
        .register_forward_hook(lambda module, inputs, output: rows.append(inputs[0].shape[0]))
    )
    sample(engines["llama"], rows=5)
    hook.remove()
    assert max(rows) == 5


# --- one draw ---------------------------------------------------------------------------------


def survival(chi_square: float, freedom: int) -> float:
    """The probability of a larger chi-square statistic."""
    half = torch.tensor([freedom / 2, chi_square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    count, vocabulary = 100_000, 50
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 1.5, vocabulary)).float()
    uniforms = torch.from_numpy(np.random.default_rng(1).random(count, dtype=np.float32))
    tokens, logprobs = draw(logits.expand(count, -1), uniforms, temperature)
    expected = (logits.double() / temperature).softmax(-1)
    observed = tokens.bincount(minlength=vocabulary)
    chi_square = float(((observed - count * expected) ** 2 / (count * expected)).sum())
    assert 1e-3 < survival(chi_square, vocabulary - 1) < 1 - 1e-3
    torch.testing.assert_close(logprobs, expected.log()[tokens].float(), rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_rows_that_are_drawn_from_often_give_what_single_ones_would(owners: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 30, generator=generator)
    uniforms = torch.rand(len(owners), generator=generator)
    tokens, logprobs = draw(logits, uniforms, 0.8, torch.tensor(owners))
    expected_tokens, expected_logprobs = draw(logits[owners], uniforms, 0.8)
    assert torch.equal(tokens, expected_tokens)
    assert torch.equal(logprobs, expected_logprobs)


def test_first_tokens_of_many_seeds_follow_the_model(build: Build) -> None:
    model = build("llama")
    count, prompt = 3000, [3, 4, 5]
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].double().softmax(-1)
    (completions,) = PaddedEngine(model, 4096).sample(
        [prompt], [range(count)], limits(max_tokens=1, stop_ids=()), count
    )
    observed = torch.tensor([c.sampled[0] for c in completions]).bincount(minlength=61)
    often = count * expected >= 5  # the statistic needs a few of each
    counts = torch.cat([observed[often], observed[~often].sum()[None]])
    means = count * torch.cat([expected[often], expected[~often].sum()[None]])
    chi_square = float(((counts - means) ** 2 / means).sum())
    assert 1e-3 < survival(chi_square, int(often.sum())) < 1 - 1e-3


@pytest.mark.parametrize("uniform", [0.0, 0.5, LAST_UNIFORM])
@pytest.mark.parametrize("place", [0, 17, 39])
def test_a_peaked_distribution_gives_its_peak(place: int, uniform: float) -> None:
    logits = torch.full((1, 40), -math.inf)
    logits[0, place] = 3.0
    tokens, logprobs = draw(logits, torch.tensor([uniform]), 1.0)
    assert tokens.tolist() == [place]
    assert logprobs.tolist() == [0.0]


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([-math.inf, -200.0, -20.0, -3.0, 0.0, 1.0, 5.0]), min_size=1),
    st.sampled_from([0.0, 2**-24, LAST_UNIFORM]) | st.floats(0, LAST_UNIFORM, width=32),
    st.sampled_from([0.3, 1.0, 1.7]),
)
def test_nothing_impossible_is_drawn(
    logits: list[float], uniform: float, temperature: float
) -> None:
    row = torch.tensor([[0.0, *logits]])
    tokens, logprobs = draw(row, torch.tensor([uniform]), temperature)
    assert math.isfinite(logprobs.item())
    before = (row / temperature).double().softmax(-1)[0, : tokens.item() + 1]
    assert before[:-1].sum() - 1e-6 <= uniform <= before.sum() + 1e-6
