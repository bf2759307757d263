from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Task, create
from fastslow.tasks.star_graph import PRESETS, WORDS, Star, draw_star, first_mistake
from fastslow.types import SPLITS


def star_graph(**options: Any) -> Task:
    sizes = {"train": 20, "validation": 5, "test": 5}
    return create(TaskConfig(name="star_graph", **{**sizes, **options}), 0, "c.toml")


STAR = Star(path=("1", "2", "3"), edges=(("4", "5"), ("1", "2"), ("2", "3"), ("1", "4")))


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        ("1,2,3", None),
        (" 1, 2 ,3", None),
        ("2,3", "starts at '2', not at the source 1"),
        ("1,2,5", "Hop 2: 2->'5' is not an edge"),
        ("1,4,5", "Hop 1: 1->4 leads into the wrong arm"),
        ("1,2", "stops at 2, before the goal 3"),
        ("1,2,3,1", "Hop 3: 3->'1' is not an edge"),
        ("1 2 3", "starts at '1 2 3'"),
        ("", "starts at ''"),
    ],
)
def test_the_first_wrong_hop_is_named(answer: str, mistake: str | None) -> None:
    found = first_mistake(STAR, answer)
    assert found is None if mistake is None else mistake in (found or "")


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 10), st.integers())
def test_a_star_has_d_arms_of_l_nodes(d: int, length: int, spare: int, seed: int) -> None:
    labels = [str(number) for number in range(d * (length - 1) + 1 + spare)]
    star = draw_star(d, length, labels, random.Random(seed))
    source, goal = star.path[0], star.path[-1]
    assert len(star.path) == length
    assert len(set(star.edges)) == d * (length - 1)
    assert len({node for edge in star.edges for node in edge}) == d * (length - 1) + 1
    assert sum(near == source for near, _ in star.edges) == d
    backwards = {far: near for near, far in star.edges}  # every node has one way back
    walk = [goal]
    while walk[-1] != source:
        walk.append(backwards[walk[-1]])
    assert tuple(reversed(walk)) == star.path


def test_the_question_tells_the_graph_and_the_demonstration_scores_1() -> None:
    task = star_graph(d=3, l=4, nodes=100)
    for split in SPLITS:
        for problem in task.problems(split):
            star: Star = problem.reference
            assert all(f"{near},{far}" in problem.question for near, far in star.edges)
            assert f"from {star.path[0]} to {star.path[-1]}?" in problem.question
            worked = task.demonstrate(problem)
            assert worked is not None
            assert task.grade(problem, f"Back from the goal. {worked}").score == 1.0


def test_the_path_counts_only_between_the_tags() -> None:
    task = star_graph()
    problem = task.problems("train")[0]
    verdict = task.grade(problem, problem.reference.answer)
    assert verdict.score == 0.0
    assert f"<answer>{problem.reference.answer}</answer>" in verdict.feedback


def test_no_graph_is_asked_twice_though_its_edges_are_shuffled() -> None:
    # d = 2, l = 2: three labels, six stars, twelve questions.
    task = star_graph(d=2, l=2, train=50, validation=1, test=1)
    graphs = [
        (frozenset(p.reference.edges), p.reference.path)
        for split in SPLITS
        for p in task.problems(split)
    ]
    assert len(graphs) == len(set(graphs)) == 6


def test_data_depend_on_the_data_seed_alone() -> None:
    config = TaskConfig(name="star_graph", train=4, validation=2, test=0)
    assert create(config, 0, "c").problems("train") == create(config, 1, "c").problems("train")
    assert star_graph().problems("test") != star_graph(data_seed=1).problems("test")


def test_words_as_labels() -> None:
    assert len(set(WORDS)) == len(WORDS) >= 150
    problem = star_graph(labels="words", nodes=50).problems("train")[0]
    assert set(problem.reference.path) <= set(WORDS[:50])


def size(star: Star) -> tuple[int, int]:
    return sum(near == star.path[0] for near, _ in star.edges), len(star.path)


def test_levels_have_equal_parts_of_every_split() -> None:
    task = star_graph(levels=[[2, 3], [4, 3], [3, 5]], nodes=60, train=30, validation=6, test=9)
    for split in SPLITS:
        sizes = Counter(size(problem.reference) for problem in task.problems(split))
        assert set(sizes) == {(2, 3), (4, 3), (3, 5)}
        assert len(set(sizes.values())) == 1


def test_presets_are_the_papers_protocols() -> None:
    found = {
        preset: {size(p.reference) for p in star_graph(preset=preset).problems("train")}
        for preset in PRESETS
    }
    assert found == {
        "zero-reward": {(10, 10)},
        "zero-reward-mixed": {(5, 5), (10, 10)},
        "fast-slow": {(5, 5)},
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d": 1}, r"c.toml: task\.d: .*found 1"),
        ({"nodes": 3}, "nodes is 3, .* 7 nodes"),
        ({"labels": "words", "nodes": 999}, "found 999 nodes"),
        ({"node": 9}, "did you mean 'nodes'"),
        ({"levels": []}, r"task\.levels: .*at least 1"),
        ({"levels": [[3, 3], [5, 1]]}, r"task\.levels.*found 1"),
        ({"levels": [[3, 3], [5, 5]], "nodes": 20}, "d = 5 and l = 5 has 21 nodes"),
        ({"levels": [[3, 3]], "l": 5}, "l and levels all say which stars to draw"),
        ({"preset": "fast-slow", "levels": [[3, 3]]}, "levels and preset all say"),
        ({"preset": "paper"}, "task.preset: .*'fast-slow'; found 'paper'"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        star_graph(**options)


@settings(max_examples=50)
@given(st.text(alphabet=st.characters()))
def test_any_text_is_graded(text: str) -> None:
    task = star_graph()
    problem = task.problems("train")[0]
    for completion in (text, f"<answer>{text}</answer>"):
        assert task.grade(problem, completion).score == 0.0
