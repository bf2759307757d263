from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastslow.config import Section, TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Task, available, create, names, register, registry
from fastslow.types import SPLITS

SQUARES = '''
from fastslow.tasks import Problem, Task, Verdict, register
from fastslow.grading.answers import extract_answer, tagged


@register("squares")
class Squares(Task):
    """Squares of whole numbers."""

    def problems(self, split):
        low, high = {"train": (0, 80), "validation": (80, 90), "test": (90, 100)}[split]
        return [Problem(str(n), f"What is {n} times {n}?", n * n) for n in range(low, high)]

    def grade(self, problem, completion):
        right = extract_answer(completion) == str(problem.reference)
        return Verdict(float(right), f"{problem.reference} was expected between the tags.")

    def demonstrate(self, problem):
        return tagged(str(problem.reference))
'''


@pytest.fixture(autouse=True)
def _registrations_do_not_outlive_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    available()  # the built-in ones stay: their modules are imported, and register them, only once
    monkeypatch.setattr(names, "registered", dict(names.registered))


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    path = tmp_path / "squares.py"
    path.write_text(SQUARES, encoding="utf-8")
    return path


def make(name: str, **options: Any) -> Task:
    return create(TaskConfig(name=name, **options), 7, "c.toml")


def test_a_task_of_ones_own_takes_under_30_lines(squares: Path) -> None:
    assert len(SQUARES.strip().splitlines()) < 30
    task = make(f"{squares}:Squares")
    assert type(make("squares")) is type(task)  # registered by now, and loaded only once
    assert task.name == "squares"
    for split in SPLITS:
        problem = task.problems(split)[3]
        worked = task.demonstrate(problem)
        assert worked is not None
        assert task.grade(problem, worked).score == 1.0
        assert task.grade(problem, "12").score == 0.0
    assert ("squares", "Squares of whole numbers.", Section) in available()


def test_the_readme_of_the_registry_shows_that_very_task() -> None:
    body = [line.strip() for line in SQUARES.replace('"""', "'''").splitlines() if line.strip()]
    shown = [line.strip() for line in (registry.__doc__ or "").splitlines()]
    assert [line for line in body if line not in shown] == []


class Sized(Section):
    size: int = 3


def test_a_constructor_gets_the_options_and_the_seed_that_it_names() -> None:
    @register("sized", Sized)
    class SizedTask(Task):
        def __init__(self, options: Sized, seed: int) -> None:
            self.seen = (options.size, seed)

        def problems(self, split: Any) -> Any:
            return []

        def grade(self, problem: Any, completion: Any) -> Any:
            raise AssertionError

    task = make("sized", size=5)
    assert isinstance(task, SizedTask)
    assert task.seen == (5, 7)
    with pytest.raises(InputError, match=r"c.toml: task\.siz: .*did you mean 'size'"):
        make("sized", siz=5)


def test_a_class_by_module_needs_no_registration(
    squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unregistered = SQUARES.replace('@register("squares")\n', "")
    squares.with_name("own_squares.py").write_text(unregistered, encoding="utf-8")
    monkeypatch.syspath_prepend(squares.parent)
    assert make("own_squares:Squares").name == "Squares"
    with pytest.raises(InputError, match=r"task\.size: unknown key; the task .* has no options"):
        make("own_squares:Squares", size=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("star_grph", "c.toml: task.name: unknown task 'star_grph'; did you mean 'star_graph'"),
        ("nonsense", f"Allowed: {', '.join(sorted(names.BUILT_IN))}, or a class"),
        ("no_such_module:X", "'no_such_module' cannot be imported: ModuleNotFoundError"),
        ("no/such/file.py:X", "'no/such/file.py' cannot be imported: FileNotFoundError"),
        ("fastslow.tasks.jsonl:X", "has no Task named 'X'; it has: Jsonl"),
        ("fastslow.tasks.jsonl:Path", "has no Task named 'Path'"),
    ],
)
def test_an_unknown_task_is_explained(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(name)


def test_an_error_in_the_users_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0", encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.py' cannot be imported: ZeroDivisionError"):
        make(f"{path}:Broken")


def test_names_of_built_in_tasks_are_taken() -> None:
    with pytest.raises(InputError, match="a built-in task has this name"):
        register("jsonl")(type("Mine", (Task,), {}))


def test_listing_tasks_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fastslow.tasks import available; names = [n for n, _, _ in available()]\n"
        f"assert names == {sorted(names.BUILT_IN)}, names\n"
        "heavy = {'torch', 'transformers', 'reasoning_gym', 'sympy', 'numpy', 'math_verify',"
        " 'datasets', 'pyarrow', 'verifiers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
