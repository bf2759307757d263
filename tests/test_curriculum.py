"""Several tasks in one run: ids that tell them apart, each task grading its own."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fastslow import config as configuration
from fastslow.build import build_curriculum, build_stages
from fastslow.curriculum import Curriculum
from fastslow.dry_run import describe
from fastslow.errors import InputError
from fastslow.tasks import Task
from fastslow.types import Problem, Split, Verdict


class Echo(Task):
    """Wants its own name; its ids are given."""

    def __init__(self, name: str, ids: Sequence[str] = ("1", "2")) -> None:
        self.name, self._ids = name, ids

    def problems(self, split: Split) -> list[Problem]:
        return [Problem(name, f"{self.name} {name}?", self.name) for name in self._ids]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        assert problem.id in self._ids
        return Verdict(float(completion == self.name), f"{self.name} was wanted")

    def demonstrate(self, problem: Problem) -> str:
        return f"{self.name} {problem.id}"


def test_problems_of_several_tasks_go_back_to_their_own() -> None:
    both = Curriculum({"a": Echo("left"), "b": Echo("right")})
    left, right = both.problems("a", "train"), both.problems("b", "train")
    assert [p.id for p in (*left, *right)] == ["a/1", "a/2", "b/1", "b/2"]
    pairs = [(right[0], "right"), (left[1], "right"), (left[0], "left")]
    assert [verdict.score for verdict in both.grade(pairs)] == [1.0, 0.0, 1.0]
    assert both.demonstrate(left[1]) == "left 2"
    assert both.task_of(right[1]) == "b"


def test_the_only_task_of_a_run_keeps_its_ids() -> None:
    task = Echo("left")
    assert Curriculum({"a": task}).problems("a", "test") == tuple(task.problems("test"))


def test_ids_that_come_out_the_same_are_refused() -> None:
    both = Curriculum({"a": Echo("left", ["b/1"]), "a/b": Echo("right", ["1"])})
    both.problems("a", "train")
    with pytest.raises(InputError, match=r"a and a/b both have a problem 'a/b/1'"):
        both.problems("a/b", "train")


MIXED = """
model = "smollm2-135m"
[slow]
problems = 4
[eval]
problems = 2
[fast]
pool = 9
[[stages]]
steps = 2
task = { name = "star_graph", d = 2, l = 2, nodes = 50, train = 40 }
[[stages]]
steps = 3
[[stages.mix]]
weight = 2
task = { name = "star_graph", d = 3, l = 3, train = 40 }
[[stages.mix]]
task = { name = "star_graph", d = 2, l = 2, nodes = 50, train = 40 }
"""


def test_a_file_of_stages_and_mixes(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(MIXED, encoding="utf-8")
    config = configuration.load(path)
    curriculum = build_curriculum(config)
    first, second = build_stages(config, curriculum)
    assert (first.tasks, second.tasks) == (("star_graph",), ("star_graph-2", "star_graph"))
    assert (first.start, first.stop, second.start, second.stop) == (0, 2, 2, 5)
    for index in range(3):
        names = [curriculum.task_of(problem) for problem in second.order.batch(index)]
        assert sorted(names).count("star_graph-2") in (2, 3)
    pool = [curriculum.task_of(problem) for problem in second.order.pool]
    assert sorted(pool) == ["star_graph"] * 3 + ["star_graph-2"] * 6
    text = describe(path, [])
    assert "# task:   star_graph-2: 40 train, 128 validation, 128 test" in text
    assert "# stage:  steps 3-5 on star_graph-2 66.7%, star_graph 33.3%; 9 of train" in text


def test_a_task_too_small_for_its_share_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(MIXED.replace("problems = 4", "problems = 64"), encoding="utf-8")
    with pytest.raises(InputError, match=r"c\.toml: slow\.problems: a batch takes 64 problems"):
        describe(path, [])
