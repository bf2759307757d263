"""Fast learners other than GEPA: what each keeps, what it spends, and how it is plugged in."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fastslow.config import FastConfig
from fastslow.errors import InputError
from fastslow.fast.base import FastLearner, Tools
from fastslow.fast.playbook import Lesson, edit, read, written
from fastslow.fast.registry import LEARNERS, create
from fastslow.types import Candidate, Context, Demonstration, Population, Problem


def learner(
    algorithm: str, ask: Callable[[str], str] | None = None, **options: object
) -> FastLearner:
    config = FastConfig(algorithm=algorithm, population=2, **{algorithm: options})
    return create(config, Tools(config, ask))


def test_the_built_in_ones_are_named() -> None:
    assert {"gepa", "bootstrap", "opro", "playbook", "frozen"} <= set(LEARNERS.names)


@pytest.mark.parametrize("name", ["bootstrp", "cispo"])
def test_an_unknown_one_is_refused(name: str) -> None:
    config = FastConfig(algorithm=name)
    with pytest.raises(InputError, match=rf"fast\.algorithm: there is no '{name}'.*bootstrap"):
        create(config, Tools(config))


def test_a_table_of_an_unknown_learner_is_refused() -> None:
    config = FastConfig(bootstrp={"sets": 3})
    with pytest.raises(InputError, match=r"\[fast\.bootstrp\]"):
        create(config, Tools(config))


# Bootstrap.


def test_bootstrap_finds_demonstrations_where_the_seed_context_never_scores(by_turns) -> None:
    phase = by_turns.phase(anchors=24, pool=32)
    found = learner("bootstrap").evolve(phase)
    best = found.population.best
    assert len(best.context.demonstrations) >= 4
    assert best.mean is not None
    assert best.mean > 0.2
    assert {c.origin for c in found.candidates} == {"seed", "bootstrap"}


@pytest.mark.parametrize(
    ("anchors", "sets", "first"), [(24, 16, 4), (5, 3, 2), (1, 8, 4), (7, 1, 7)]
)
def test_bootstrap_spends_no_more_than_it_says(
    by_turns, anchors: int, sets: int, first: int
) -> None:
    racing = learner("bootstrap", sets=sets, first=first)
    found = racing.evolve(by_turns.phase(anchors=anchors, pool=32))
    assert found.metric_calls == len(by_turns.asked) == len(set(by_turns.asked))
    assert found.metric_calls <= racing.max_calls(anchors)


def test_bootstrap_asks_the_whole_round_in_one_batch(by_turns) -> None:
    learner("bootstrap", sets=8, first=4).evolve(by_turns.phase(anchors=16, pool=32))
    # The old population, then rounds of 8 sets on 4, 4 on 4, 2 on 8 anchors.
    assert [len(call) for call in by_turns.calls] == [16, 32, 16, 16]


def test_half_of_the_sets_that_did_worse_leave_the_race(world) -> None:
    toy = world(lambda context: float(len(context.demonstrations) >= 4))
    learner("bootstrap", sets=8, first=4).evolve(toy.phase(anchors=16, pool=32))
    strong = {
        context.digest
        for call in toy.calls
        for _, context in call
        if len(context.demonstrations) >= 4
    }
    racing = [{context.digest for _, context in call} for call in toy.calls[1:]]
    for before, after in itertools.pairwise(racing):
        assert after <= before
        assert len(after) == -(-len(before) // 2)
        assert len(after & strong) == min(len(after), len(before & strong))


# OPRO.


def numbered(prompts: list[str]) -> Callable[[str], str]:
    """A language model whose n-th answer is "Rule n."."""

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return f"Thinking.\n````\nRule {len(prompts)}.\n````"

    return ask


def by_rule(context: Context) -> float:
    """The chance to solve a problem grows with the number of the rule."""
    found = re.search(r"Rule (\d+)", context.instructions)
    return min(1.0, int(found[1]) / 5) if found else 0.1


def test_opro_shows_the_history_in_ascending_order_and_keeps_the_best(world) -> None:
    prompts: list[str] = []
    toy = world(by_rule)
    found = learner("opro", numbered(prompts), steps=3, each=2).evolve(toy.phase(anchors=24))
    assert len(prompts) == 6
    scores = [float(score) for score in re.findall(r"^score: ([\d.]+)$", prompts[-1], re.M)]
    assert len(scores) == 5  # the seed's and those of two rounds
    assert scores == sorted(scores)
    assert scores[-1] > scores[0]
    assert found.population.best.context.instructions in {"Rule 5.", "Rule 6."}
    assert found.proposals == 6


def test_opro_scores_a_round_in_one_batch(world) -> None:
    toy = world(by_rule)
    learner("opro", numbered([]), steps=3, each=2).evolve(toy.phase(anchors=10))
    assert [len(call) for call in toy.calls] == [10, 20, 20, 20]


def test_anchors_that_were_shown_do_not_count(world) -> None:
    prompts: list[str] = []
    toy = world(by_rule)
    phase = toy.phase(anchors=10)
    found = learner("opro", numbered(prompts), steps=1, each=1, examples=3).evolve(phase)
    shown = {p.id for p in phase.anchors if f"\n{p.question}\n" in prompts[0]}
    assert len(shown) == 3
    for candidate in found.candidates:
        assert candidate.shown == shown
        assert len(candidate.counted) == 7


def test_answers_that_give_no_context_are_counted_as_failed(world) -> None:
    toy = world(by_rule)
    answers = iter(
        ["no block", "````\n\n````", "````\n" + "x" * 10_000 + "\n````", "````\nAnswer.\n````"]
    )
    found = learner("opro", lambda _: next(answers), steps=2, each=2).evolve(toy.phase(anchors=6))
    assert found.failed_proposals == 4
    assert found.population.best.context == Context("Answer.")


@pytest.mark.parametrize("name", ["opro", "playbook"])
def test_without_a_reflection_model_they_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"set fast\.reflection\.model"):
        learner(name)


def test_a_proposal_varies_the_context_that_it_names_as_its_parent(world) -> None:
    shown = Context("Answer.", (Demonstration("1?", "1"),))
    old = Population((Candidate(shown), Candidate(Context("Answer."))))
    toy = world(lambda context: 1.0 if context.demonstrations else 0.0)
    phase = toy.phase(anchors=8, population=old)
    found = learner("opro", numbered([]), steps=1, each=1).evolve(phase)
    (child,) = (c for c in found.candidates if c.origin == "opro")
    assert child.parents == (shown.digest,)
    assert child.context.demonstrations == shown.demonstrations


# Playbook.


LESSONS = [Lesson("Count twice.", 2, 0), Lesson("Guess.", 0, 1), Lesson("Show the steps.")]


def test_a_playbook_survives_its_text() -> None:
    assert read(written("Answer.", LESSONS)) == ("Answer.", LESSONS)
    assert read(written("", LESSONS)) == ("", LESSONS)
    assert read("Answer.\n\nLessons from earlier attempts:\nmy own text") == (
        "Answer.\n\nLessons from earlier attempts:\nmy own text",
        [],
    )


def test_commands_edit_in_place() -> None:
    commands = """
        HELPFUL 1: it was used
        REVISE 3: Show all steps.
        ADD: Read the question again.
        ADD: Count twice.
        HARMFUL 7: there is none
        some other words
    """
    assert edit(LESSONS, commands, 10) == [
        Lesson("Count twice.", 3, 0),
        Lesson("Show all steps."),
        Lesson("Read the question again."),
    ]  # the second was found harmful more often than helpful


def test_the_least_useful_and_oldest_lessons_make_room() -> None:
    kept = edit([Lesson("a"), Lesson("b", 1), Lesson("c")], "ADD: d", 2)
    assert kept == [Lesson("b", 1), Lesson("d")]


def test_a_playbook_grows_by_what_helps(world) -> None:
    def ask(prompt: str) -> str:
        number = 1 + len(re.findall(r"^\d+\. \(\+", prompt, re.M))
        return f"````\nADD: Lesson of size {number}.\n````"

    toy = world(lambda context: min(1.0, 0.1 + 0.3 * context.instructions.count("Lesson of")))
    found = learner("playbook", ask, steps=3, each=1, examples=4).evolve(toy.phase(anchors=24))
    preamble, lessons = read(found.population.best.context.instructions)
    assert preamble == "Answer."
    assert [lesson.text for lesson in lessons] == [f"Lesson of size {n}." for n in (1, 2, 3)]


# Frozen.


def frozen(path: Path) -> FastLearner:
    return learner("frozen", path=str(path))


def test_contexts_of_a_file_are_ranked_on_the_anchors(world, tmp_path: Path) -> None:
    file = tmp_path / "contexts.jsonl"
    rows = [{"instructions": f"Rule {n}.", "demonstrations": []} for n in (1, 4)]
    file.write_text("\n".join(map(json.dumps, rows)))
    toy = world(by_rule)
    found = frozen(file).evolve(toy.phase(anchors=24))
    assert [c.instructions for c in found.population.contexts] == ["Rule 4.", "Rule 1."]
    assert found.metric_calls == 48
    assert found.proposals == 0


def test_of_a_run_s_file_the_last_population_is_taken(world, tmp_path: Path) -> None:
    file = tmp_path / "contexts.jsonl"
    rows = [
        {"instructions": "Answer.", "demonstrations": [], "kept": True, "rank": 1},
        *(
            {"instructions": f"Rule {n}.", "demonstrations": [], "phase_cycle": cycle, **more}
            for n, cycle, more in [
                (1, 0, {"kept": True, "rank": 1}),
                (2, 1, {"kept": False}),
                (3, 1, {"kept": True, "rank": 2}),
                (4, 1, {"kept": True, "rank": 1}),
            ]
        ),
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = frozen(file)
    assert [c.instructions for c in found.contexts] == ["Rule 4.", "Rule 3."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no context"),
        ("{}", "line 1: instructions"),
        ('{"instructions": "a"}\n[1]', "line 2"),
        ('{"instructions": 3}', "line 1: instructions"),
        ("nonsense", "line 1"),
    ],
)
def test_a_file_that_holds_no_contexts_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "contexts.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        frozen(file)


def test_a_context_that_gives_an_anchor_away_is_left_out(world, tmp_path: Path) -> None:
    toy = world(by_rule)
    phase = toy.phase(anchors=6)
    told = phase.anchors[0]
    file = tmp_path / "contexts.jsonl"
    rows = [
        {
            "instructions": "Rule 5.",
            "demonstrations": [{"question": told.question, "answer": "7"}],
        },
        {"instructions": "Rule 1.", "demonstrations": []},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = frozen(file).evolve(phase)
    assert [c.instructions for c in found.population.contexts] == ["Rule 1."]


# All.


@pytest.mark.parametrize("name", ["gepa", "bootstrap", "opro", "playbook"])
def test_a_phase_depends_on_its_seed_alone(world, name: str) -> None:
    def found(seed: int) -> tuple[str, ...]:
        config = FastConfig(algorithm=name, population=3)
        made = create(config, Tools(config, numbered([])))
        toy = world(lambda context: min(1.0, 0.2 + 0.2 * len(context.demonstrations)))
        evolution = made.evolve(toy.phase(anchors=12, pool=24, seed=seed))
        return tuple(c.context.digest for c in evolution.candidates)

    assert found(1) == found(1)
    if name in ("gepa", "bootstrap"):
        assert found(1) != found(2)


def test_the_old_population_is_kept_where_nothing_is_better(world) -> None:
    old = Population(
        (
            Candidate(Context("Answer.", (Demonstration("1?", "1"),))),
            Candidate(Context("Answer.")),
        )
    )
    toy = world(lambda context: 1.0 if context in old.contexts else 0.0)
    for name in ("bootstrap", "opro"):
        found = learner(name, numbered([])).evolve(toy.phase(anchors=8, population=old))
        assert set(found.population.digests) <= set(old.digests)


def test_problems_that_occur_twice_are_asked_once(world) -> None:
    toy = world(by_rule)
    twice = [Problem("a", "A?", 1), Problem("b", "B?", 2), Problem("a", "A?", 1)]
    phase = toy.phase(anchors=twice)
    assert [problem.id for problem in phase.anchors] == ["a", "b"]
    found = learner("opro", numbered([]), steps=1, each=1, examples=1).evolve(phase)
    assert found.metric_calls == 4
