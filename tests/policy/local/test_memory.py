"""Running out of memory, as torch and Python themselves say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fastslow.config import PolicyConfig, SlowConfig
from fastslow.errors import RunError
from fastslow.policy.base import SampleRequest
from fastslow.policy.local.memory import in_parts
from fastslow.types import Context, Turn
from one_turn import one_turn
from opened import Opened

TOO_MUCH = 2**62


def ask_for_too_much() -> None:
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def ask_python_for_too_much() -> None:
    bytearray(TOO_MUCH)


@pytest.mark.parametrize("exhaust", [ask_for_too_much, ask_python_for_too_much])
def test_what_ran_out_of_memory_is_done_again_in_smaller_parts(
    exhaust: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def work(parts: int) -> str:
        asked.append(parts)
        if parts == 1:
            exhaust()
        return "done"

    assert in_parts(work, "an update") == "done"
    assert asked == [1, 2]
    (record,) = caplog.records
    assert record.getMessage().startswith("an update ran out of memory and is done again")


def test_running_out_again_ends_the_run_and_says_what_to_lower() -> None:
    with pytest.raises(RunError, match="an update ran out of memory, and again") as caught:
        in_parts(lambda parts: ask_for_too_much(), "an update")
    assert "`fastslow resume RUN --set slow.tokens_per_pass=...`" in str(caught.value)


@pytest.mark.parametrize("when", [1, 2])
def test_other_errors_come_out_unchanged(when: int) -> None:
    def work(parts: int) -> None:
        if parts == when:
            torch.zeros(2) @ torch.zeros(3)
        ask_for_too_much()

    with pytest.raises(RuntimeError, match="size"):
        in_parts(work, "an update")


def test_a_device_without_memory_is_recognised() -> None:
    def work(parts: int) -> int:
        if parts == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return parts

    assert in_parts(work, "sampling") == 2


@pytest.fixture
def policy(tiny_model_dir: Path) -> Opened:
    return Opened.of(
        AutoModelForCausalLM.from_pretrained(tiny_model_dir),
        AutoTokenizer.from_pretrained(tiny_model_dir),
        PolicyConfig(device="cpu", max_tokens=8, rows=4),
        SlowConfig(tokens_per_pass=200, lr=1e-3, warmup=0),
        trainable=True,
    )


def test_an_update_is_split_and_the_next_one_is_not(
    policy: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = SampleRequest(policy.sampler.encode(Context(), "Why?"), (1, 2, 3, 4))
    (completions,) = policy.sampler.sample([request])
    data = [one_turn(turn.read, turn.sampled, turn.logprobs, 1.0, 0.01) for turn in completions]
    engine, base = policy.backend._engine, policy.backend._base_engine
    assert base is not None
    budgets = []

    def passes(*arguments: Any, **options: Any) -> Any:
        budgets.append((engine.tokens_per_pass, base.tokens_per_pass))
        if engine.tokens_per_pass > 100 and len(budgets) < 3:
            ask_for_too_much()
        return type(engine).passes(engine, *arguments, **options)

    monkeypatch.setattr(engine, "passes", passes)
    assert policy.step(data)["loss"] != 0
    assert budgets == [(200, 200), (100, 100)]
    assert policy.trainer.version == 1
    policy.step(data)
    assert budgets[2:] == [(200, 200)]


def test_sampling_is_split_and_counts_nothing_twice(
    policy: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = SampleRequest(policy.sampler.encode(Context(), "Why?"), tuple(range(8)))
    (expected,) = policy.sampler.sample([request])
    engine, rows = policy.backend._engine, []
    told: list[tuple[int, int, Turn]] = []

    def sample(prompts: Any, seeds: Any, limits: Any, at_a_time: int, on_turn: Any) -> Any:
        rows.append(at_a_time)
        found = type(engine).sample(engine, prompts, seeds, limits, at_a_time, on_turn)
        if at_a_time > 2:
            ask_for_too_much()
        return found

    monkeypatch.setattr(engine, "sample", sample)
    (found,) = policy.sampler.sample([request], on_turn=lambda *turn: told.append(turn))
    assert rows == [4, 2]
    assert sorted((number, seed) for number, seed, _ in told) == [(0, n) for n in range(8)]
    assert [turn for _, _, turn in sorted(told, key=lambda each: each[1])] == found
    assert [turn.sampled for turn in found] == [turn.sampled for turn in expected]


def test_turns_that_ended_before_memory_ran_out_are_told_of_once(
    policy: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several requests some have ended, some are under way and some have not begun."""
    prompts = [policy.sampler.encode(Context(), text) for text in ("Why?", "When?", "Who is it?")]
    requests = [SampleRequest(p, tuple(range(10 * n, 10 * n + 3))) for n, p in enumerate(prompts)]
    expected = policy.sampler.sample(requests)
    engine, ended = policy.backend._engine, 0
    told: dict[tuple[int, int], Turn] = {}

    def sample(prompts: Any, seeds: Any, limits: Any, at_a_time: int, on_turn: Any) -> Any:
        def end(request: int, seed: int, turn: Turn) -> None:
            nonlocal ended
            on_turn(request, seed, turn)
            ended += 1
            if ended == 4:
                assert len(told) == 4
                ask_for_too_much()

        return type(engine).sample(engine, prompts, seeds, limits, at_a_time, end)

    def tell(request: int, seed: int, turn: Turn) -> None:
        assert (request, seed) not in told
        told[request, seed] = turn

    monkeypatch.setattr(engine, "sample", sample)
    found = policy.sampler.sample(requests, on_turn=tell)
    assert ended == 4 + 9, "all are sampled again"
    assert told == {(n, s): turn for n, some in enumerate(found) for s, turn in enumerate(some)}
    assert [[t.sampled for t in some] for some in found] == [
        [t.sampled for t in some] for some in expected
    ]
