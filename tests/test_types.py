"""The vocabulary: identity of contexts, who shows what, what is refused."""

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.testing import rollout, turn
from fastslow.types import (
    Candidate,
    Context,
    Demonstration,
    Failure,
    FeedbackError,
    Group,
    Population,
    Problem,
    Verdict,
    normalise_question,
)

CONTEXT = Context("Be brief.", (Demonstration("1+1?", "2", "p1"), Demonstration("Füße?", "ja")))


# --- contexts ---------------------------------------------------------------------------------


def test_digests_are_the_same_in_every_run_and_release() -> None:
    """Run folders name contexts by these: a change makes every earlier run unreadable."""
    assert Context().digest == "aa5598c670c7f9c9"
    assert CONTEXT.digest == "d77bfd2bf13341fa"


def test_digests_do_not_depend_on_the_process() -> None:
    code = "from fastslow.types import Context; print(Context('Be brief.').digest)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == Context("Be brief.").digest


def test_what_reads_the_same_has_the_same_digest() -> None:
    other = Context("Be brief.", (Demonstration("1+1?", "2", "p9"), Demonstration("Füße?", "ja")))
    assert other.digest == CONTEXT.digest


TURNS = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=3)


@given(st.text(max_size=4), TURNS, st.text(max_size=4), TURNS)
def test_what_reads_differently_has_another_digest(
    first: str, turns: list[tuple[str, str]], second: str, others: list[tuple[str, str]]
) -> None:
    a = Context(first, tuple(Demonstration(*turn) for turn in turns))
    b = Context(second, tuple(Demonstration(*turn) for turn in others))
    assert (a.digest == b.digest) == ((first, turns) == (second, others))


def test_any_text_has_a_digest() -> None:
    assert (
        len(Context("\ud800 lone surrogate", (Demonstration("\x00", "\U0001f600"),)).digest) == 16
    )


def test_a_context_is_read_as_chat_turns() -> None:
    assert CONTEXT.messages("2+2?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Füße?"},
        {"role": "assistant", "content": "ja"},
        {"role": "user", "content": "2+2?"},
    ]
    assert Context().messages("2+2?") == [{"role": "user", "content": "2+2?"}]


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (Problem("p1", "another wording"), True),
        (Problem("p7", "1+1?"), True),
        (Problem("p7", "  1+1? \n"), True),
        (Problem("p7", "FÜSSE?"), True),  # not only lower case: ß and SS are the same letters
        (Problem("p7", "2+2?"), False),
        (Problem("p", "1+1"), False),
    ],
)
def test_a_context_shows_a_problem_by_its_id_or_its_question(problem: Problem, shown: bool) -> None:
    assert CONTEXT.shows(problem) is shown


def test_a_demonstration_of_no_problem_shows_no_id() -> None:
    assert not Context("", (Demonstration("a", "b"),)).shows(Problem("None", "c"))


def test_questions_are_compared_without_case_and_white_space() -> None:
    assert normalise_question("  What\tis\n THIS? ") == "what is this?"
    assert normalise_question("a b") != normalise_question("ab")


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("score", [0, 0.0, 0.5, 1.0])
def test_scores_lie_between_zero_and_one(score: float) -> None:
    assert Verdict(score).score == score


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf])
def test_other_scores_are_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"a verdict's score lies in \[0, 1\]; found"):
        Verdict(score)


@pytest.mark.parametrize("score", [None, "1.0", b"1", 1j, [1.0], (1.0, "x"), object()])
def test_a_score_is_a_number(score: Any) -> None:
    with pytest.raises(TypeError, match="a verdict's score is a number"):
        Verdict(score)


@pytest.mark.parametrize("feedback", [None, 5, b"x", ["x"]])
def test_feedback_is_text(feedback: Any) -> None:
    with pytest.raises(FeedbackError, match="a verdict's feedback is text; found"):
        Verdict(1.0, feedback)


def test_a_failure_is_no_score() -> None:
    failed = replace(rollout("a"), verdict=Failure("it raised ValueError: no"))
    assert not failed.is_graded
    assert rollout("a").is_graded
    for read in (lambda: failed.reward, lambda: failed.feedback):
        with pytest.raises(ValueError, match="problem a under context c was not graded"):
            read()
    with pytest.raises(ValueError, match="holds graded rollouts only"):
        Group(Problem("a", "?"), (rollout("a"), failed))


def test_a_population_holds_each_context_once() -> None:
    with pytest.raises(ValueError, match="at least one context"):
        Population(())
    twice = (Candidate(Context("a")), Candidate(Context("a"), origin="reflection"))
    with pytest.raises(ValueError, match="holds each context once"):
        Population(twice)


def test_the_best_of_a_population_comes_first() -> None:
    first, second = Candidate(Context("a")), Candidate(Context("b"))
    population = Population((first, second))
    assert population.best is first
    assert population.contexts == (first.context, second.context)
    assert population.digests == (first.context.digest, second.context.digest)


def test_the_mean_of_a_candidate() -> None:
    assert Candidate(Context(), scores={"a": 1.0, "b": 0.0, "c": 0.5}).mean == 0.5
    assert Candidate(Context(), scores={"a": 0.0}).mean == 0.0
    assert Candidate(Context()).mean is None


def test_a_rollout_of_several_turns() -> None:
    first = turn("look up", read=(1, 2), sampled=(3, 4), logprobs=(-0.1, -0.2))
    second = turn("42", read=(5,), sampled=(6,), logprobs=(-0.3,), finished=False)
    whole = rollout(Problem("a", "?"), "c", 0.5, first, second, version=3)
    assert whole.prompt == (1, 2)
    assert whole.sampled == (3, 4, 6)
    assert whole.logprobs == (-0.1, -0.2, -0.3)
    assert whole.sequence == ([1, 2, 3, 4, 5, 6], [2, 3, 5])
    assert whole.sequence.targets == [3, 4, 6]
    assert whole.text == "look up\n42"
    assert not whole.finished
    assert whole.key == ("a", "c")
    assert whole.label == "problem a under context c"
    assert whole.is_sampled


def test_a_group_holds_one_problem() -> None:
    problem = Problem("a", "?")
    assert Group(problem, (rollout(problem, "c", 1.0), rollout(problem, "c", 0.5))).rewards == (
        1.0,
        0.5,
    )
    with pytest.raises(ValueError, match=r"a group holds one problem, 'a'; found \{'b'\}"):
        Group(problem, (rollout("a"), rollout("b")))
