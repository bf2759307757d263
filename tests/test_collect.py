"""The way to rollouts: what is asked, sampled, reused and graded (``collect.py``)."""

import itertools
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.collect import (
    Collection,
    Collector,
    Grading,
    group_by_problem,
    settled,
    spread_over,
)
from fastslow.config import PolicyConfig, SlowConfig
from fastslow.errors import RunError
from fastslow.models import load_model
from fastslow.policy.base import OnTurn, Sampler, SampleRequest
from fastslow.run.observer import Phase
from fastslow.seeding import derive_seed
from fastslow.spread import spread
from fastslow.testing import rollout, turn
from fastslow.types import Context, Demonstration, Failure, Problem, Rollout, Turn, Verdict
from opened import Opened

PROBLEMS = [Problem(f"{task}/{n}", f"{task} {n}?") for task in "ab" for n in range(2)]
PAIRS = [(problem, Context()) for problem in PROBLEMS]


def task_of(problem: Problem) -> str:
    return problem.id[0]


def test_grading_overlaps_sampling() -> None:
    later, graded = threading.Event(), threading.Event()

    def grade(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        graded.set()
        return [Verdict(float(later.wait(30))) for _ in pairs]

    with Grading(grade) as grading:
        grading.add(0, (PROBLEMS[0], "first"))
        assert graded.wait(30)
        grading.add(1, (PROBLEMS[1], "second"))
        later.set()
        assert grading.finish() == {0: Verdict(1.0), 1: Verdict(1.0)}


def test_what_verifiers_raise_ends_the_sampling() -> None:
    def grade(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        raise LookupError("broken")

    def sample(grading: Grading) -> None:
        for place in itertools.count():
            grading.add(place, (PROBLEMS[0], "x"))

    with pytest.raises(LookupError, match="broken"), Grading(grade) as grading:
        sample(grading)
    with pytest.raises(LookupError, match="broken"), Grading(grade) as grading:  # noqa: PT012
        grading.add(0, (PROBLEMS[0], "x"))
        grading.finish()


def test_an_interruption_does_not_wait_for_what_is_queued() -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), list[str]()

    def grade(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        seen.extend(text for _, text in pairs)
        begun.set()
        go_on.wait(0.5)
        return [Verdict(0.0) for _ in pairs]

    with pytest.raises(KeyboardInterrupt), Grading(grade) as grading:  # noqa: PT012
        grading.add(0, (PROBLEMS[0], "running"))
        assert begun.wait(30)
        grading.add(1, (PROBLEMS[1], "queued"))
        raise KeyboardInterrupt
    assert seen == ["running"]


def test_stopped_verifiers_are_settled_by_task_in_any_order() -> None:
    stopped = Failure("it took longer than 3 seconds", stopped=True)
    outcomes = [(0, Verdict(1.0)), (1, stopped), (2, stopped), (3, Failure("it raised"))]
    for order in itertools.permutations(outcomes):
        found = settled(PAIRS, dict(order), task_of)
        assert found[0] == Verdict(1.0)
        assert isinstance(found[1], Verdict)
        assert found[1].score == 0.0
        assert "it took longer than 3 seconds" in found[1].feedback
        assert found[2] == stopped, "task b reached no verdict at all"
        assert found[3] == Failure("it raised")


# Which contexts a problem is asked under.


CONTEXTS = [Context(f"Version {i}.") for i in range(4)]
SHOWING = Context("", (Demonstration("0+0?", "0"),))
SUMS = [Problem(f"p{i}", f"{i}+{i}?", reference=str(2 * i)) for i in range(4)]


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 9))
def test_rollouts_are_spread_evenly(contexts: int, count: int, turn: int) -> None:
    chosen = spread(SUMS[0], CONTEXTS[:contexts], count, turn)
    assert len(chosen) == count
    shares = Counter(context.digest for context in chosen)
    each = [shares[context.digest] for context in CONTEXTS[:contexts]]
    assert max(each) - min(each) <= 1


def test_what_does_not_divide_goes_to_every_context_in_turn() -> None:
    totals = Counter(c.digest for turn in range(4) for c in spread(SUMS[0], CONTEXTS, 5, turn))
    assert set(totals.values()) == {5}
    assert [spread(SUMS[0], CONTEXTS, 1, turn) for turn in range(4)] == [[c] for c in CONTEXTS]


def test_a_context_that_shows_the_problem_is_passed_over() -> None:
    contexts = [CONTEXTS[0], SHOWING, CONTEXTS[1]]
    assert Counter(spread(SUMS[0], contexts, 4, 1)) == {CONTEXTS[0]: 2, CONTEXTS[1]: 2}
    assert SHOWING in spread(SUMS[1], contexts, 4, 1)
    assert spread(SUMS[0], [SHOWING], 4, 0) == []


def test_a_problem_that_every_context_shows_is_not_asked() -> None:
    assert spread_over(SUMS[:2], [SHOWING], 3) == [(SUMS[1], SHOWING)] * 3


def test_groups_hold_a_problem_s_rollouts_of_all_contexts() -> None:
    rollouts = [rollout(p, c, 0.5, turn(f"{p.id} {c}")) for c in CONTEXTS for p in SUMS[:2]]
    groups = group_by_problem(SUMS[:3], rollouts)
    assert [group.problem for group in groups] == SUMS[:3]
    assert groups[0].rollouts == tuple(rollouts[::2])
    assert groups[1].rollouts == tuple(rollouts[1::2])
    assert groups[2].rollouts == ()


def test_what_has_no_reward_is_in_no_group() -> None:
    graded, failed = rollout(SUMS[0], outcome=1.0), rollout(SUMS[0], outcome=Failure("no"))
    unsampled = rollout(SUMS[1], "c", 0.0, turn(sampled=(), finished=False))
    (only,) = group_by_problem(SUMS[:2], [graded, failed, unsampled, rollout(SUMS[1])])
    assert only.rollouts == (graded,)


# Collections.


class Echo:
    """A sampler whose completions say what they were asked and with which seed."""

    window, max_tokens, version, gives_distributions = 60, 10, 3, True

    def __init__(self) -> None:
        self.requests: list[SampleRequest] = []

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        return tuple(f"{context.instructions}|{question}".encode())

    def sample(
        self, requests: Sequence[SampleRequest], *, on_turn: OnTurn, **_: Any
    ) -> list[list[Turn]]:
        self.requests += requests
        turns = [
            [turn(f"{bytes(r.prompt_ids).decode()}#{seed}", read=r.prompt_ids) for seed in r.seeds]
            for r in requests
        ]
        for number, some in reversed(list(enumerate(turns))):  # they end in any order
            for seed, one in enumerate(some):
                on_turn(number, seed, one)
        return turns


def judge(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
    return [
        Verdict(float(problem.question in completion), f"{problem.id}: {completion}")
        for problem, completion in pairs
    ]


def begin(sampler: Echo, phase: Phase = "slow", **options: Any) -> Collection:
    collector = Collector(judge, lambda problem: "sums", **options)
    return collector.begin(phase, cast(Sampler, sampler))


def seeded(problem: str, context: str, number: int) -> int:
    return derive_seed(problem, context, number) % 1000


def test_each_pair_has_its_rollout_in_order() -> None:
    pairs = [(SUMS[place % 3], CONTEXTS[place % 2]) for place in range(12)]
    told: list[tuple[str, int, int]] = []
    collect = begin(Echo(), on_progress=lambda *progress: told.append(progress))
    found = collect(pairs, seeded)
    numbers = Counter[str]()
    for (problem, context), one in zip(pairs, found, strict=True):
        seed = seeded(problem.id, context.digest, numbers[problem.id])
        numbers[problem.id] += 1
        assert (one.problem, one.context, one.policy_version) == (problem, context, 3)
        assert one.text == f"{context.instructions}|{problem.question}#{seed}"
        assert [one.verdict] == judge([(problem, one.text)])
    assert told == [("slow", n, 12) for n in range(1, 13)]
    assert collect.sampled == found
    assert collect.reused == []


def test_pairs_that_are_the_same_share_a_prompt() -> None:
    sampler = Echo()
    begin(sampler)([(p, c) for _ in range(3) for p in SUMS[:2] for c in CONTEXTS[:2]], seeded)
    assert [len(request.seeds) for request in sampler.requests] == [3] * 4
    assert all(len(set(request.seeds)) == 3 for request in sampler.requests)


@given(st.sets(st.integers(0, 15)), st.integers(1, 9), st.integers(1, 4))
def test_a_reusable_rollout_takes_one_place_of_its_pair(
    reusable: set[int], count: int, contexts: int
) -> None:
    every = [(problem, context) for problem in SUMS for context in CONTEXTS]
    known = {r.key: r for r in (rollout(*every[i]) for i in reusable)}
    pairs = spread_over(SUMS, CONTEXTS[:contexts], count)
    collect = begin(Echo())
    found = collect(pairs, seeded, known)
    fresh = begin(Echo())(pairs, seeded)
    assert [(r.problem, r.context) for r in found] == pairs
    assert Counter(r.key for r in collect.reused) == {
        key: 1 for key in known if key in {(p.id, c.digest) for p, c in pairs}
    }
    for ours, theirs in zip(found, fresh, strict=True):
        assert ours in collect.reused or ours == theirs, "the seeds of the others stay"


def test_nothing_wanted_is_nothing_sampled() -> None:
    sampler = Echo()
    assert begin(sampler)([], seeded) == []
    assert not sampler.requests


def test_nobody_is_asked_what_stands_in_their_context() -> None:
    sampler = Echo()
    with pytest.raises(ValueError, match=f"context {SHOWING.digest} shows problem 'p0'"):
        begin(sampler)([(SUMS[1], CONTEXTS[0]), (SUMS[0], SHOWING)], seeded)
    assert not sampler.requests


def test_a_prompt_beyond_the_window_alone_is_not_sampled(caplog: pytest.LogCaptureFixture) -> None:
    sampler = Echo()
    fits, long = Problem("fits", "x" * 39), Problem("long", "x" * 40)
    found = begin(sampler)([(p, CONTEXTS[0]) for p in (fits, long, fits)], seeded)
    assert [len(request.seeds) for request in sampler.requests] == [2]
    assert [one.is_sampled for one in found] == [True, False, True]
    assert (found[1].problem, found[1].context, found[1].reward) == (long, CONTEXTS[0], 0.0)
    message = (
        f"problem 'long' is left out: it makes a prompt of 51 tokens under context "
        f"{CONTEXTS[0].digest}, which with policy.max_tokens, 10, is more than the model's window "
        "of 60"
    )
    assert message in found[1].feedback
    assert message in caplog.text


def test_numbers_that_are_not_finite_end_a_phase_without_an_update() -> None:
    class Broken(Echo):
        def sample(self, requests: Any, *, on_turn: OnTurn, **options: Any) -> list[list[Turn]]:
            def spoil(number: int, seed: int, one: Turn) -> None:
                on_turn(number, seed, replace(one, logprobs=(math.nan,)))

            return super().sample(requests, on_turn=spoil, **options)

    pairs = [(SUMS[0], CONTEXTS[0])]
    assert begin(Broken())(pairs, seeded)
    for phase in ("fast", "eval"):
        with pytest.raises(RunError, match="is not finite in 1 of 1 rollouts"):
            begin(Broken(), cast(Phase, phase))(pairs, seeded)


def test_an_interruption_ends_the_sampling() -> None:
    calls = itertools.count()

    def stop() -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    collect = begin(Echo(), check_interruption=stop)
    with pytest.raises(KeyboardInterrupt):
        collect([(problem, CONTEXTS[0]) for problem in SUMS], seeded)
    assert collect.sampled == []


def test_rollouts_of_a_real_policy_do_not_depend_on_each_other(tiny_model_dir: Path) -> None:
    model, tokenizer = load_model(str(tiny_model_dir))
    settings = PolicyConfig(max_tokens=6, rows=3)
    policy = Opened.of(model, tokenizer, settings, SlowConfig(), trainable=False)
    pairs = [(problem, context) for problem in SUMS for context in CONTEXTS[:2]]
    pairs += [(SUMS[0], CONTEXTS[0])]

    def collected(wanted: Sequence[tuple[Problem, Context]]) -> list[Rollout]:
        collect = Collector(judge, lambda problem: "sums").begin("slow", policy.sampler)
        return collect(wanted, lambda problem, context, number: 7)

    together = collected(pairs)
    turned = collected(pairs[::-1])[::-1]
    alone = [collected([pair])[0] for pair in pairs]
    for other in (turned, alone):
        assert [r.sampled for r in other] == [r.sampled for r in together]
        for found, expected in zip(other, together, strict=True):
            assert found.logprobs == pytest.approx(expected.logprobs)
