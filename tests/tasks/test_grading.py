from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastslow.config import TaskConfig
from fastslow.curriculum import Curriculum
from fastslow.errors import InputError, RunError
from fastslow.tasks import Task, create, loading
from fastslow.tasks.grading import Graders
from fastslow.tasks.grading_server import work
from fastslow.types import Failure, Problem, Split, Verdict

UNRULY = '''
import os
import signal
import sys
import tempfile
import time

from fastslow.errors import InputError
from fastslow.tasks import Problem, Task, Verdict


class Unruly(Task):
    """Does what the completion says, or else scores the share of the completion that is "a"."""

    grading_seconds = 1.5
    grading_bytes = 200 * 2**20

    def problems(self, split):
        return [Problem("p", "?", "reference")]

    def grade(self, problem, completion):
        match completion.split():
            case ["loop"]:
                while True:
                    pass
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["meet", mine, other]:
                open(mine, "w").close()
                while not os.path.exists(other):
                    time.sleep(0.01)
            case ["exit"]:
                sys.exit("enough")
            case ["_exit"]:
                os._exit(0)
            case ["raise"]:
                raise ValueError("no idea")
            case ["recurse"]:
                return self.grade(problem, completion)
            case ["interrupt"]:
                raise KeyboardInterrupt
            case ["return"]:
                return 1.0
            case ["memory"]:
                bytearray(10**10)
            case ["crash"]:
                os.kill(os.getpid(), signal.SIGSEGV)
            case ["orphan"]:
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            case ["group"]:
                os.killpg(0, signal.SIGKILL)
            case ["fork"]:
                os.fork()
            case ["print"]:
                print('0 {"score": 1.0, "feedback": ""}', flush=True)
                os.write(1, b'0 {"score": 1.0, "feedback": ""}')
            case ["read"]:
                sys.stdin.read()
                input()
            case ["close"]:
                os.closerange(0, 64)
            case ["leave", path]:  # a process outside the group, which holds the pipes open
                if not os.fork():
                    os.setsid()
                    if not os.fork():
                        time.sleep(1)
                        open(path, "w")
                    os._exit(0)
                os._exit(0)
            case ["refuse"]:
                raise InputError("this machine has no sandbox")
            case ["temporary"]:
                return Verdict(0.0, tempfile.mkdtemp())
            case ["pid"]:
                return Verdict(0.0, str(os.getpid()))
            case ["hash"]:
                return Verdict(0.0, str(hash("x")))
        share = completion.count("a") / max(len(completion), 1)
        return Verdict(share, f"{problem.id} {completion}")

    def demonstrate(self, problem):
        return self.grade(problem, problem.question).feedback
'''


@pytest.fixture(scope="module")
def unruly(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("tasks") / "unruly.py"
    path.write_text(UNRULY, encoding="utf-8")
    return create(TaskConfig(name=f"{path}:Unruly"), 0, "c.toml")


@pytest.fixture(scope="module")
def graders(unruly: Task) -> Iterator[Graders]:
    with Graders(unruly, workers=2) as pool:
        yield pool


def pairs(*completions: str) -> list[tuple[Problem, str]]:
    return [(Problem("p", "?", None), completion) for completion in completions]


def servers() -> list[int]:
    """The processes that this one started, as the system tells."""
    found = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="],
                           capture_output=True, text=True).stdout  # fmt: skip
    return [int(line.split()[0]) for line in found.splitlines() if "grading_server" in line]


def test_verdicts_come_back_in_order(graders: Graders, unruly: Task) -> None:
    many = pairs(*(f"{'a' * n}b\n\u2028\ud800\0" for n in range(200)))
    assert graders.grade(many) == [unruly.grade(*pair) for pair in many]
    assert graders.grade([]) == []


def test_slow_and_quick_ones_do_not_change_places(graders: Graders) -> None:
    completions = ["sleep 0.3", "a", "ab", "sleep 0.1", "abbb", "b"]
    found = graders.grade(pairs(*completions))
    assert [verdict.feedback for verdict in found] == [f"p {text}" for text in completions]


def test_two_are_graded_at_a_time(graders: Graders, tmp_path: Path) -> None:
    graders.grade(pairs("a", "a"))
    one, two = tmp_path / "one", tmp_path / "two"
    found = graders.grade(pairs(f"meet {one} {two}", f"meet {two} {one}"))  # each waits for both
    assert all(isinstance(verdict, Verdict) for verdict in found)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("loop", "it took longer than 1.5 seconds"),
        ("sleep 60", "it took longer than 1.5 seconds"),
        ("_exit", "it ended its process"),
        ("memory", "it needed more memory than it may have"),
        ("crash", "it ended its process"),
        ("group", "it ended its process"),
        ("close", "it ended its process"),
    ],
)
def test_a_completion_that_stops_a_verifier_that_works_scores_0(
    graders: Graders, completion: str, reason: str
) -> None:
    first, bad, last = graders.grade(pairs("a", completion, "a"))
    assert first == last == Verdict(1.0, "p a")
    assert isinstance(bad, Verdict)
    assert bad.score == 0.0
    assert f"The answer could not be graded: the verifier was stopped, {reason}" in bad.feedback
    # Of a verifier that reaches no verdict at all nothing is known.
    assert graders.grade(pairs(completion)) == [Failure(reason)]


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("exit", "it called sys.exit"),
        ("raise", "it raised ValueError: no idea"),
        ("recurse", "it raised RecursionError"),
        ("interrupt", "it raised KeyboardInterrupt"),
        ("return", "it raised TypeError: grade() returned float, not a Verdict"),
        ("read", "it raised EOFError"),
    ],
)
def test_a_verifier_that_fails_costs_one_verdict(
    graders: Graders, completion: str, reason: str
) -> None:
    first, bad, last = graders.grade(pairs("a", completion, "a"))
    assert first == last == Verdict(1.0, "p a")
    assert isinstance(bad, Failure)
    assert bad.reason.startswith(reason)
    assert "Traceback" in bad.trace


def test_a_batch_of_nothing_but_trouble_comes_to_an_end(graders: Graders) -> None:
    trouble = ["_exit", "crash", "exit", "raise", "close", "group", "memory", "interrupt"] * 6
    *found, last = graders.grade(pairs(*trouble, "a"))
    fails = [text in ("exit", "raise", "interrupt") for text in trouble]
    assert [isinstance(verdict, Failure) for verdict in found] == fails
    assert {verdict.score for verdict in found if isinstance(verdict, Verdict)} == {0.0}
    assert last == Verdict(1.0, "p a")


@pytest.mark.parametrize("completion", ["fork", "print"])
def test_what_a_verifier_does_on_the_side_changes_no_verdict(
    graders: Graders, completion: str
) -> None:
    assert [v.feedback for v in graders.grade(pairs(completion, "b", "c"))] == [
        f"p {completion}", "p b", "p c",
    ]  # fmt: skip


def test_all_that_a_verifier_started_is_killed(graders: Graders, tmp_path: Path) -> None:
    assert graders.grade(pairs(f"leave {tmp_path / 'left'}")) == [Failure("it ended its process")]
    time.sleep(1.5)
    assert not (tmp_path / "left").exists()


def test_temporary_files_go_with_their_grader(
    unruly: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Graders(unruly, workers=1) as graders:
        (kept,) = graders.grade(pairs("temporary"))
        assert Path(kept.feedback).is_relative_to(tmp_path)
        assert Path(kept.feedback).exists()
        graders.grade(pairs("_exit"))
        deadline = time.monotonic() + 60  # the server answers first and tidies up then
        while Path(kept.feedback).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not Path(kept.feedback).exists()
        graders.grade(pairs("temporary"))
    assert list(tmp_path.iterdir()) == []


def test_graders_stay_until_they_misbehave(graders: Graders) -> None:
    (before,) = graders.grade(pairs("pid"))
    assert graders.grade(pairs("pid")) == [before]
    graders.grade(pairs("_exit"))  # who is idle and comes first is asked first
    assert graders.grade(pairs("pid")) != [before]


def test_hashes_do_not_depend_on_the_process(unruly: Task, graders: Graders) -> None:
    with Graders(unruly, workers=1) as other:
        assert other.grade(pairs("hash")) == graders.grade(pairs("hash"))


def test_demonstrations_are_made_there_too(graders: Graders) -> None:
    assert graders.demonstrate(Problem("q", "ab")) == "q ab"
    assert graders.demonstrate(Problem("q", "loop")) is None
    assert graders.demonstrate(Problem("q", "_exit")) is None


def test_a_system_that_cannot_grade_stops_the_run(graders: Graders) -> None:
    with pytest.raises(InputError, match="this machine has no sandbox"):
        graders.grade(pairs("a", "refuse", "a"))
    assert graders.grade(pairs("a"))[0].score == 1.0


def test_failures_are_told_the_first_with_its_traceback(
    unruly: Task, caplog: pytest.LogCaptureFixture
) -> None:
    with Graders(unruly, workers=1) as graders:
        graders.grade(pairs(*["raise"] * 5))
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition("(")[2].partition(")")[0] for text in told] == [
        "failure 1", "failure 2", "failure 4",
    ]  # fmt: skip
    assert 'raise ValueError("no idea")' in told[0]
    assert "Traceback" not in told[1]


def test_nothing_starts_before_it_is_needed_and_nothing_stays(unruly: Task) -> None:
    before = servers()
    with Graders(unruly, workers=1) as graders:
        assert servers() == before
        graders.grade(pairs("a"))
        (server,) = set(servers()) - set(before)
    assert server not in servers()
    assert graders.grade(pairs("a"))[0].score == 1.0  # it starts again if need be
    graders.close()
    assert servers() == before


def test_a_server_that_is_killed_is_replaced(unruly: Task) -> None:
    before = servers()
    with Graders(unruly, workers=2) as graders:
        graders.grade(pairs("a"))
        (server,) = set(servers()) - set(before)
        os.kill(server, signal.SIGKILL)
        assert [v.score for v in graders.grade(pairs("a", "b"))] == [1.0, 0.0]


def test_a_server_that_does_not_start_ends_the_run(
    unruly: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Graders(unruly) as graders, pytest.raises(RunError, match=r"did not start: .* with 1"):
        graders.grade(pairs("a"))


def test_servers_that_are_killed_time_after_time_end_the_run(unruly: Task) -> None:
    before = servers()
    with Graders(unruly, workers=1) as graders:
        with pytest.raises(RunError, match="Unruly: the process that grades was killed 3 times"):
            graders.grade(pairs("a", "orphan"))
        assert servers() == before


def test_an_interruption_leaves_nothing_half_done(unruly: Task) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    before = servers()
    try:
        with Graders(unruly, workers=1) as graders:
            graders.grade(pairs("a"))
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                graders.grade(pairs(*["sleep 1"] * 3))
            assert servers() == before
            assert [v.feedback for v in graders.grade(pairs("b"))] == ["p b"]
    finally:
        signal.signal(signal.SIGALRM, handler)


def test_large_batches_do_not_block(graders: Graders) -> None:
    text = "a" * 500_000  # far beyond what a pipe holds, both ways
    found = graders.grade(pairs(*[text] * 20))
    (feedback,) = {verdict.feedback for verdict in found}
    assert feedback.startswith("p aaa")
    assert len(feedback) < 21_000


class Unfit(Task):
    """A task that cannot travel."""

    name = "unfit"

    def __init__(self) -> None:
        self.grader: Callable[[str], float] = lambda completion: float(completion == "a")

    def problems(self, split: Split) -> list[Problem]:
        return []

    def grade(self, problem: Problem, completion: str) -> Verdict:
        return Verdict(self.grader(completion), str(os.getpid()))


def test_a_task_that_cannot_travel_is_graded_here_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Graders(Unfit()) as graders:
        for _ in range(2):
            assert [v.score for v in graders.grade(pairs("a", "b"))] == [1.0, 0.0]
        assert graders.grade(pairs("a"))[0].feedback == str(os.getpid())
    (record,) = caplog.records
    assert "unfit: completions are graded in this process" in record.getMessage()


NOTEBOOK = """
from fastslow.tasks import Problem, Task, Verdict, register
from fastslow.tasks.grading import Graders

@register("mine")
class Mine(Task):
    def problems(self, split): return []
    def grade(self, problem, completion): return Verdict(1.0, problem.id)

class Reference: pass

with Graders(Mine()) as graders:
    print(graders.grade([(Problem("p", "?", Reference()), "a")]))
"""


def test_a_task_of_a_notebook_is_graded_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "[Verdict(score=1.0, feedback='p')]\n"
    assert "mine: completions are graded in this process" in done.stderr


def test_problems_of_a_class_that_only_the_run_knows_are_graded_here(
    unruly: Task, caplog: pytest.LogCaptureFixture
) -> None:
    with Graders(unruly) as graders:
        reference: Callable[[], None] = lambda: None  # noqa: E731
        assert graders.grade([(Problem("p", "?", reference), "a")])[0].score == 1.0
        assert graders.grade(pairs("a"))[0].score == 1.0
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"name": "star_graph", "train": 2, "validation": 1, "test": 0},
        {"name": "reasoning_gym", "dataset": "basic_arithmetic", "train": 2, "validation": 1},
        {"name": "reasoning_gym", "dataset": "letter_counting", "train": 2, "validation": 1},
        {"name": "jsonl", "path": "q.jsonl", "verifier": "exact", "validation": 1, "test": 0},
        {"name": "jsonl", "path": "q.jsonl", "verifier": "choice", "validation": 1, "test": 0},
    ],
    ids=str,
)
def test_tasks_travel_without_their_problems(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"q{n}", "answer": "B"} for n in range(2000)]
    Path("q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = create(TaskConfig(**options), 0, "c.toml")
    problem = task.problems("train")[0]
    sent = pickle.dumps(task)
    assert len(sent) < 5000
    Path("q.jsonl").unlink()  # nothing is read again
    other = pickle.loads(sent)
    for completion in ("no", task.demonstrate(problem) or ""):
        assert other.grade(problem, completion) == task.grade(problem, completion)


def test_a_run_s_tasks_grade_elsewhere_as_long_as_it_lasts(unruly: Task) -> None:
    both = Curriculum({"one": unruly, "two": unruly})
    problems = [both.problems(name, "train")[0] for name in ("one", "two", "one")]
    asked = [(problem, "pid") for problem in problems]
    here = [str(os.getpid())] * 3
    with both.isolated():
        pids = [verdict.feedback for verdict in both.grade(asked)]
        assert both.demonstrate(problems[1]) == "p ?"
    assert not {pids[0], pids[2]} & {pids[1]}  # each task has its own
    assert not set(pids) & set(here)
    assert [verdict.feedback for verdict in both.grade(asked)] == here


def test_the_server_imports_nothing_heavy() -> None:
    code = (
        "import sys; import fastslow.tasks.grading_server, fastslow.tasks.grading\n"
        "heavy = {'torch', 'transformers', 'numpy', 'reasoning_gym'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_work_says_what_became_of_an_item() -> None:
    task, problem = Unfit(), Problem("p", "?")
    assert work(task, problem, "a") == {"score": 1.0, "feedback": str(os.getpid())}
    assert work(task, problem, None) == {"text": None}
    task.grader = lambda _: 2.0
    found = work(task, problem, "a")
    assert found["fault"] == "a verdict's score lies in [0, 1]; found 2.0"
    assert found["trace"].startswith("Traceback")


def test_files_that_were_loaded_are_known(unruly: Task) -> None:
    assert any(path.endswith("unruly.py") for path in loading.loaded_files())


def test_a_key_in_what_is_raised_does_not_get_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-0123456789abcdef")
    task, problem = Unfit(), Problem("p", "?")
    task.grader = _quote_the_key
    found = work(task, problem, "a")
    assert found["failed"].startswith("it raised KeyError: 'no such key: ***")
    assert "sk-0123456789abcdef" not in json.dumps(found)


def _quote_the_key(_: str) -> float:
    raise KeyError(f"no such key: {os.environ['JUDGE_API_KEY']}")
