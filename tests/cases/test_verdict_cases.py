"""Tasks whose verifiers fail, or give what is no verdict: no such thing becomes a score."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from fastslow.collect import stop_if_ungraded
from fastslow.config import TaskConfig
from fastslow.curriculum import Curriculum
from fastslow.errors import FastslowError, InputError, RunError
from fastslow.run.jsonl import read_lines
from fastslow.run.rollouts import read_rollouts
from fastslow.slow.reference import kl_to_reference
from fastslow.tasks import Task, create
from fastslow.tasks.grading import Graders
from fastslow.testing import rollout, turn
from fastslow.training import train
from fastslow.types import MAX_FEEDBACK, Failure, Problem, Verdict
from tiny_run import tiny_config

OWN = """
import os, sys, time
from fastslow.tasks import Problem, Task, Verdict

class Own(Task):
    grading_seconds = 3.0

    def problems(self, split):
        first, count = {"train": (0, 12), "validation": (12, 4), "test": (16, 4)}[split]
        return [Problem(f"p{n}", f"Write {n}.", str(n)) for n in range(first, first + count)]

    def grade(self, problem, completion):
        share = sum(map(str.isascii, completion)) / max(len(completion), 1)
        return Verdict(share, "x")

    def demonstrate(self, problem):
        return problem.reference
"""
GRADE = 'return Verdict(share, "x")'
PROBLEMS = 'return [Problem(f"p{n}", f"Write {n}.", str(n)) for n in range(first, first + count)]'


def write(folder: Path, old: str = "", new: str = "") -> str:
    assert old in OWN
    path = folder / "own.py"
    path.write_text(OWN.replace(old, new) if old else OWN, encoding="utf-8")
    return f"{path}:Own"


def config(folder: Path, model: Path, task: str, /, **changes: Any) -> dict[str, Any]:
    return tiny_config(model, task, folder / "runs", **changes)


def failed(settings: dict[str, Any]) -> FastslowError:
    """What ends a whole run."""
    with pytest.raises(FastslowError) as raised:
        train(settings, console=False)
    return raised.value


def refused(name: str) -> FastslowError:
    """What ends a batch of two completions of the task's first problems, or reading these."""
    with pytest.raises(FastslowError) as raised:
        batch(name)
    return raised.value


def batch(name: str) -> None:
    """What a run does with a task, without a model."""
    curriculum = Curriculum({"own": create(TaskConfig(name=name), 0, "c.toml")})
    problems = curriculum.problems("own", "train")[:2]
    curriculum.problems("own", "validation")
    with curriculum.isolated():
        curriculum.demonstrate(problems[0])
        outcomes = curriculum.grade([(problem, "a") for problem in problems])
    rollouts = [
        rollout(problem, "c", outcome, turn("a"))
        for problem, outcome in zip(problems, outcomes, strict=True)
    ]
    stop_if_ungraded(rollouts, curriculum.task_of)


# --- numbers of other types -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("imports", "score", "expected"),
    [
        pytest.param("numpy as np", "np.float32(0.25)", 0.25, id="F048"),
        pytest.param("numpy as np", "np.bool_(True)", 1.0, id="F049"),
        pytest.param("numpy as np", "np.array(0.25)", 0.25, id="F050"),
        pytest.param("torch", "torch.tensor(0.25)", 0.25, id="F051"),
        pytest.param("decimal", "decimal.Decimal('0.5')", 0.5, id="F052"),
        pytest.param("fractions", "fractions.Fraction(1, 3)", 1 / 3, id="F053"),
        ("torch", "torch.tensor(0.5, dtype=torch.bfloat16)", 0.5),
        ("enum", "enum.IntEnum('E', {'A': 1}).A", 1.0),
        ("sympy", "sympy.Rational(1, 4)", 0.25),
    ],
)
def test_numbers_are_converted_where_they_are_made(
    tmp_path: Path, imports: str, score: str, expected: float
) -> None:
    path = Path(write(tmp_path, GRADE, f'return Verdict({score}, "x")').rpartition(":")[0])
    path.write_text(f"import {imports}\n{path.read_text()}", encoding="utf-8")
    task = create(TaskConfig(name=f"{path}:Own"), 0, "c.toml")
    with Graders(task, workers=1) as graders:
        (found,) = graders.grade([(Problem("p", "?"), "a")])
    assert found == Verdict(expected, "x")
    assert isinstance(found, Verdict)
    assert type(found.score) is float


# --- what ends a run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        pytest.param("5.0", "5.0", id="F054"),
        pytest.param("2 * share + 1", r"[\d.]+", id="F055"),
        pytest.param("1.0000000001", "1.0000000001", id="F056"),
        pytest.param("-1.0", "-1.0", id="F057"),
        ("float('nan')", "nan"),
        ("10 ** 5000", "a value that cannot be shown of type int"),
    ],
)
def test_a_score_outside_0_and_1_ends_the_run(tmp_path: Path, score: str, shown: str) -> None:
    error = refused(write(tmp_path, GRADE, f'return Verdict({score}, "x")'))
    assert isinstance(error, RunError)
    line, _, trace = str(error).partition("\n")
    assert line.startswith("task Own: problem 'p0': a verdict's score lies in [0, 1]; found")
    assert re.search(f"found {shown}\\. The run ends", line)
    assert trace.startswith("Traceback")
    assert "own.py" in trace


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param("raise ValueError('no')", "it raised ValueError: no", id="F058"),
        pytest.param("return None", "grade() returned NoneType, not a Verdict", id="F059"),
        pytest.param("return share", "grade() returned float, not a Verdict", id="F060"),
        pytest.param("return (share, 'x')", "grade() returned tuple, not a", id="F061"),
        pytest.param("import not_installed", "it raised ModuleNotFoundError", id="F063"),
        pytest.param("sys.exit(0)", "it called sys.exit", id="F064"),
        ("yield Verdict(1.0, 'x')", "grade() returned generator, not a Verdict"),
        ("return Verdict('1.0', 'x')", "it raised TypeError: a verdict's score is a number"),
        ("return Verdict(1j, 'x')", "found 1j of type complex"),
        ("os._exit(0)", "it ended its process"),
        ("time.sleep(60)", "it took longer than 3 seconds"),
        ("return self.grade(problem, completion)", "it raised RecursionError"),
        ("raise KeyboardInterrupt", "it raised KeyboardInterrupt"),
        ("raise type('Odd', (BaseException,), {})('no')", "it raised Odd: no"),
    ],
)
def test_a_batch_without_a_verdict_ends_the_run(tmp_path: Path, body: str, reason: str) -> None:
    error = refused(write(tmp_path, GRADE, body))
    assert isinstance(error, RunError)
    line, _, trace = str(error).partition("\n")
    assert "every verdict of a batch failed, 2 of 2. The first: task own, problem 'p0': " in line
    assert reason in line
    assert trace.startswith("Traceback") or reason.startswith(("it ended", "it took"))


@pytest.mark.parametrize("old", [pytest.param("def grade", id="F062")])
def test_a_coroutine_is_named(tmp_path: Path, old: str) -> None:
    error = refused(write(tmp_path, old, f"async {old}"))
    assert "every verdict of a batch failed" in str(error)
    assert "grade() returned a coroutine (it is declared with async def" in str(error)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('no')", "every verdict of a batch failed, 2 of 2. The first: task "),
        ("return Verdict(5.0)", "task Own: problem 'p12': a verdict's score lies in [0, 1]"),
    ],
)
def test_a_whole_run_ends(tmp_path: Path, tiny_model_dir: Path, body: str, line: str) -> None:
    error = failed(config(tmp_path, tiny_model_dir, write(tmp_path, GRADE, body)))
    assert isinstance(error, RunError)
    assert str(error).startswith(line)
    assert not (tmp_path / "runs" / "run" / "metrics.jsonl").read_text()


def test_the_command_ends_with_1(tmp_path: Path, tiny_model_dir: Path) -> None:
    task = write(tmp_path, GRADE, "raise ValueError('no')")
    path = tmp_path / "c.toml"
    path.write_text(tomli_w.dumps(config(tmp_path, tiny_model_dir, task)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "fastslow.cli", "train", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fastslow: every verdict of a batch failed")
    assert "Traceback" in done.stderr
    assert "own.py" in done.stderr


# --- mistakes in a task, in one line each --------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            GRADE, "return Verdict(share, None)", "feedback is text; found None", id="F065"
        ),
        pytest.param(
            GRADE, "return Verdict(share, 5)", "feedback is text; found 5 of type int", id="F066"
        ),
        pytest.param('Problem(f"p{n}"', "Problem(n", "item 0: its id is 0 of type int", id="F067"),
        pytest.param(
            'f"Write {n}."', "None", "item 0: its question is None; expected text", id="F068"
        ),
        pytest.param(
            "return problem.reference",
            "return 5",
            "demonstrate() returned int; expected text or None",
            id="F069",
        ),
        pytest.param(PROBLEMS, "return None", "problems('train') returned None", id="F070"),
        pytest.param(
            PROBLEMS, "return [{'id': 'p'}]", "item 0 is {'id': 'p'} of type dict", id="F071"
        ),
        ("return problem.reference", "yield '5'", "demonstrate() returned"),
        (PROBLEMS, "return {'p0': 1}", "item 0 is 'p0' of type str; expected a Problem"),
        (PROBLEMS, "return 'problems'", "item 0 is 'p' of type str; expected a Problem"),
        ('f"Write {n}."', "[f'Write {n}.']", "its question is ['Write 0.'] of type list"),
    ],
)
def test_a_mistake_of_a_task_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    error = refused(write(tmp_path, old, new))
    assert isinstance(error, InputError)
    assert message in str(error)
    assert "task own: " in str(error).lower()
    assert "\n" not in str(error)


# --- ids that occur twice ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            PROBLEMS,
            "return [Problem(str(n - first), f'Write {n}.') for n in range(first, first + count)]",
            r"the id '0': train, problem 1, 'write 0\.'; and validation, problem 1, 'write 12\.'",
            id="F044",
        ),
        pytest.param(
            'Problem(f"p{n}"',
            'Problem(f"p{n//2}"',
            r"the id 'p0': train, problem 1, 'write 0\.'; and train, problem 2, 'write 1\.'",
            id="F045",
        ),
        (
            PROBLEMS,
            'return [Problem(f"p{n}", f"Write {n}.", n) for n in range(4)]',
            r"the id 'p0': train, problem 1, .*; and validation, problem 1",
        ),
    ],
)
def test_ids_that_occur_twice_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    error = refused(write(tmp_path, old, new))
    assert isinstance(error, InputError)
    assert re.search(message, str(error))


def rows(path: Path, count: int, question: str) -> str:
    path.parent.mkdir(exist_ok=True)
    found = [{"id": n, "question": question.format(n), "answer": n} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, found)), encoding="utf-8")
    return str(path)


def jsonl(**options: Any) -> Task:
    return create(TaskConfig(name="jsonl", **options), 0, "c.toml")


@pytest.mark.parametrize("_", [pytest.param(0, id="F046")])
def test_files_of_one_name_hold_different_problems(tmp_path: Path, _: int) -> None:
    task = jsonl(
        path=rows(tmp_path / "train" / "data.jsonl", 100, "old {}"),
        validation_path=rows(tmp_path / "val" / "data.jsonl", 20, "new {}"),
        test=0,
    )
    curriculum = Curriculum({"jsonl": task})
    assert len(curriculum.problems("jsonl", "train")) == 100
    assert len(curriculum.problems("jsonl", "validation")) == 20
    assert "train/data.jsonl:1" in {p.id for p in task.problems("train")}
    assert "val/data.jsonl:20" in {p.id for p in task.problems("validation")}


@pytest.mark.parametrize("_", [pytest.param(0, id="F047")])
def test_ids_that_two_files_share_are_those_of_different_problems(tmp_path: Path, _: int) -> None:
    files = {
        "path": rows(tmp_path / "a.jsonl", 100, "old {}"),
        "validation_path": rows(tmp_path / "b.jsonl", 20, "new {}"),
    }
    task = jsonl(**files, id="id", test=0)
    curriculum = Curriculum({"jsonl": task})
    assert next(p.id for p in curriculum.problems("jsonl", "validation")) == "b.jsonl:0"
    assert len(curriculum.problems("jsonl", "train")) == 100
    alone = jsonl(path=files["path"], id="id", validation=0, test=0)
    assert {p.id for p in alone.problems("train")} == {str(number) for number in range(100)}


def test_an_id_that_one_file_holds_twice_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "a.jsonl", rows(tmp_path / "b.jsonl", 20, "new {}")
    twice = [{"id": 7, "question": text, "answer": "1"} for text in ("one", "two")]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in twice))
    with pytest.raises(InputError, match=r"id 'a\.jsonl:7': .*'one'; and .*a\.jsonl .*'two'"):
        jsonl(path=path, validation_path=other, id="id", test=0)


def test_long_feedback_keeps_its_start_and_its_end() -> None:
    found = Verdict(0.5, f"start{'x' * 10**7}end").feedback
    assert len(found) == MAX_FEEDBACK
    assert found.startswith("startx")
    assert found.endswith("xend")
    assert "[... 10,000,008 characters, cut ...]" in found
    assert Verdict(0.5, found).feedback == found


# --- single failures -----------------------------------------------------------------------------

SOMETIMES = 'if sum(map(ord, completion)) % 3 == 0: raise ValueError("bad day")\n        ' + GRADE


@pytest.fixture(scope="module")
def sometimes(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A run whose verifier fails on a third of all completions."""
    folder = tmp_path_factory.mktemp("sometimes")
    task = write(folder, GRADE, SOMETIMES)
    settings = config(folder, tiny_model_dir, task, eval={"problems": 4, "samples": 4})
    return train(settings, console=False).folder


def test_single_failures_are_counted_and_never_averaged(sometimes: Path) -> None:
    found = read_rollouts(sometimes).to_pylist()
    metrics = list(read_lines(sometimes / "metrics.jsonl"))
    for phase in ("slow", "eval"):
        mine = [row for row in found if row["phase"] == phase]
        failures = [row for row in mine if row["score"] is None]
        assert 0 < len(failures) < len(mine)
        assert {row["feedback"] for row in failures} == {"it raised ValueError: bad day"}
        told = [row for row in metrics if row["phase"] == phase]
        assert sum(row.get("verdicts/failed", 0) for row in told) == len(failures)
        assert all(row.get("verdicts/failed") != 0 for row in told)
    for row in (row for row in metrics if row["phase"] == "slow"):
        scores = [r["score"] for r in found if r["phase"] == "slow" and r["step"] == row["step"]]
        scores = [score for score in scores if score is not None]
        if row["rollouts/reused"] == 0:
            assert row["reward/mean"] == pytest.approx(sum(scores) / len(scores))


def test_a_failure_gives_a_context_no_score(sometimes: Path) -> None:
    found = read_rollouts(sometimes).to_pylist()
    failures = {
        (row["cycle"], row["problem_id"], row["context"])
        for row in found
        if row["phase"] == "fast" and row["score"] is None
    }
    assert failures
    for line in read_lines(sometimes / "contexts.jsonl"):
        for problem in line.get("scores", {}):
            assert (line["cycle"], problem, line["digest"]) not in failures


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("_", [pytest.param(0, id="K1")])
def test_a_key_that_a_verifier_quotes_gets_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _: int
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-JUDGE-0123456789")
    raising = "raise RuntimeError('401: bad key ' + os.environ['JUDGE_API_KEY'])"
    task = create(TaskConfig(name=write(tmp_path, GRADE, raising)), 0, "c.toml")
    for here in (True, False):
        with Graders(task, workers=1, here=here) as graders:
            (found,) = graders.grade([(Problem("p", "?"), "a")])
        assert isinstance(found, Failure)
        assert found.reason == "it raised RuntimeError: 401: bad key ***"
        assert "sk-JUDGE" not in found.trace


# --- odd verifiers -------------------------------------------------------------------------------

ODD = """
import sys
from fastslow.tasks import Task, Verdict

class Mute(Exception):
    def __str__(self): raise RuntimeError("mute")

class Loud(Verdict):
    def __post_init__(self): pass

class Odd(Task):
    def problems(self, split): return []

    def grade(self, problem, completion):
        match completion:
            case "mute": raise Mute
            case "surrogates": return Verdict(1.0, "\\ud800 \\udc80")
            case "long": return Verdict(1.0, "x" * 10_000_000)
            case "subclass": return Loud(1, "y")
            case "bad subclass": return Loud("1", "y")
            case "control": raise ValueError("\\x1b[2J\\x9b31m\\nsecond line")
            case "notes":
                error = ValueError("a" * 10_000)
                error.add_note("b")
                raise error
            case "cancelled":
                import asyncio
                raise asyncio.CancelledError
            case "group": raise BaseExceptionGroup("many", [KeyboardInterrupt()])
            case "lambda": return lambda: Verdict(1.0)
            case "class": return Verdict
        return Verdict(0.5, "z")
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("odd") / "odd.py"
    path.write_text(ODD, encoding="utf-8")
    return create(TaskConfig(name=f"{path}:Odd"), 0, "c.toml")


@pytest.mark.parametrize("here", [True, False])
def test_odd_verifiers_have_a_verdict_or_a_failure(odd: Task, here: bool) -> None:
    expected: dict[str, Verdict | str] = {
        "mute": "it raised Mute: (an error without a message that could be read)",
        "surrogates": Verdict(1.0, "\ud800 \udc80"),
        "long": Verdict(1.0, "x" * 10_000_000),
        "subclass": Verdict(1.0, "y"),
        "bad subclass": "it raised TypeError: a verdict's score is a number in [0, 1]; found '1'",
        "control": "it raised ValueError: \\x1b[2J\\x9b31m second line",
        "notes": f"it raised ValueError: {'a' * 500}",
        "cancelled": "it raised CancelledError",
        "group": "it raised BaseExceptionGroup: many (1 sub-exception)",
        "lambda": "it raised TypeError: grade() returned function, not a Verdict",
        "class": "it raised TypeError: grade() returned type, not a Verdict",
        "": Verdict(0.5, "z"),
    }
    with Graders(odd, workers=1, here=here) as graders:
        found = graders.grade([(Problem("p", "?"), completion) for completion in expected])
    for verdict, wanted in zip(found, expected.values(), strict=True):
        if isinstance(wanted, Verdict):
            assert verdict == wanted
        else:
            assert isinstance(verdict, Failure)
            assert verdict.reason.startswith(wanted)
            assert all(c.isprintable() or c == "\n" for c in verdict.trace)


# --- the KL term ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "logprob",
    [pytest.param(-95.0, id="F098"), -20.0, -22.1, -60.0, -89.0, -90.5, -110.0, -300.0, -1000.0],
)
def test_the_kl_term_is_finite_far_from_the_reference(logprob: float) -> None:
    policy = torch.tensor([logprob], requires_grad=True)
    value = kl_to_reference(policy, torch.tensor([-2.0]), torch.tensor([-2.0]), cap=4.0)
    value.sum().backward()
    assert value.item() == pytest.approx(1.0, abs=1e-5)
    assert policy.grad is not None
    assert abs(policy.grad.item()) < 1e-5
