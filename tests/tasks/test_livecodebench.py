from __future__ import annotations

import base64
import json
import pickle
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Problem, Task, create
from fastslow.tasks.solutions import extract_program, first_wrong_line

SOURCE = Path(__file__).parents[1] / "data" / "livecodebench.jsonl"

needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the sandbox needs Linux"
)


def livecodebench(source: Path | str = SOURCE, **options: Any) -> Task:
    return create(TaskConfig(name="livecodebench", source=str(source), **options), 0, "c.toml")


def problem(id: str, task: Task) -> Problem:
    return next(problem for problem in task.problems("test") if problem.id == id)


def grade(id: str, program: str, **options: Any) -> tuple[float, str]:
    task = livecodebench(difficulty=["easy", "hard"], **options)
    verdict = task.grade(problem(id, task), f"Like this:\n```python\n{program}\n```\nDone.")
    return verdict.score, verdict.feedback


# -- The rows ------------------------------------------------------------------------------------


def ids(**options: Any) -> list[str]:
    return [problem.id for problem in livecodebench(**options).problems("test")]


def test_hard_problems_are_taken_unless_others_are_asked_for() -> None:
    assert ids() == ["ferry", "mean", "merge"]
    assert ids(test=2) == ["ferry", "mean"]
    assert ids(difficulty=["easy"]) == ["echo"]
    assert ids(start_date="2024-05-11") == ["mean", "merge"]
    assert ids(start_date="2024-03-03", end_date="2024-05-11") == ["merge"]
    with pytest.raises(InputError, match=r"none of its 4 problems is of task\.difficulty medium"):
        livecodebench(difficulty=["medium"])


def test_two_questions_with_one_id_are_refused(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in SOURCE.read_text().splitlines()]
    path = tmp_path / "rows.jsonl"
    twice = [*rows, {**rows[0], "question_content": "Another question."}]
    path.write_text("".join(json.dumps(row) + "\n" for row in twice))
    level = rows[0]["difficulty"]
    with pytest.raises(InputError, match=r"two problems have the id .*another question"):
        livecodebench(path, difficulty=[level]).problems("test")
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    assert livecodebench(path, difficulty=[level]).problems("test")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_it_is_for_evaluation_only(split: Any) -> None:
    with pytest.raises(InputError, match=f"evaluation only and has no {split} split"):
        livecodebench().problems(split)


def test_the_question_says_what_kind_of_program_is_asked_for() -> None:
    task = livecodebench()
    assert "reads standard input" in problem("ferry", task).question
    assert "def mergeMean(self, left" in problem("merge", task).question
    assert "reads standard input" not in problem("merge", task).question


def write(folder: Path, **changes: Any) -> Path:
    row = json.loads(SOURCE.read_text().splitlines()[0])
    (folder / "rows.jsonl").write_text(json.dumps({**row, **changes}) + "\n")
    return folder / "rows.jsonl"


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


class Trap:
    """What unpickling would run, and so tell that it was unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def test_private_tests_are_never_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = packed(pickle.dumps(Trap(canary)))
    with pytest.raises(InputError, match="a pickle that does more than hold a text"):
        livecodebench(write(tmp_path, private_test_cases=hostile)).problems("test")
    assert not canary.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_text_is_read_out_of_a_pickle_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    text = json.dumps([{"input": "1 1\n", "output": "\u00e9\n"}], ensure_ascii=False)
    source = write(tmp_path, private_test_cases=packed(pickle.dumps(text, protocol)))
    (found,) = livecodebench(source).problems("test")
    assert found.reference.tests()[-1].output == "\u00e9\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"private_test_cases": "%%"}, "neither JSON nor packed"),
        ({"private_test_cases": packed(b"")}, "pickle exhausted"),
        ({"private_test_cases": packed(pickle.dumps(["a", "b"]))}, "does more than hold a text"),
        ({"private_test_cases": packed(pickle.dumps("[1]"))}, r'a list of \{"input", "output"\}'),
        ({"private_test_cases": packed(pickle.dumps("{"))}, "test cases: no JSON"),
        (
            {"private_test_cases": packed(pickle.dumps("[]"))[:20] + "A" * 8},
            "neither JSON nor packed|cut off",
        ),
        ({"private_test_cases": None}, "private_test_cases is 'None'; expected text"),
        ({"private_test_cases": "[]", "public_test_cases": "[]"}, "every program would pass"),
        ({"metadata": '{"func_name": "f"}'}, "no JSON value"),
        ({"contest_date": "soon"}, "contest_date is 'soon'; expected a date"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"question_id '?ferry.*{message}"):
        livecodebench(write(tmp_path, **changes)).problems("test")


def test_tests_that_unpack_to_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastslow.tasks.livecodebench.TESTS_LIMIT", 1000)
    source = write(tmp_path, private_test_cases=packed(b"\0" * 10**6))
    with pytest.raises(InputError, match="more than 1,000 bytes"):
        livecodebench(source).problems("test")


# -- The answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("```python\nprint(1)\n```", "print(1)"),
        ("```\nprint(1)\n```", "print(1)"),
        ("```py\na\n```\nbetter:\n```Python\nb\n```", "b"),
        ("```python\na\n```\nIt prints\n```text\n7\n```", "a"),
        ("```python\na\n```\n```python\nnever closed", "a"),
        ("```python\na\n```\n<answer>\n```python\nb\n```\n</answer>", "b"),
        ("```python\na\n```\n<answer>b</answer>", "b"),
        ("<answer>b</answer>\n```python\na\n```", "b"),
        ("  ```python\n  a\n  ```", "  a"),
        ("```python\n'\ud800'\n```", "'?'"),
        ("print(1)", None),
        ("```python\nprint(1)", None),
        ("<answer></answer>", None),
        ("", None),
    ],
)
def test_the_last_block_of_python_is_the_program(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("1 2\n3\n", "\n1  2 \r\n3"),
        ("0.5\n", "0.50"),
        ("1.0000000", "1"),
        ("333.333333333", "333.3333333"),
        ("-1e-3", "-0.001"),
        ("", "\n"),
    ],
)
def test_output_is_compared_word_by_word_and_numbers_by_value(expected: str, printed: str) -> None:
    assert first_wrong_line(expected, printed) is None


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("1 2", "1 3"),
        ("1 2", "1\n2"),
        ("1\n2", "1\n2\n3"),
        ("1\n\n2", "1\n2"),
        ("Yes", "YES"),
        ("1000000000000000000000000000001", "1000000000000000000000000000002"),
        ("1000000000000000001", "1e18"),
        ("0.0", "0.0000001"),
        ("0.0000001", "0"),
        ("3.14159", "3.1415"),
        ("5", "5.000001"),
        ("1000", "1_000"),
        ("1.5", "nan"),
        ("1.5", "1e999999999999999999"),
        ("1.5e999999", "-1e999999"),
        ("7", "\u0667"),
    ],
)
def test_other_output_is_wrong(expected: str, printed: str) -> None:
    assert first_wrong_line(expected, printed) is not None


RIGHT = {
    "ferry": "n, c = map(int, input().split())\nprint(-(-n // c))\nexit()",
    "mean": (
        "import sys\nfor line in sys.stdin:\n"
        "    xs = [*map(int, line.split())]\n    print(sum(xs) / len(xs))"
    ),
    "merge": (
        "class Solution:\n    def mergeMean(self, left: List[int], right) -> List[Any]:\n"
        "        print('merging')\n        both = tuple(merge(left, right))\n"
        "        return [both, sum(both) / len(both)]"
    ),
    "echo": "if __name__ == '__main__':\n    print(open(0).read())",
}


@needs_linux
@pytest.mark.parametrize("id", RIGHT)
def test_a_right_program_passes(id: str) -> None:
    program = RIGHT[id].replace("merge(left", "__import__('heapq').merge(left")
    assert grade(id, program) == (1.0, "Right: the program passes all tests.")


@needs_linux
def test_a_function_outside_a_class_is_called_too() -> None:
    program = "def mergeMean(a, b):\n    c = sorted(a + b)\n    return c, fractions.Fraction(1)"
    score, feedback = grade("merge", program)
    assert score == 0.0
    assert "Fraction was returned, which is no JSON value" in feedback
    program = program.replace("fractions.Fraction(1)", "sum(c) / len(c)")
    assert grade("merge", program)[0] == 1.0


@needs_linux
@pytest.mark.parametrize(
    ("id", "program", "feedback"),
    [
        ("ferry", "n, c = map(int, input().split())\nprint(n // c)", "fails test 1 of 4: wrong"),
        ("ferry", "print(3)", "fails test 2 of 4: wrong output in line 1: '2' expected, '3' found"),
        ("ferry", "print(3)", "Input: '6 3\\n'"),
        ("ferry", "n, c = map(int, input().split())\nprint(1 / 0)", "error in line 2: 'ZeroDivis"),
        ("ferry", "print(3", "in line 1: \"SyntaxError: '(' was never closed\""),
        ("ferry", "\0", "null bytes"),
        ("ferry", "raise SystemExit(3)", "exit code 3"),
        ("merge", "class Solution: pass", "no attribute 'mergeMean'"),
        ("merge", "def mergeMean(a, b): return [a + b, 0]", "$[0][1]: 2 expected, 4 found"),
        ("merge", "def mergeMean(a, b): return {1}", "set was returned, which is no JSON value"),
    ],
)
def test_the_first_failing_test_is_told(id: str, program: str, feedback: str) -> None:
    score, found = grade(id, program)
    assert score == 0.0
    assert feedback in found


def test_a_completion_without_a_program_is_told_the_format() -> None:
    task = livecodebench()
    verdict = task.grade(problem("ferry", task), "I would divide.")
    assert verdict.score == 0.0
    assert "a complete code block" in verdict.feedback
    assert "I would divide." in verdict.feedback


PRINTS = "import sys\nsys.stdout.write('[[1, 2, 4], 2.3333333333]')\nsys.stdout.flush()\n"
HOSTILE = {
    "ends early": "import os\nos._exit(0)",
    "leaves early": "import sys\nsys.exit(0)",
    "prints a verdict": 'print(\'{"score": 1.0, "passed": true}\')',
    "prints what the harness may print": "print('Right: the program passes all tests.')",
    "answers one test and ends": f"import os\n{PRINTS}os._exit(0)",
    "writes past the harness": (
        "import os\nfor fd in range(9):\n    try: os.write(fd, b'3')\n    except OSError: pass"
    ),
    "patches builtins": (
        "import builtins, json, operator\n"
        "builtins.print = lambda *a, **k: None\n"
        "json.dumps = lambda *a, **k: 'true'\n"
        "json.dump = lambda value, file, **k: file.write('true')\n"
        "list.__eq__ = None"
    ),
    "is equal to everything": (
        "class Any:\n    __eq__ = lambda self, other: True\n"
        "def mergeMean(a, b):\n    return Any()\nprint(Any())"
    ),
    "is a list that lies": (
        "class L(list):\n    def __eq__(self, other): return True\n"
        "def mergeMean(a, b):\n    return L([0])"
    ),
    "reads the tests": f"print(open({str(SOURCE)!r}).read())",
    "reads its parent": "import os\nprint(open(f'/proc/{os.getppid()}/environ').read())",
    "reads its parent's memory": "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read(9)",
    "looks into frames": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n"
        "    print(frame.f_globals, frame.f_locals)\n    frame = frame.f_back"
    ),
    "collects garbage": "import gc\nprint([o for o in gc.get_objects() if isinstance(o, dict)])",
    "forks": "import os\nwhile True: os.fork()",
    "starts programs": "import subprocess\nprint(subprocess.run(['echo', '3'], check=True))",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)",
    "eats memory": "x = [0] * 10**11",
    "prints without end": "while True: print('3' * 10**6)",
    "never ends": "while True: pass",
}


@needs_linux
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("id", ["ferry", "merge"])
def test_no_trick_passes(id: str, name: str) -> None:
    score, feedback = grade(id, HOSTILE[name], seconds=1, total_seconds=60)
    assert score == 0.0
    assert "It fails test" in feedback


@needs_linux
def test_time_limits_are_told_and_kept() -> None:
    assert "longer than 1 seconds" in grade("ferry", "while True: pass", seconds=1)[1]
    score, feedback = grade("ferry", RIGHT["ferry"], total_seconds=1e-9)
    assert score == 0.0
    assert "all tests up to this one took more than 1e-09 seconds" in feedback
