"""Which contexts a problem is asked under, and what becomes of the answers (``rollouts.py``)."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
from fastslow.policy.protocol import Policy, SampleRequest
from fastslow.rollouts import (
    Ask,
    group_by_problem,
    left_out,
    plan_rollouts,
    sample_rollouts,
    spread,
)
from hypothesis import given
from hypothesis import strategies as st

from fastslow.config import PolicyConfig, SlowConfig
from fastslow.seeding import derive_seed
from fastslow.types import Completion, Context, Demonstration, Problem, Rollout, Verdict

PROBLEMS = [Problem(f"p{i}", f"{i}+{i}?", reference=str(2 * i)) for i in range(4)]
CONTEXTS = [Context(f"Version {i}.") for i in range(4)]
SHOWING = Context("", (Demonstration("0+0?", "0"),))


# --- spread -----------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 9))
def test_rollouts_are_spread_evenly(contexts: int, count: int, turn: int) -> None:
    chosen = spread(PROBLEMS[0], CONTEXTS[:contexts], count, turn)
    assert len(chosen) == count
    shares = Counter(context.digest for context in chosen)
    each = [shares[context.digest] for context in CONTEXTS[:contexts]]
    assert max(each) - min(each) <= 1


def test_what_does_not_divide_goes_to_every_context_in_turn() -> None:
    totals = Counter(c.digest for turn in range(4) for c in spread(PROBLEMS[0], CONTEXTS, 5, turn))
    assert set(totals.values()) == {5}
    assert [spread(PROBLEMS[0], CONTEXTS, 1, turn) for turn in range(4)] == [[c] for c in CONTEXTS]


def test_a_context_that_shows_the_problem_is_passed_over() -> None:
    contexts = [CONTEXTS[0], SHOWING, CONTEXTS[1]]
    assert Counter(spread(PROBLEMS[0], contexts, 4, 1)) == {CONTEXTS[0]: 2, CONTEXTS[1]: 2}
    assert SHOWING in spread(PROBLEMS[1], contexts, 4, 1)
    assert spread(PROBLEMS[0], [SHOWING], 4, 0) == []


# --- plan_rollouts and group_by_problem ---------------------------------------------------------


def rollout(problem: Problem, context: Context, text: str = "") -> Rollout:
    completion = Completion((1,), (2,), (-1.0,), text, True, 0)
    return Rollout(problem.id, context.digest, completion, Verdict(0.0))


PAIRS = [(problem, context) for problem in PROBLEMS for context in CONTEXTS]


@given(st.sets(st.sampled_from(range(len(PAIRS)))), st.integers(1, 9), st.integers(1, 4))
def test_every_problem_gets_its_rollouts_and_a_reused_one_takes_one_place(
    reusable: set[int], count: int, contexts: int
) -> None:
    known = {(p.id, c.digest): rollout(p, c) for p, c in (PAIRS[i] for i in reusable)}
    reused, asks = plan_rollouts(PROBLEMS, CONTEXTS[:contexts], count, known, derive_seed)
    assert len({(r.problem_id, r.context) for r in reused}) == len(reused)
    places = Counter((r.problem_id, r.context) for r in reused)
    places += Counter((ask.problem.id, ask.context.digest) for ask in asks)
    expected = Counter(
        (problem.id, context.digest)
        for turn, problem in enumerate(PROBLEMS)
        for context in spread(problem, CONTEXTS[:contexts], count, turn)
    )
    assert places == expected
    assert {(r.problem_id, r.context) for r in reused} == set(known) & set(expected)
    assert len({ask.seed for ask in asks}) == len(asks), "no two rollouts are the same"


def test_what_is_reused_does_not_change_the_seeds_of_the_others() -> None:
    known = {(PROBLEMS[0].id, CONTEXTS[1].digest): rollout(PROBLEMS[0], CONTEXTS[1])}
    _, all_asks = plan_rollouts(PROBLEMS, CONTEXTS, 8, {}, derive_seed)
    _, fewer = plan_rollouts(PROBLEMS, CONTEXTS, 8, known, derive_seed)
    assert len(fewer) == len(all_asks) - 1
    assert [ask for ask in all_asks if ask in fewer] == fewer


def test_a_problem_that_every_context_shows_is_not_asked() -> None:
    reused, asks = plan_rollouts(PROBLEMS[:2], [SHOWING], 3, {}, derive_seed)
    assert not reused
    assert [ask.problem for ask in asks] == [PROBLEMS[1]] * 3


def test_groups_hold_a_problem_s_rollouts_of_all_contexts() -> None:
    rollouts = [rollout(p, c, f"{p.id} {c.instructions}") for c in CONTEXTS for p in PROBLEMS[:2]]
    groups = group_by_problem(PROBLEMS[:3], rollouts)
    assert [group.problem for group in groups] == PROBLEMS[:3]
    assert groups[0].rollouts == tuple(rollouts[::2])
    assert groups[1].rollouts == tuple(rollouts[1::2])
    assert groups[2].rollouts == ()


# --- sample_rollouts --------------------------------------------------------------------------


class Echo:
    """A policy whose completions say what they were asked and with which seed."""

    window, max_tokens, version = 60, 10, 3

    def __init__(self) -> None:
        self.requests: list[SampleRequest] = []

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        return tuple(f"{context.instructions}|{question}".encode())

    def sample(
        self, requests: Sequence[SampleRequest], *, on_finished: Callable[[int], None]
    ) -> list[list[Completion]]:
        self.requests += requests
        on_finished(sum(len(request.seeds) for request in requests))
        return [
            [
                Completion(
                    request.prompt_ids,
                    (1,),
                    (-1.0,),
                    f"{bytes(request.prompt_ids).decode()}#{seed}",
                    True,
                    0,
                )
                for seed in request.seeds
            ]
            for request in requests
        ]


def grade(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    return [
        Verdict(float(problem.question in completion), f"{problem.id}: {completion}")
        for problem, completion in pairs
    ]


def rolled_out(policy: Echo, asks: list[Ask], **options: Callable[[int], None]) -> list[str]:
    rollouts = sample_rollouts(cast(Policy, policy), grade, asks, **options)
    for ask, rollout in zip(asks, rollouts, strict=True):
        assert rollout.problem_id == ask.problem.id
        assert rollout.context == ask.context.digest
        assert [rollout.verdict] == grade([(ask.problem, rollout.completion.text)])
        assert rollout.reward == 1.0
    return [rollout.completion.text for rollout in rollouts]


def test_each_ask_has_its_rollout_in_order() -> None:
    asks = [Ask(PROBLEMS[place % 3], CONTEXTS[place % 2], seed=100 + place) for place in range(12)]
    told: list[int] = []
    assert rolled_out(Echo(), asks, on_finished=told.append) == [
        f"Version {place % 2}.|{asks[place].problem.question}#{100 + place}" for place in range(12)
    ]
    assert sum(told) == 12


def test_asks_of_one_problem_under_one_context_share_a_prompt() -> None:
    policy = Echo()
    asks = [
        Ask(PROBLEMS[p], CONTEXTS[c], seed) for seed in range(3) for p in (0, 1) for c in (0, 1)
    ]
    rolled_out(policy, asks)
    assert [request.seeds for request in policy.requests] == [(0, 1, 2)] * 4


def test_nothing_asked_is_nothing_sampled() -> None:
    assert rolled_out(Echo(), []) == []


def test_nobody_is_asked_what_stands_in_their_context() -> None:
    policy = Echo()
    asks = [Ask(PROBLEMS[1], CONTEXTS[0], 0), Ask(PROBLEMS[0], SHOWING, 1)]
    with pytest.raises(ValueError, match=f"context {SHOWING.digest} shows problem 'p0'"):
        sample_rollouts(cast(Policy, policy), grade, asks)
    assert not policy.requests


def test_a_prompt_beyond_the_window_alone_is_not_sampled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = Echo()
    fits, long = Problem("fits", "x" * 39), Problem("long", "x" * 40)
    asks = [Ask(fits, CONTEXTS[0], 0), Ask(long, CONTEXTS[0], 1), Ask(fits, CONTEXTS[0], 2)]
    first, second, third = sample_rollouts(cast(Policy, policy), grade, asks)
    assert [request.seeds for request in policy.requests] == [(0, 2)]
    assert first.is_sampled
    assert third.is_sampled
    assert not second.is_sampled
    assert (second.problem_id, second.context, second.reward) == ("long", CONTEXTS[0].digest, 0.0)
    message = (
        f"problem 'long' is left out: it makes a prompt of 51 tokens under context "
        f"{CONTEXTS[0].digest}, which with policy.max_tokens, 10, is more than the model's window "
        "of 60"
    )
    assert message in second.verdict.feedback
    assert message in caplog.text
    assert left_out([first, second, third]) == {"long"}


def test_only_prompts_beyond_the_window_are_no_reason_to_sample() -> None:
    policy = Echo()
    asks = [Ask(Problem("long", "x" * 40), CONTEXTS[0], 1)]
    (only,) = sample_rollouts(cast(Policy, policy), grade, asks)
    assert not only.is_sampled
    assert not policy.requests


def test_rollouts_of_a_real_policy_do_not_depend_on_each_other(tiny_model_dir: Path) -> None:
    from fastslow.models import load_model
    from fastslow.policy.local import LocalPolicy

    model, tokenizer = load_model(str(tiny_model_dir))
    settings = PolicyConfig(max_tokens=6, rows=3)
    policy = LocalPolicy(model, tokenizer, settings, SlowConfig(), trainable=False)
    asks = [Ask(problem, context, 7) for problem in PROBLEMS for context in CONTEXTS[:2]]
    asks += [Ask(PROBLEMS[0], CONTEXTS[0], 8)]
    together = sample_rollouts(policy, grade, asks)
    turned = sample_rollouts(policy, grade, asks[::-1])[::-1]
    alone = [sample_rollouts(policy, grade, [ask])[0] for ask in asks]
    for other in (turned, alone):
        assert [r.completion.token_ids for r in other] == [r.completion.token_ids for r in together]
        for found, expected in zip(other, together, strict=True):
            assert found.completion.logprobs == pytest.approx(expected.completion.logprobs)
