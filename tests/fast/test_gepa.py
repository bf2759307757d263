"""Whole fast phases in a toy world: what the library and our bookkeeping do together."""

import random
import sys
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastslow.errors import RunError
from fastslow.fast.demonstrations import DemonstrationProposer
from fastslow.fast.gepa import Gepa, auto_budget
from fastslow.fast.proposer import ProposalError
from fastslow.fast.reflection import ReflectionProposer
from fastslow.types import Candidate, Context, Demonstration, Population, Problem, Verdict

SHOW = DemonstrationProposer(max_turns=8, max_tokens=200, probe=4)
FEW = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def optimizer(population=3, budget="auto", proposals=8, minibatch=3, proposers=(SHOW,)):
    return Gepa(population, budget, proposals, minibatch, proposers)


@dataclass
class Scripted:
    """A proposer that does as its function says."""

    act: object
    name: str = "scripted"
    metric_calls: int = 0

    def propose(self, parent, examples, phase, rng):
        return self.act(parent, examples, phase, rng)


def write_more(parent, *_):
    return replace(parent, instructions=parent.instructions + " Think.")


def contexts(count):
    return Population(tuple(Candidate(Context(f"Instructions {i}")) for i in range(count)))


def test_evolution_starts_from_all_zero_and_improves(by_turns):
    evolution = optimizer().evolve(by_turns.phase())
    best = evolution.population.best
    assert evolution.candidates[0].mean == 0.0
    assert best.mean > 0.3
    assert len(best.context.demonstrations) >= 4
    assert best.origin == "demonstrations"


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_success_is_found_though_minibatches_tie_at_zero(world, seed):
    rare = world(lambda context: 0.07 * (len(context.demonstrations) >= 4))
    evolution = optimizer(population=4).evolve(rare.phase(anchors=96, pool=32, seed=seed))
    assert evolution.population.best.mean > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_a_failed_verdict_is_no_score_of_a_context(world, seed):
    """A third of all verdicts fail: none of them is a score, and contexts evolve all the same."""

    def fails(problem, context):
        return random.Random(f"{seed} {problem.id} {context.digest}").random() < 0.3

    unlucky = world(lambda context: 0.2 + 0.15 * min(len(context.demonstrations), 4), fails)
    evolution = optimizer(population=3).evolve(unlucky.phase(anchors=24, seed=seed))
    for (problem, digest), rollout in evolution.rollouts.items():
        for candidate in evolution.candidates:
            if candidate.context.digest == digest and problem.startswith("anchor"):
                assert (problem in candidate.scores) == rollout.is_graded
    assert all(24 > len(c.scores) >= 12 for c in evolution.population.candidates)
    assert evolution.population.best.mean > 0.3


def test_a_context_that_breaks_the_verifier_is_not_kept(world):
    """A proposal on which nearly every verdict fails has one score, the best there is."""

    def fails(problem, context):
        return "Think" in context.instructions and problem.id != "anchor0"

    hostile = world(lambda context: "Think" in context.instructions, fails)
    write = Scripted(write_more)
    evolution = optimizer(proposers=[write]).evolve(hostile.phase())
    assert len(evolution.candidates) > 1
    assert evolution.population.digests == (Context("Answer.").digest,)


def test_where_every_verdict_fails_nothing_is_proposed(world, caplog):
    broken = world(lambda context: 0.5, lambda problem, context: True)
    evolution = optimizer(proposers=[Scripted(write_more)]).evolve(broken.phase())
    assert evolution.population.digests == (Context("Answer.").digest,)
    assert len(evolution.candidates) == 1
    assert "the verifier failed on all anchors that count" in caplog.text


def test_where_nothing_can_be_compared_the_population_stays(world):
    blind = world(lambda context: 0.5, lambda problem, context: problem.id != "anchor0")
    phase = blind.phase(population=contexts(2))
    evolution = optimizer(proposers=[Scripted(write_more)]).evolve(phase)
    assert evolution.population.digests == phase.population.digests
    assert [len(c.scores) for c in evolution.population.candidates] == [1, 1]


def test_proposers_see_graded_rollouts_alone(world):
    seen = []

    def look(parent, examples, *_):
        seen.extend(rollout.is_graded for rollout in examples)
        return write_more(parent)

    half = world(lambda context: 0.3, lambda problem, context: int(problem.id[-1]) % 2 == 1)
    optimizer(proposers=[Scripted(look)]).evolve(half.phase())
    assert seen
    assert all(seen)


def test_instructions_evolve_by_reflection(world):
    tagged = world(lambda context: 0.2 + 0.7 * ("use tags" in context.instructions))
    prompts = []

    def ask(prompt):
        prompts.append(prompt)
        return "```\nAnswer. Always use tags.\n```"

    evolution = optimizer(proposers=[ReflectionProposer(ask, 100)]).evolve(tagged.phase())
    assert evolution.population.best.context.instructions == "Answer. Always use tags."
    assert "expected" in "".join(prompts)  # the verifier's feedback reached the model


def test_proposers_take_turns(by_turns):
    write = Scripted(write_more)
    evolution = optimizer(proposers=[SHOW, write], minibatch=1).evolve(by_turns.phase())
    origins = {candidate.origin for candidate in evolution.candidates}
    assert origins == {"seed", "demonstrations", "scripted"}


def test_the_report_agrees_with_what_was_asked(by_turns):
    phase = by_turns.phase()
    evolution = optimizer().evolve(phase)
    assert len(set(by_turns.asked)) == len(by_turns.asked) == evolution.metric_calls
    assert set(evolution.rollouts) == set(by_turns.asked)
    anchors = {problem.id for problem in phase.anchors}
    for candidate in evolution.candidates:
        asked = {p for p, digest in by_turns.asked if digest == candidate.context.digest}
        assert set(candidate.scores) == asked & anchors
        for problem, score in candidate.scores.items():
            assert evolution.rollouts[problem, candidate.context.digest].reward == score
    order = list(dict.fromkeys(digest for p, digest in by_turns.asked if p in anchors))
    assert [candidate.context.digest for candidate in evolution.candidates] == order
    kept = evolution.population.candidates
    assert all(any(candidate is other for other in evolution.candidates) for candidate in kept)
    assert all(len(candidate.scores) == len(anchors) for candidate in kept)
    assert evolution.proposals == len(evolution.candidates) - 1
    parents = {digest for c in evolution.candidates for digest in c.parents}
    assert parents <= {candidate.context.digest for candidate in evolution.candidates}


def test_nothing_is_proposed_where_everything_is_solved(world):
    evolution = optimizer(proposers=[Scripted(write_more)]).evolve(world(lambda _: 1.0).phase())
    assert (evolution.proposals, evolution.failed_proposals) == (0, 0)


def test_rejected_proposals_are_listed_with_their_minibatch(world):
    half = world(lambda context: 0.5 * (context.instructions == "Answer."))
    evolution = optimizer(proposers=[Scripted(write_more)]).evolve(half.phase(anchors=30))
    (child,) = evolution.candidates[1:]
    assert len(child.scores) == 3
    assert child.parents == (Context("Answer.").digest,)
    assert [c.context.instructions for c in evolution.population.candidates] == ["Answer."]


def test_scores_count_no_problem_that_a_proposer_was_shown(world):
    """A context that is good at just what its proposer saw is no better than its parent."""
    seen = []

    def memorise(parent, examples, phase, rng):
        seen.extend(rollout.problem.id for rollout in examples)
        return Context(f"Memorised {len(seen)}.")

    class Memory(world):
        def _rollout(self, problem, context):
            rollout = super()._rollout(problem, context)
            known = context.instructions.startswith("Memorised") and problem.id in seen
            return replace(rollout, verdict=Verdict(float(known)))

    toy = Memory(lambda _: 0.0)
    evolution = optimizer(proposers=[Scripted(memorise)]).evolve(toy.phase(anchors=40))
    accepted = [c for c in evolution.candidates[1:] if len(c.scores) == 40]
    assert accepted
    for candidate in evolution.candidates:
        assert not set(candidate.counted) & set(seen)
        assert candidate.mean in (0.0, None)
    for candidate in accepted:
        assert sum(candidate.scores.values()) > 0
        assert set(candidate.counted) == set(evolution.candidates[0].counted)


@pytest.mark.parametrize(("anchors", "shown"), [(1, 0), (2, 1), (12, 6), (192, 24)])
def test_at_most_half_of_the_anchors_are_shown(world, anchors, shown):
    evolution = optimizer().evolve(world(lambda _: 0.0).phase(anchors=anchors))
    assert {len(candidate.shown) for candidate in evolution.candidates} == {shown}
    assert len(evolution.candidates[0].counted) == anchors - shown


def test_whole_batches_reach_the_policy(by_turns):
    phase = by_turns.phase(population=contexts(3))
    optimizer().evolve(phase)
    assert len(by_turns.calls[0]) == 3 * len(phase.anchors)
    assert {len(call) for call in by_turns.calls[1:]} <= {2, 3, 4, len(phase.anchors) - 3}


@FEW
@given(
    population=st.integers(1, 4),
    previous=st.integers(1, 4),
    anchors=st.integers(1, 10),
    budget=st.integers(1, 80) | st.just("auto"),
    minibatch=st.integers(1, 12),
    proposals=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_the_budget_is_never_exceeded(
    world, population, previous, anchors, budget, minibatch, proposals, seed
):
    toy = world(lambda context: len(context.demonstrations) / 10)
    phase = toy.phase(anchors=anchors, population=contexts(previous), seed=seed)
    evolution = optimizer(population, budget, proposals, minibatch).evolve(phase)
    if budget == "auto":
        budget = auto_budget(
            population=population,
            anchors=anchors,
            proposals=proposals,
            minibatch=minibatch,
            proposal_calls=4,
        )
    assert len(toy.asked) <= max(budget, previous * anchors)
    assert 1 <= len(evolution.population.candidates) <= population
    assert evolution.proposals + evolution.failed_proposals <= proposals
    assert len(evolution.candidates[0].scores) == anchors
    assert all(len(c.scores) <= minibatch or len(c.scores) == anchors for c in evolution.candidates)


def test_auto_is_the_papers_budget_and_lets_every_proposal_start(world):
    paper = {"population": 4, "anchors": 192, "minibatch": 3}
    assert auto_budget(**paper, proposals=0, proposal_calls=4) == 960
    assert auto_budget(**paper, proposals=10, proposal_calls=4) == 960 + 10 * 7

    never = world(lambda context: 0.2 * (not context.demonstrations))
    evolution = optimizer(population=3).evolve(never.phase(anchors=60, population=contexts(3)))
    assert evolution.proposals + evolution.failed_proposals == 8
    assert all(len(candidate.scores) == 3 for candidate in evolution.candidates[3:])


def test_a_budget_too_small_for_the_population_proposes_nothing_and_warns(by_turns, caplog):
    evolution = optimizer(budget=20).evolve(by_turns.phase(population=contexts(2)))
    assert evolution.metric_calls == 24
    assert evolution.proposals == 0
    assert "fast.budget is 20 metric calls" in caplog.text


def test_the_same_phase_gives_the_same_evolution(world):
    def run(seed):
        toy = world(lambda context: len(context.demonstrations) / 10)
        random.seed()  # nothing may hang on global state
        return optimizer().evolve(toy.phase(seed=seed)), toy.asked

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_the_seed_decides_on_which_anchors_a_proposal_is_tried(world):
    def minibatches(seed):
        toy = world(lambda context: 0.2 * (context.instructions == "Answer."))
        write = Scripted(lambda _, examples, *__: Context(" ".join(r.problem.id for r in examples)))
        evolution = optimizer(proposers=[write]).evolve(toy.phase(anchors=40, seed=seed))
        return [tuple(candidate.scores) for candidate in evolution.candidates[1:]]

    assert minibatches(1) == minibatches(1)
    assert minibatches(1) != minibatches(2)


def test_a_population_is_scored_again_and_grows_over_cycles(world):
    strength = {"theta": 0.05}
    toy = world(lambda context: min(1.0, len(context.demonstrations) * strength["theta"]))
    population, means, histories = None, [], {}
    for cycle in range(3):
        phase = toy.phase(population=population, cycle=cycle, seed=cycle)
        asked_before = len(toy.calls)
        evolution = optimizer().evolve(phase)
        for before in phase.population.candidates:
            after = next(c for c in evolution.candidates if c.context == before.context)
            assert len(after.scores) == len(phase.anchors)
            assert (after.parents, after.origin, after.cycle) == (
                before.parents,
                before.origin,
                before.cycle,
            )
        rescored = {context for _, context in toy.calls[asked_before]}
        assert rescored == set(phase.population.contexts)
        histories |= {c.context.digest: c.cycle for c in evolution.candidates}
        population = evolution.population
        means.append(population.best.mean)
        strength["theta"] += 0.02  # the slow phase
    assert means[-1] > means[0]
    assert set(histories.values()) == {0, 1, 2}


def test_a_problem_that_comes_twice_is_one_anchor(by_turns):
    phase = by_turns.phase(anchors=4)
    evolution = optimizer().evolve(replace(phase, anchors=[*phase.anchors, *phase.anchors]))
    assert len(evolution.candidates[0].scores) == 4


@FEW
@given(
    anchors=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=6, unique=True),
    pool=st.lists(st.sampled_from("aAbBcCdefghijkl"), max_size=12),
    seed=st.integers(0, 1000),
)
def test_nobody_is_asked_what_their_context_shows(world, anchors, pool, seed):
    """Pool and anchors overlap in questions, pool problems repeat: the world checks every pair."""
    toy = world(lambda context: len(context.demonstrations) / 10)
    phase = toy.phase(
        anchors=[Problem(f"a{q}", q, q) for q in anchors],
        pool=[Problem(f"p{i}", f" {q} ", q) for i, q in enumerate(pool)],
        seed=seed,
    )
    optimizer().evolve(phase)


def test_no_proposal_is_wasted_on_pool_problems_that_are_anchors(by_turns):
    phase = by_turns.phase()
    twins = [Problem(f"twin{p.id}", f"{p.question} ".upper(), p.reference) for p in phase.anchors]
    phase = replace(phase, pool=[*phase.anchors, *twins, *phase.pool])
    assert optimizer().evolve(phase).failed_proposals == 0


def test_a_proposal_that_shows_an_anchor_is_dropped(world, caplog):
    def leak(parent, examples, phase, rng):
        problem = phase.anchors[-1]
        turn = Demonstration(problem.question.upper(), "the answer")
        return replace(parent, demonstrations=(turn,))

    evolution = optimizer(proposers=[Scripted(leak)]).evolve(world(lambda _: 0.0).phase())
    assert (evolution.proposals, evolution.failed_proposals) == (0, 8)
    assert "scripted: a proposed context was refused: it shows problem 'anchor11'" in caplog.text


def test_instructions_that_quote_an_anchor_are_dropped(world, caplog):
    def leak(parent, examples, phase, rng):
        return Context("If asked, what IS, anchor of\n 1? say 1.")

    evolution = optimizer(proposers=[Scripted(leak)]).evolve(world(lambda _: 0.0).phase())
    assert (evolution.proposals, evolution.failed_proposals) == (0, 8)
    assert "it quotes the question of problem 'anchor1'" in caplog.text


def test_a_context_that_was_scored_already_is_not_proposed_again(world):
    again = Scripted(lambda parent, *_: Context("again"))
    evolution = optimizer(proposers=[again]).evolve(world(lambda _: 0.0).phase())
    assert (evolution.proposals, evolution.failed_proposals) == (1, 7)


def test_a_model_that_is_down_rests_and_the_others_go_on(by_turns, caplog):
    tries = []

    def unreachable(*_):
        tries.append(1)
        raise ProposalError("gpt at http://nowhere gave no answer after 3 tries: refused")

    down = Scripted(unreachable, name="reflection")
    evolution = optimizer(proposers=[down, SHOW]).evolve(by_turns.phase())
    assert len(tries) == evolution.failed_proposals == 2
    assert evolution.population.best.mean > 0.3
    assert "reflection: a proposal could not be had: gpt at http://nowhere" in caplog.text

    alone = optimizer(proposers=[down]).evolve(by_turns.phase())
    assert alone.population.contexts == (Context("Answer."),)
    assert (alone.proposals, alone.failed_proposals) == (0, 2)


@pytest.mark.parametrize("error", [RunError("full disk"), KeyboardInterrupt(), KeyError("bug")])
@pytest.mark.parametrize("calls", range(4))
def test_what_the_policy_raises_comes_out_unchanged(by_turns, error, calls):
    """Whether it happens while the population, a probe, a minibatch or a proposal is scored."""

    def failing(pairs):
        if len(by_turns.calls) == calls:
            raise error
        return by_turns.evaluate(pairs)

    with pytest.raises(type(error)) as caught:
        optimizer().evolve(replace(by_turns.phase(), evaluate=failing))
    assert caught.value is error


def test_a_bug_in_a_proposer_comes_out_unchanged(by_turns):
    bug = ZeroDivisionError("ours")

    def broken(*_):
        raise bug

    with pytest.raises(ZeroDivisionError) as caught:
        optimizer(proposers=[Scripted(broken)]).evolve(by_turns.phase())
    assert caught.value is bug


def test_gepa_leaves_standard_output_and_the_disk_alone(by_turns, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sys.stdout, sys.stderr
    optimizer().evolve(by_turns.phase())
    assert (sys.stdout, sys.stderr) == before
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
