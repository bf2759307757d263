import random
from dataclasses import replace

import pytest

from fastslow.fast.demonstrations import DemonstrationProposer
from fastslow.types import Context, Demonstration, Problem


def proposer(max_turns=8, max_tokens=1000, probe=4):
    return DemonstrationProposer(max_turns, max_tokens, probe)


def many(phase, parent, maker, minibatch=3):
    """What 60 seeds propose for one parent."""
    examples = phase.evaluate([(p, parent) for p in phase.anchors[:minibatch]])
    return [maker.propose(parent, examples, phase, random.Random(seed)) for seed in range(60)]


def with_turns(count):
    return Context("Answer.", tuple(Demonstration(f"q{i}", f"a{i}") for i in range(count)))


def test_a_parent_that_scores_nothing_gets_many_turns_at_once(by_turns):
    children = many(by_turns.phase(), Context("Answer."), proposer())
    assert {len(child.demonstrations) for child in children} == {4, 8}
    assert {child.instructions for child in children} == {"Answer."}


def test_a_parent_that_scores_changes_by_steps_of_any_size(world):
    hard = world(lambda _: 0.2)
    children = many(hard.phase(pool=64), with_turns(4), proposer(probe=1), minibatch=12)
    sizes = {len(child.demonstrations) for child in children}
    assert sizes == {3, 4, 5, 6, 8}  # dropped one, swapped, or added 1, 2 or 4
    swapped = [child for child in children if len(child.demonstrations) == 4]
    kept = {len(set(child.demonstrations) & set(with_turns(4).demonstrations)) for child in swapped}
    assert kept == {0, 2, 3}


def test_turns_are_made_of_failed_pool_problems_and_their_reference_answers(world):
    toy = world(lambda _: 0.5)
    phase = toy.phase()
    parent = Context("Answer.")
    solved = {r.problem.id for r in toy.evaluate([(p, parent) for p in phase.pool]) if r.reward}
    by_id = {problem.id: problem for problem in phase.pool}
    children = [child for child in many(phase, parent, proposer()) if child is not None]
    assert children
    for turn in (turn for child in children for turn in child.demonstrations):
        problem = by_id[turn.problem_id]
        assert turn.question == problem.question
        assert turn.answer == phase.demonstrate(problem)
        assert problem.id not in solved


@pytest.mark.parametrize("max_tokens", [0, 7, 20, 33])
def test_the_token_budget_holds(by_turns, max_tokens):
    phase = by_turns.phase()
    for child in many(phase, Context(), proposer(max_tokens=max_tokens)):
        words = " ".join(f"{d.question} {d.answer}" for d in child.demonstrations).split()
        assert len(words) <= max_tokens
        assert len(child.demonstrations) == min(len(child.demonstrations), max_tokens // 6)


def test_the_number_of_turns_holds_and_no_problem_is_shown_twice(world):
    phase = world(lambda _: 0.0).phase()
    twins = [*phase.pool, *(Problem(f"twin{p.id}", p.question.upper(), 0) for p in phase.pool)]
    for parent in (Context(), with_turns(3), with_turns(5)):
        for child in many(replace(phase, pool=twins), parent, proposer(max_turns=5)):
            questions = [d.question.casefold() for d in child.demonstrations]
            assert len(questions) <= 5
            assert len(set(questions)) == len(questions)


def test_the_parent_is_never_probed_on_what_it_shows(by_turns):
    phase = by_turns.phase(pool=4)
    turns = tuple(
        Demonstration(problem.question, str(problem.reference), problem.id)
        for problem in phase.pool[:3]
    )
    many(phase, Context("Answer.", turns), proposer())  # the world checks every pair


def test_nothing_can_be_proposed_where_nothing_fails_or_nothing_can_be_shown(world):
    solved = world(lambda _: 1.0).phase()
    assert set(many(solved, Context(), proposer())) == {None}
    failed = world(lambda _: 0.0)
    mute = replace(failed.phase(), demonstrate=lambda problem: None)
    assert set(many(mute, Context(), proposer())) == {None}
    assert len(failed.asked) == 3  # the minibatch: no probe is paid for in vain


def test_a_proposal_costs_no_more_than_it_says(world):
    toy = world(lambda _: 0.5)
    for seed in range(20):
        toy.calls.clear()
        proposer(probe=3).propose(with_turns(2), [], toy.phase(), random.Random(seed))
        assert len(toy.asked) <= proposer(probe=3).metric_calls == 3
