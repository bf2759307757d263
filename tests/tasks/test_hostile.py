"""Completions that mean harm, graded by every built-in task (``tests/data/hostile.jsonl``).

A line holds what its completion tries and the completion itself, perhaps in pieces, of which some
are repeated. @CANARY@ stands for a folder that nobody may touch or read, @PORT@ for a port of this
machine that nobody may knock at.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from fastslow.config import TaskConfig
from fastslow.tasks import Task, available, create
from fastslow.tasks.grading import Graders, settle
from fastslow.tasks.screen import SCREENS
from fastslow.types import Failure, Problem, Split, Verdict

HOSTILE = Path(__file__).parents[1] / "data" / "hostile.jsonl"
SECRET = "nobody reads this"

QUESTIONS = [
    {"question": f"Which stone is number {n}?", "text": f"opal {n}", "number": 73018.25 + n,
     "letter": "G", "algebra": f"\\frac{{\\sqrt{{{7 + n}}}}}{{x + 91}}"}
    for n in range(3)
]  # fmt: skip
CLAIMS = [
    {"uid": f"u{n}", "claim": f"The quarry of town {n} is older than its mill.", "num_hops": 3,
     "supporting_facts": [[f"Quarry {n}", 0], [f"Mill {n}", 1], [f"Town {n}", 0]],
     "label": "NOT_SUPPORTED"}
    for n in range(6)
]  # fmt: skip
CHOICES = [
    {"prompt": f"Which stone sinks in bath {n}?\n"
     + "\n".join(f"{letter}: stone {place}" for place, letter in enumerate("ABCDEFGH")),
     "answer": "G"}
    for n in range(3)
]  # fmt: skip
PROGRAMS = [
    {"problem_description": f"Name stone {n}.", "io_requirements": "Takes n, returns a string.",
     "refcode": f"def main_solution(n):\n    return 'opal' * n + '{n}'",
     "funcname": "main_solution", "ios": [{"input": {"n": 3}, "output": f"opalopalopal{n}"}]}
    for n in range(3)
]  # fmt: skip
CONTESTS = [
    {"question_title": "Stones", "question_content": f"Print stone {n}.", "platform": "atcoder",
     "question_id": f"s{n}", "contest_date": "2025-01-01T00:00:00", "starter_code": "",
     "difficulty": "hard", "private_test_cases": "[]",
     "metadata": json.dumps({"func_name": "solve"} if n else {}),
     "public_test_cases": json.dumps(
         [{"input": "3", "output": '"opal 3"', "testtype": "functional" if n else "stdin"}])}
    for n in range(2)
]  # fmt: skip

SETS: dict[str, list[dict[str, Any]]] = {
    "questions": QUESTIONS, "claims": CLAIMS, "choices": CHOICES, "programs": PROGRAMS,
    "contests": CONTESTS,
}  # fmt: skip

ROWS = {"question": "question", "validation": 1, "test": 0}
CUT = {"validation": 1, "test": 0}
SOLVE = {"answer_column": "number", "question_column": "question", **CUT}
SCIENCES = {"source": "choices", "level": None, **CUT}
GYM = {"train": 1, "validation": 1, "test": 0}
ALIKE = {"simple_integration", "rearc"}  # others are screened and scored as these are
SCORED = {"countdown", "coin_flip", "graph_color", "number_sorting", "polynomial_multiplication"}
DATASETS = sorted({*SCREENS, *SCORED, "chain_sum"} - ALIKE)

TASKS: dict[str, dict[str, Any]] = {
    "jsonl exact": {"path": "questions", "answer": "text", **ROWS},
    "jsonl numeric": {"path": "questions", "answer": "number", "verifier": "numeric", **ROWS},
    "jsonl choice": {"path": "questions", "answer": "letter", "verifier": "choice", **ROWS},
    "star_graph": GYM,
    "math tags": {"source": "questions", **SOLVE},
    "math boxed": {"source": "questions", "answer": "boxed", **SOLVE, "answer_column": "algebra"},
    "math number": {"source": "questions", "answer": "number", **SOLVE},
    "hover verify": {"source": "claims", **CUT},
    "hover retrieve": {"source": "claims", "variant": "retrieve", "hard": True, **CUT},
    "physics": SCIENCES,
    "chemistry": SCIENCES,
    "biology": SCIENCES,
    "materials": SCIENCES,
    "codeio": {"source": "programs", "train": 1, "validation": 1, "test": 0},
    "livecodebench stdin": {"source": "contests", "seconds": 0.3, "test": 1},
    "livecodebench function": {"source": "contests", "seconds": 0.3},
    **{f"reasoning_gym {name}": {"dataset": name, **GYM} for name in DATASETS},
}
ELSEWHERE = {"verifiers"}
"""Tasks that need a package which is not part of the project's."""


class Several(Task):
    """Some tasks as one, which one pool of graders serves. A problem's id is its task's name."""

    name = "several"
    grading_seconds = 0.5

    def __init__(self, tasks: dict[str, Task]) -> None:
        self._tasks = tasks

    def problems(self, split: Split) -> list[Problem]:
        raise NotImplementedError

    def grade(self, problem: Problem, completion: str) -> Verdict:
        return self._tasks[problem.id].grade(problem.reference, completion)

    def warm_up(self) -> None:
        for task in self._tasks.values():
            task.warm_up()


@dataclass(frozen=True)
class Canaries:
    """What must stay as it is: a folder with a file in it, and a port where nobody knocks."""

    folder: Path
    server: socket.socket

    def state(self) -> tuple[object, ...]:
        listing = [(p.name, p.stat().st_mode, p.stat().st_mtime) for p in self.folder.iterdir()]
        return (*listing, (self.folder / "keep").read_text(), sorted(children()))

    def in_place(self, text: str) -> str:
        port = str(self.server.getsockname()[1])
        return text.replace("@CANARY@", str(self.folder)).replace("@PORT@", port)


def children() -> list[str]:
    """The command lines of the processes that this one started, and that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append((stat.parent / "cmdline").read_text())
        except (OSError, ValueError):
            continue
    return found


def whole(completion: str | list[Any]) -> str:
    """A completion from its pieces."""
    if isinstance(completion, str):
        return completion
    return "".join(p if isinstance(p, str) else p["repeat"] * p["times"] for p in completion)


ENTRIES = [json.loads(line) for line in HOSTILE.read_text(encoding="utf-8").splitlines()]

pytestmark = pytest.mark.timeout(900)  # the first test waits for all verdicts, on a busy machine


def entries(name: str) -> list[dict[str, Any]]:
    """What is tried on a task. Half a minute is saved by not running what is no program twice."""
    if name == "livecodebench function":
        return [entry for entry in ENTRIES if entry["tries"].startswith("code")]
    return ENTRIES


def graded(name: str, verdicts: dict[str, list[Verdict]]) -> list[tuple[dict[str, Any], Verdict]]:
    return list(zip(entries(name), verdicts[name], strict=True))


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    folder = tmp_path_factory.mktemp("canary")
    (folder / "keep").write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Canaries(folder, server)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    folder = tmp_path_factory.mktemp("rows")
    for name, rows in SETS.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    made = {}
    for name, options in TASKS.items():
        place = {key: str(folder / f"{options[key]}.jsonl") for key in ("path", "source")
                 if key in options}  # fmt: skip
        made[name] = create(
            TaskConfig(name=name.split()[0], **{**options, **place}), 0, "hostile.toml"
        )
    return made


def one_problem(name: str, task: Task) -> Problem:
    """A problem of a task; of LiveCodeBench the first reads input, the last asks a function."""
    if name.startswith("livecodebench"):
        return task.problems("test")[-1]
    return task.problems("train")[0]


@pytest.fixture(scope="module")
def verdicts(tasks: dict[str, Task], canaries: Canaries) -> dict[str, list[Verdict]]:
    """The verdict of every task on every entry."""
    # Reading a data set may start a sandbox, which lasts as long as the data set.
    problems = {name: one_problem(name, task) for name, task in tasks.items()}
    before = canaries.state()
    pairs = [
        (Problem(name, "", problem), canaries.in_place(whole(entry["completion"])))
        for name, problem in problems.items()
        for entry in entries(name)
    ]
    with Graders(Several(tasks)) as graders:
        found = iter(graders.grade(pairs))
    assert canaries.state() == before
    with pytest.raises(BlockingIOError):  # nobody knocked
        canaries.server.accept()
    return {name: settle(list(islice(found, len(entries(name))))) for name in tasks}


def test_the_file_is_what_it_should_be() -> None:
    assert HOSTILE.stat().st_size < 500_000
    assert len({json.dumps(entry) for entry in ENTRIES}) == len(ENTRIES) >= 200
    assert max(len(whole(entry["completion"])) for entry in ENTRIES) >= 1_000_000
    assert all(entry["tries"] for entry in ENTRIES)


def test_every_task_is_on_the_list() -> None:
    assert {name for name, _, _ in available()} == {name.split()[0] for name in TASKS} | ELSEWHERE


@pytest.mark.parametrize("name", TASKS)
def test_nothing_hostile_scores_1(name: str, verdicts: dict[str, list[Verdict]]) -> None:
    assert not [entry for entry, verdict in graded(name, verdicts) if verdict.score == 1.0]


@pytest.mark.parametrize("name", TASKS)
def test_no_verifier_breaks(name: str, verdicts: dict[str, list[Verdict]]) -> None:
    """Too long or too large an answer may stop one; nothing else may."""
    assert not [
        (entry, verdict)
        for entry, verdict in graded(name, verdicts)
        if isinstance(verdict, Failure) or "was stopped, it ended" in verdict.feedback
    ]


@pytest.mark.parametrize("name", TASKS)
def test_nothing_secret_gets_into_feedback(name: str, verdicts: dict[str, list[Verdict]]) -> None:
    assert not [entry for entry, verdict in graded(name, verdicts) if SECRET in verdict.feedback]


@pytest.mark.parametrize("name", TASKS)
def test_feedback_stays_short(name: str, verdicts: dict[str, list[Verdict]]) -> None:
    assert not [e for e, verdict in graded(name, verdicts) if len(verdict.feedback) > 10_000]


@pytest.mark.parametrize("name", TASKS)
def test_the_right_answer_still_scores_1(name: str, tasks: dict[str, Task]) -> None:
    """A task that refused everything would pass the tests above."""
    problem = one_problem(name, tasks[name])
    if name.startswith("livecodebench"):
        program = "class Solution:\n    def solve(self, n):\n        return f'opal {n}'\n"
        if name.endswith("stdin"):
            program = "print(f'\"opal {input()}\"')\n"
        worked: str | None = f"```python\n{program}```"
    else:
        worked = tasks[name].demonstrate(problem)
    assert worked is not None
    assert tasks[name].grade(problem, worked).score == 1.0
