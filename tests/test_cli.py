"""The command: what it prints, what it touches, and how it ends."""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w

from fastslow import cli
from fastslow import config as configuration
from fastslow.run.jsonl import read_lines
from tiny_run import outcome, tiny_config, write_task

PNG = b"\x89PNG\r\n\x1a\n"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def fastslow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fastslow", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture
def write(tmp_path: Path, tiny_model_dir: Path, task: str) -> Callable[..., Path]:
    """Write the tiny run's configuration, with changes, to a file."""

    def make(**changes: Any) -> Path:
        path = tmp_path / "c.toml"
        config = tiny_config(tiny_model_dir, task, tmp_path / "runs", **changes)
        path.write_text(tomli_w.dumps({k: v for k, v in config.items() if v is not None}))
        return path

    return make


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, task: str) -> Path:
    """The folder of two finished runs, "rl" and "fst". Read them, and leave them as they are."""
    from fastslow.training import train

    folder = tmp_path_factory.mktemp("runs")
    for method in ("rl", "fst"):
        changes = {"method": method, "name": method, "steps": 2}
        train(tiny_config(tiny_model_dir, task, folder, **changes), console=False)
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below ``folder`` with its time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


# Help.


def test_help_answers_at_once_and_without_torch() -> None:
    """Measured in time of the processor, which a busy machine does not lengthen."""
    code = (
        "import sys; sys.argv = ['fastslow', '--help']\n"
        "from fastslow.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'numpy', 'matplotlib', 'gepa'}\n"
        "    print('imported:', *sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    fastest = math.inf
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert done.returncode == 0
        assert done.stderr.strip() == "imported:"
        for name in ("train", "resume", "eval", "compare", "tasks", "demo"):
            assert name in done.stdout
        fastest = min(fastest, seconds)
        if fastest < 0.5:
            break
    assert fastest < 0.5


def test_the_installed_command_is_this_one() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="fastslow")
    assert script.load() is cli.main


def test_version(fastslow: Command) -> None:
    from importlib.metadata import version

    assert fastslow("--version") == Ended(0, f"fastslow {version('fastslow')}\n", "")


def test_tasks_are_listed_with_their_options(fastslow: Command) -> None:
    done = fastslow("tasks")
    assert done.code == 0
    for words in ("jsonl", "path*", "reasoning_gym", "dataset*", "star_graph", "file.py:ClassName"):
        assert words in done.out


@pytest.mark.parametrize("arguments", [["nonsense"], ["train"], ["train", "a", "--nonsense"]])
def test_wrong_usage_ends_with_2(fastslow: Command, arguments: list[str]) -> None:
    assert fastslow(*arguments).code == 2


# Dry run.


def test_a_dry_run_says_what_would_run_and_touches_nothing(
    fastslow: Command, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(slow={"lora": {"rank": 3}})
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    done = fastslow("train", path, "--dry-run", "--set", "fast.every=1", "--set", "steps=3")
    assert (done.code, done.err) == (0, "")
    assert f"# run:    {tmp_path / 'runs' / 'run'}" in done.out
    assert ": 12 train, 4 validation, 4 test\n# stage:  steps 1-3 on " in done.out
    assert "; 3 of train set aside for demonstrations" in done.out
    assert "gepa over demonstrations: 2 contexts, evolved every 1 steps" in done.out
    assert "cispo on LoRA, 2 problems x 4 rollouts" in done.out
    assert snapshot(tmp_path) == before
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(done.out)
    assert configuration.load(resolved) == configuration.load(path, ["fast.every=1", "steps=3"])


def test_a_dry_run_loads_no_weights(write: Callable[..., Path]) -> None:
    code = (
        "import sys; from fastslow.dry_run import describe; describe(sys.argv[1], []);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, write()]).returncode == 0


# Wrong input: exit code 2, one message, nothing written.


def _without(*keys: str) -> dict[str, Any]:
    return dict.fromkeys(keys)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (_without("model"), ["c.toml: model: this key is missing"]),
        (_without("steps"), ["c.toml: steps is missing"]),
        ({"steps": "four"}, ["c.toml: steps: ", "integer", "found 'four'"]),
        ({"slow": {"goup": 4}}, ["c.toml: slow.goup: unknown key; did you mean 'group'?"]),
        ({"task": {"name": "star_grap"}}, ["c.toml: task.name", "did you mean 'star_graph'?"]),
        (
            {"task": {"name": "reasoning_gym", "dataset": "chain_sun"}},
            ["c.toml: ", "task.dataset", "chain_sum"],
        ),
        (
            {"task": {"name": "star_graph", "arms": 4}},
            ["c.toml: task.arms: unknown key", "Allowed: d, data_seed, l,"],
        ),
        (
            {"fast": {"population": 3}},
            ["c.toml: fast.population is 3", "slow.group, 4", "Allowed here: 1, 2, 4"],
        ),
        ({"model": "no/such/model"}, ['model = "no/such/model"']),
        ({"model": "smollm2-135"}, ['model = "smollm2-135"', "smollm2-135m"]),
        (
            {"task": {"name": "star_graph", "d": 2, "l": 2, "validation": 1000}},
            ["c.toml: task star_graph: no problem is left for train"],
        ),
        (
            {"slow": {"problems": 100}},
            ["c.toml: slow.problems: a batch takes 100 problems", "lower"],
        ),
        ({"policy": {"device": "mps"}}, ["policy.device", "available here: auto"]),
        (
            {"slow": {"lora": {"targets": ["no_layer"]}}},
            ["slow.lora.targets", "no_layer"],
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[0].removeprefix("c.toml: ")[:24],
)
def test_a_wrong_configuration_is_refused(
    fastslow: Command,
    write: Callable[..., Path],
    tmp_path: Path,
    changes: dict[str, Any],
    words: list[str],
) -> None:
    path = write(**changes)
    before = snapshot(tmp_path)
    done = fastslow("train", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fastslow: ")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
    assert snapshot(tmp_path) == before
    assert os.listdir(tmp_path) == ["c.toml"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "data.jsonl: there is no such file"),
        ("", "data.jsonl: the file holds no problem"),
        ('{"question": "1?", "answer": 1}\nno json\n', "data.jsonl: line 2: is not JSON"),
        ('{"question": "1?"}\n', "data.jsonl: line 1: the key 'answer' is missing"),
        ('{"question": "1?", "answer": 1}\n', "no problem is left for train"),
        ('{"question": "1?", "answer": 1}\n' * 8, "no problem is left for train"),
    ],
)
@pytest.mark.parametrize("how", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_wrong_data_are_refused(
    fastslow: Command,
    write: Callable[..., Path],
    tmp_path: Path,
    content: str | None,
    words: str,
    how: list[str],
) -> None:
    data = tmp_path / "data.jsonl"
    if content is not None:
        data.write_text(content)
    path = write(task={"name": "jsonl", "path": str(data), "validation": 1})
    before = snapshot(tmp_path)
    done = fastslow("train", path, *how)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"fastslow: {path}: ")
    assert words in done.err
    assert snapshot(tmp_path) == before


def test_a_split_that_is_evaluated_must_hold_something(
    fastslow: Command, write: Callable[..., Path], tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f'{{"question": "{n}?", "answer": {n}}}\n' for n in range(20)))
    path = write(task={"name": "jsonl", "path": str(data), "validation": 0})
    done = fastslow("train", path)
    assert done.code == 2
    assert done.err.startswith(f"fastslow: {path}: task jsonl: no problem is left for validation")
    assert sorted(os.listdir(tmp_path)) == ["c.toml", "data.jsonl"]
    dry = fastslow("train", path, "--dry-run", "--set", "eval.problems=0")
    assert dry.code == 0
    assert "18 train, 0 validation, 2 test" in dry.out


def test_a_configuration_that_is_not_there(fastslow: Command, tmp_path: Path) -> None:
    done = fastslow("train", tmp_path / "none.toml")
    assert done.code == 2
    assert "none.toml: there is no such configuration file" in done.err


def test_a_wrong_override_is_refused(fastslow: Command, write: Callable[..., Path]) -> None:
    done = fastslow("train", write(), "--set", "slow.grou=4")
    assert done.code == 2
    assert "slow.grou: unknown key; did you mean 'group'?" in done.err


def test_a_folder_that_holds_a_run_is_left_alone(
    fastslow: Command, runs: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(runs)
    monkeypatch.delattr("fastslow.build.open_trainer")  # it is told before a model is loaded
    done = fastslow("train", write(log={"folder": str(runs)}, name="fst"))
    assert (done.code, done.out) == (2, "")
    assert f"`fastslow resume {runs / 'fst'}`" in done.err
    assert snapshot(runs) == before


@pytest.mark.parametrize("command", ["resume", "eval", "compare"])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_is_no_run_is_refused(
    fastslow: Command, tmp_path: Path, command: str, there: bool
) -> None:
    folder = tmp_path / "folder"
    if there:
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    done = fastslow(command, folder)
    assert (done.code, done.out) == (2, "")
    assert str(folder) in done.err
    assert "config.toml" in done.err
    assert snapshot(tmp_path) == before


# Runs.


def test_train_and_resume(
    fastslow: Command, write: Callable[..., Path], runs: Path, tmp_path: Path
) -> None:
    path = write(method="rl")
    done = fastslow("train", path, "--set", "steps=2", "--set", "name=mine")
    folder = tmp_path / "runs" / "mine"
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == f"run: {folder}"
    assert outcome(folder) == outcome(runs / "rl")
    again = fastslow("resume", folder)
    assert (again.code, again.err) == (0, "")
    refused = fastslow("resume", folder, "--set", "seed=7")
    assert refused.code == 2
    assert f"{folder / 'config.toml'}: seed: the run was trained with 0; found 7" in refused.err
    assert outcome(folder) == outcome(runs / "rl")
    longer = fastslow("resume", folder, "--set", "steps=3")
    assert (longer.code, longer.err) == (0, "")
    assert [row["step"] for row in read_lines(folder / "metrics.jsonl")] == [0, 1, 2, 2, 3, 3]


def test_an_interrupted_run_says_how_to_go_on(
    fastslow: Command, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTURB", "3 SIGINT")
    done = fastslow("train", write())
    assert done.code == 130
    assert done.err.startswith("fastslow: stopped by SIGINT")
    assert f"`fastslow resume {tmp_path / 'runs' / 'run'}`" in done.err


def test_an_interrupt_before_a_run_begins_ends_with_130_and_leaves_nothing(
    fastslow: Command, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastslow.build.open_trainer", interrupted)
    done = fastslow("train", write())
    assert done.code == 130
    assert done.err.startswith("fastslow: interrupted")
    assert os.listdir(tmp_path) == ["c.toml"]


def test_a_full_disk_ends_with_1(
    fastslow: Command, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(method="rl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # less than the weights
    try:
        done = fastslow("train", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = tmp_path / "runs" / "run"
    assert done.code == 1
    assert done.err.startswith(f"fastslow: {folder / 'checkpoints/step_000002'} could not")
    assert f"`fastslow resume {folder}`" in done.err
    assert [row["step"] for row in read_lines(folder / "metrics.jsonl")] == [0, 1, 2]
    assert fastslow("resume", folder).code == 0
    assert [row["step"] for row in read_lines(folder / "metrics.jsonl")] == [0, 1, 2, 2, 3, 4, 4]


def test_eval_measures_and_leaves_the_run_as_it_is(fastslow: Command, runs: Path) -> None:
    before = snapshot(runs)
    arguments = ("--split", "test", "--problems", 3, "--samples", 2)
    done = fastslow("eval", runs / "fst", *arguments, "--context", "seed", "--context", "best")
    assert (done.code, done.err) == (0, "")
    lines = [line for line in done.out.splitlines() if "accuracy" in line]
    assert len(lines) == 2
    assert all("test" in line for line in lines)
    assert snapshot(runs) == before


def test_eval_measures_what_the_run_itself_measured(fastslow: Command, runs: Path) -> None:
    rows = [row for row in read_lines(runs / "fst/metrics.jsonl") if row["phase"] == "eval"]
    expected = {row["context"]: row["accuracy"] for row in rows if row["step"] == 2}
    done = fastslow("eval", runs / "fst", "--split", "validation", "--problems", 2)
    for context in ("seed", "best"):
        assert any(
            f"accuracy {expected[context]:.3f}" in line and context in line
            for line in done.out.splitlines()
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "dev"], "fastslow eval: split"),
        (["--samples", "0"], "fastslow eval: samples"),
        (["--context", "worst"], "fastslow eval: contexts"),
    ],
)
def test_wrong_options_of_eval_are_refused(
    fastslow: Command, runs: Path, arguments: list[str], words: str
) -> None:
    done = fastslow("eval", runs / "fst", *arguments)
    assert done.code == 2
    assert words in done.err


def test_compare_shows_runs_and_draws_a_figure(
    fastslow: Command, runs: Path, tmp_path: Path
) -> None:
    figure = tmp_path / "fig.png"
    before = snapshot(runs)
    done = fastslow("compare", runs / "rl", runs / "fst", "-o", figure)
    assert (done.code, done.err) == (0, "")
    rows = [line.split()[0] for line in done.out.splitlines() if line.startswith(("rl", "fst"))]
    assert rows == ["rl", "fst"]
    content = figure.read_bytes()
    assert content.startswith(PNG)
    assert len(content) > 10_000
    assert snapshot(runs) == before


@pytest.mark.parametrize(("name", "words"), [("fig.gif", ".png"), ("file/fig.png", "cannot be")])
def test_a_figure_that_cannot_be_drawn_is_refused(
    fastslow: Command, runs: Path, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "file").touch()
    done = fastslow("compare", runs / "rl", "--output", tmp_path / name)
    assert done.code == 2
    assert name in done.err
    assert words in done.err
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("damage", ["unlink", "empty"])
def test_a_run_without_metrics_is_refused(
    fastslow: Command, runs: Path, tmp_path: Path, damage: str
) -> None:
    (tmp_path / "config.toml").write_bytes((runs / "rl/config.toml").read_bytes())
    if damage == "empty":
        (tmp_path / "metrics.jsonl").touch()
    done = fastslow("compare", tmp_path)
    assert done.code == 2
    assert "nothing was measured yet" in done.err


def test_the_module_runs_as_a_command_too() -> None:
    module = importlib.import_module("fastslow.cli")
    assert Path(str(module.__file__)).name == "cli.py"
    done = subprocess.run(
        [sys.executable, "-m", "fastslow.cli", "--version"], capture_output=True, text=True
    )
    assert json.dumps(done.stdout).startswith('"fastslow ')
