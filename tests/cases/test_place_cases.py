"""Where a run stands, what it is shown on, and what has changed since: nothing is assumed of it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w

from conftest import write_tiny_model
from fastslow import cli
from fastslow import config as configuration
from fastslow.errors import InputError
from fastslow.run.inputs import read_inputs
from fastslow.run.inside import load_config
from fastslow.run.jsonl import read_lines
from fastslow.training import resume, train
from fastslow.trust import remember
from tiny_run import tiny_config

QUESTIONS = [{"question": f"What is {n} and one?", "answer": str(n + 1)} for n in range(40)]

TASK = """
from fastslow.tasks import Problem, Task, Verdict
from helper_mod import share

class Letters(Task):
    def problems(self, split):
        first, count = {"train": (0, 12), "validation": (12, 4), "test": (16, 4)}[split]
        return [Problem(f"p{n}", f"Write {n}.", str(n)) for n in range(first, first + count)]

    def grade(self, problem, completion):
        from helper_lazy import FEEDBACK  # beside the file as well, but not needed to load it
        return Verdict(share(completion), FEEDBACK)
"""
HELPER = "def share(text):\n    return round(sum(map(str.isascii, text)) / max(len(text), 1), 2)\n"
LAZY = "FEEDBACK = 'Write.'\n"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def fastslow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fastslow", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    return run


def write_questions(path: Path, rows: Sequence[dict[str, Any]] = QUESTIONS) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_inputs(folder: Path) -> None:
    """A model, a data file and a task's file with modules beside it."""
    write_tiny_model(folder / "tiny")
    write_questions(folder / "q.jsonl")
    for name, text in (("letters", TASK), ("helper_mod", HELPER), ("helper_lazy", LAZY)):
        (folder / f"{name}.py").write_text(text)


def settings(**changes: Any) -> dict[str, Any]:
    """A run of one step whose paths are all relative."""
    small = {"method": "rl", "steps": 1, "log": {"tensorboard": False}}
    config = tiny_config(Path("tiny"), "letters.py:Letters", Path("runs"), **{**small, **changes})
    return {key: value for key, value in config.items() if value is not None}


@pytest.fixture(scope="module")
def began(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with inputs and two runs of one step: "own" on a task's file, "rows" on data."""
    folder = tmp_path_factory.mktemp("began")
    write_inputs(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        train(settings(name="own"), console=False)
        rows = {"name": "jsonl", "path": "q.jsonl"}
        train({**settings(name="rows"), "task": rows}, console=False)
    return folder


@pytest.fixture
def place(began: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``began`` that knows itself as the folder it was begun in."""
    folder = tmp_path / "place"
    shutil.copytree(began, folder)
    for record in folder.rglob("inputs.json"):
        if record.parent.parent.name != "checkpoints":  # those are checked by their digests
            record.write_text(record.read_text().replace(str(began), str(folder)))
    with contextlib.chdir(folder):
        remember(load_config(folder / "runs/own"))  # its task's file is here now
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def steps_of(run: Path) -> int:
    return max(row["step"] for row in read_lines(run / "metrics.jsonl"))


# The folder that a command is given in.


@pytest.mark.parametrize("name", ["own", "rows"], ids=["F077-own", "F077-rows"])
def test_a_run_goes_on_from_any_folder(place: Path, name: str, fastslow: Command) -> None:
    run = place / "runs" / name
    measured = fastslow("eval", run, "--problems", 2, "--samples", 3)
    assert measured.code == 0, measured.err
    relative = os.path.relpath(run)
    assert fastslow("resume", relative, "--set", "steps=2").code == 0
    assert steps_of(run) == 2
    assert Path.cwd().name == "elsewhere"
    assert not any(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        pytest.param("rows", {"task.path": "q.jsonl"}, id="F077-data"),
        pytest.param("rows", {"model": "tiny"}, id="F077-model"),
        pytest.param("own", {"task.name": "letters.py:Letters"}, id="F077-task"),
        pytest.param("own", {"model": "tiny", "task.name": "letters.py:Letters"}, id="F077-both"),
    ],
)
def test_a_file_that_was_moved_is_asked_for_and_can_be_named(
    place: Path, name: str, moves: dict[str, str], fastslow: Command
) -> None:
    run = place / "runs" / name
    moved = []
    for key, text in moves.items():
        file, _, suffix = text.partition(":")
        (place / file).rename(place.parent / "elsewhere" / file)
        if file.endswith(".py"):
            for helper in ("helper_mod.py", "helper_lazy.py"):
                (place / helper).rename(place.parent / "elsewhere" / helper)
        moved += ["--set", f"{key}={file}{':' * bool(suffix)}{suffix}"]
    for command in ("eval", "resume"):
        refused = fastslow(command, run)
        assert refused.code == 2
        assert f"--set {next(iter(moves))}=" in refused.err
    assert fastslow("eval", run, "--problems", 1, *moved).code == 0
    assert fastslow("resume", run, "--set", "steps=2", *moved).code == 0
    assert steps_of(run) == 2
    tasks = {row["task"] for row in read_lines(run / "metrics.jsonl") if row["phase"] == "eval"}
    assert len(tasks) == 1  # a moved file does not rename its task
    # The record knows from now on, so that nobody says it twice.
    assert set(read_inputs(run).moved) == set(moves)
    assert fastslow("resume", run, "--set", "steps=3").code == 0


def test_a_run_whose_folder_is_gone_looks_in_the_working_directory(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place.rename(place.with_name("renamed"))
    monkeypatch.chdir(other)
    resume("runs/rows", ["steps=2"], console=False)
    assert steps_of(other / "runs" / "rows") == 2


@pytest.mark.parametrize("case", ["F076"])
def test_home_is_expanded(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch, fastslow: Command
) -> None:
    monkeypatch.setenv("HOME", str(place))
    config = settings(name="tilde")
    config |= {"model": "~/tiny", "log": {"folder": "~/fsruns", "tensorboard": False}}
    for number, task in enumerate(
        ({"name": "jsonl", "path": "~/q.jsonl"}, {"name": "~/letters.py:Letters"})
    ):
        Path("c.toml").write_text(tomli_w.dumps({**config, "task": task, "name": f"n{number}"}))
        assert fastslow("train", "c.toml").code == 0
    assert sorted(path.name for path in (place / "fsruns").iterdir()) == ["n0", "n1"]
    assert [path.name for path in Path.cwd().iterdir()] == ["c.toml"]
    assert fastslow("compare", "~/fsruns/n0", "-o", "~/both.json").code == 0
    assert (place / "both.json").exists()
    assert fastslow("eval", "~/fsruns/n0", "--problems", 1).code == 0


def test_an_unknown_home_is_told() -> None:
    with pytest.raises(
        InputError, match=r"log.folder: there is no home folder for '~no-such-user/x'"
    ):
        configuration.parse({**settings(), "log": {"folder": "~no-such-user/x"}})


@pytest.mark.parametrize("case", ["F078"])
def test_a_module_beside_a_task_file_is_found(case: str, place: Path) -> None:
    """While the file is loaded, in its functions, and in the processes that grade."""
    rollouts = [row for row in read_lines(place / "runs/own/metrics.jsonl") if "reward/mean" in row]
    assert rollouts
    assert all(row.get("verdicts/failed", 0) == 0 for row in rollouts)
    assert any(row["reward/mean"] > 0 for row in rollouts)


def test_two_modules_of_one_name_are_refused_in_one_run(place: Path) -> None:
    other = place / "other"
    other.mkdir()
    for name in ("letters.py", "helper_mod.py", "helper_lazy.py"):
        shutil.copy(place / name, other / name)
    mix = [{"task": {"name": f"{folder}/letters.py:Letters"}} for folder in (place, other)]
    config = {**settings(name="two"), "stages": [{"steps": 1, "mix": mix}], "model": "m"}
    del config["task"], config["steps"]
    with pytest.raises(InputError, match="two modules of one name"):
        train(config, console=False)


# The display.


@pytest.fixture(params=["closed pipe", "/dev/full", "closed", "none"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output and error that cannot be written."""
    for name in ("stdout", "stderr"):
        stream: io.TextIOWrapper | None = None
        if request.param == "closed pipe":
            read, write = os.pipe()
            os.close(read)
            stream = os.fdopen(write, "w")
        elif request.param != "none":
            stream = open("/dev/full", "w")  # noqa: SIM115
            if request.param == "closed":
                stream.close()
        monkeypatch.setattr(sys, name, stream)
    return


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("method", [pytest.param("fst", id="F079-F080")])
def test_the_display_does_not_end_a_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(place)
    Path("c.toml").write_text(tomli_w.dumps(settings(name="shown", method=method)))
    for arguments in (
        ("train", "c.toml"),
        ("eval", "runs/shown", "--problems", "1"),
        ("resume", "runs/shown", "--set", "steps=2"),
    ):
        monkeypatch.setattr(sys, "argv", ["fastslow", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code in (0, None)
    assert steps_of(place / "runs/shown") == 2
    assert len(list((place / "runs/shown/checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    ("redirection", "code", "told"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("> /dev/full", 1, "fastslow: standard output could not be written: No space left"),
        ("| true", 0, ""),
        ("| head -1", 0, ""),
    ],
)
def test_output_that_nobody_reads_ends_as_other_tools_do(
    redirection: str, code: int, told: str
) -> None:
    command = f"set -o pipefail; {sys.executable} -m fastslow.cli tasks {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(told)
    assert bool(done.stderr) == bool(told)


# A checkpoint's folder.


@pytest.mark.parametrize("case", ["F072"])
def test_a_checkpoint_is_measured_and_not_gone_on_in(
    case: str, place: Path, fastslow: Command
) -> None:
    run = place / "runs" / "rows"
    resume(run, ["steps=2"], console=False)
    first = run / "checkpoints" / "step_000001"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    measured = fastslow("eval", first, "--problems", 2)
    assert measured.code == 0
    assert "step 1/" in measured.out
    refused = fastslow("resume", first)
    assert refused.code == 2
    assert f"`fastslow resume {run}`" in refused.err
    inside = settings(name="new", model=str(place / "tiny"))
    inside["task"] = {"name": f"{place}/letters.py:Letters"}
    for folder in (first, first / "deeper", run, run / "checkpoints"):
        with pytest.raises(InputError, match="the folder of another run"):
            train({**inside, "log": {"folder": str(folder)}}, console=False)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_checkpoint_that_was_taken_out_of_its_run(place: Path, fastslow: Command) -> None:
    taken = place / "taken"
    shutil.copytree(place / "runs/rows/checkpoints/step_000001", taken)
    assert fastslow("eval", taken, "--problems", 2).code == 0
    refused = fastslow("resume", taken)
    assert refused.code == 2
    assert "give the folder of its run" in refused.err


@pytest.mark.parametrize("path", ["", "q.jsonl", "nowhere", "runs", "runs/rows/checkpoints"])
def test_what_is_no_run_is_told_as_that(place: Path, path: str, fastslow: Command) -> None:
    for command in ("resume", "eval", "compare"):
        refused = fastslow(command, place / path)
        assert refused.code == 2
        assert "is no run" in refused.err


# Inputs that changed.


def spoil_data(folder: Path) -> str:
    write_questions(folder / "q.jsonl", QUESTIONS[:20])
    return "task.path: "


def change_answer(folder: Path) -> str:
    rows = [{**row, "answer": "0"} if n == 7 else row for n, row in enumerate(QUESTIONS)]
    write_questions(folder / "q.jsonl", rows)
    return "task.path: "


def invert_verdict(folder: Path) -> str:
    path = folder / "letters.py"
    path.write_text(path.read_text().replace("share(completion)", "1 - share(completion)"))
    return "task.name: "


def change_helper(folder: Path) -> str:
    (folder / "helper_mod.py").write_text(HELPER.replace("2)", "1)"))
    return "task.name/helper_mod.py: "


def change_lazy_helper(folder: Path) -> str:
    (folder / "helper_lazy.py").write_text("FEEDBACK = 'Do not.'\n")
    return "task.name/helper_lazy.py: "


def change_weights(folder: Path) -> str:
    from safetensors.torch import load_file, save_file

    path = folder / "tiny" / "model.safetensors"
    tensors = {name: tensor * 1.01 for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return "model/model.safetensors: "


def change_template(folder: Path) -> str:
    path = folder / "tiny" / "chat_template.jinja"
    path.write_text(path.read_text() + "{# another #}")
    return "model/chat_template.jinja: "


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("own", invert_verdict, id="F073"),
        pytest.param("own", change_helper, id="F073-helper"),
        pytest.param("own", change_lazy_helper, id="F073-lazy"),
        pytest.param("rows", spoil_data, id="F074"),
        pytest.param("rows", change_answer, id="F074-answer"),
        pytest.param("rows", change_weights, id="F075"),
        pytest.param("rows", change_template, id="F075-template"),
    ],
)
def test_another_input_is_noticed(
    place: Path, name: str, change: Callable[[Path], str], fastslow: Command
) -> None:
    run = place / "runs" / name
    key = change(place)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command in ("resume", "eval"):
        refused = fastslow(command, run)
        assert refused.code == 2, refused
        assert any(f"{run}: {key}was " in line for line in refused.err.splitlines())
        assert "--accept-changes" in refused.err
    assert before.items() <= {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}.items()
    assert fastslow("eval", run, "--problems", 1, "--accept-changes").code == 0
    assert fastslow("resume", run, "--set", "steps=2", "--accept-changes").code == 0
    (accepted,) = read_inputs(run).accepted
    assert accepted.step == 1
    assert any(line.startswith(key) for line in accepted.changes)
    # What was accepted is from then on what the run is trained with.
    assert fastslow("resume", run, "--set", "steps=3").code == 0
    assert len(read_inputs(run / "checkpoints/step_000003").accepted) == 1


def test_a_run_without_a_checkpoint_notices_too(place: Path) -> None:
    run = place / "runs" / "rows"
    shutil.rmtree(run / "checkpoints")
    spoil_data(place)
    with pytest.raises(InputError, match=r"task.path: was .*; is "):
        resume(run, console=False)


@pytest.mark.parametrize("case", ["F075"])
def test_the_base_of_an_adapter_is_noticed(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    train(settings(name="lora", slow={"lora": {"rank": 2}}), console=False)
    change_weights(place)
    with pytest.raises(InputError, match=r"model/model.safetensors: was .*; is "):
        resume("runs/lora", ["steps=2"], console=False)


def test_inputs_that_are_what_they_were_are_not_refused(place: Path) -> None:
    for file in (place / "q.jsonl", place / "letters.py", place / "tiny/model.safetensors"):
        os.utime(file, (0, 0))
    (place / "unrelated.py").write_text("pass")
    (place / "tiny" / "README.md").write_text("words")
    for name in ("own", "rows"):
        resume(place / "runs" / name, ["steps=2"], console=False)


# Settings.

MINIMAL = {"model": "m", "steps": 1, "task": {"name": "star_graph"}}


@pytest.mark.parametrize(
    ("override", "name"),
    [
        pytest.param("name=123", "123", id="F093"),
        ("name=007", "007"),
        ("name=1e3", "1e3"),
        ("name=true", "true"),
        ("name=2024-05-01", "2024-05-01"),
        ('name="quoted"', "quoted"),
        ("name=plain words", "plain words"),
    ],
)
def test_a_text_may_look_like_something_else(override: str, name: str) -> None:
    assert configuration.parse(MINIMAL, [override]).name == name


FLOATS = (
    "policy.temperature", "policy.kv_memory", "slow.lr", "slow.eps", "slow.weight_decay",
    "slow.kl_cap", "slow.kl", "slow.lora.alpha", "fast.reflection.temperature",
    "fast.reflection.timeout",
)  # fmt: skip


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
@pytest.mark.parametrize("key", FLOATS, ids=[f"F094-{key}" for key in FLOATS])
def test_numbers_are_finite(key: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{key}: input should be .*; found {value}"):
        configuration.parse(MINIMAL, [f"{key}={value}"])


@pytest.mark.parametrize(
    "key", ["slow.max_grad_norm", "slow.mismatch_warning", "slow.mismatch_error"]
)
def test_infinity_means_never_where_the_key_says_so(key: str) -> None:
    found = configuration.parse(MINIMAL, [f"{key}=inf"]).slow
    assert getattr(found, key.partition(".")[2]) == math.inf
    with pytest.raises(InputError, match=key):
        configuration.parse(MINIMAL, [f"{key}=nan"])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xef\xbb\xbf" + tomli_w.dumps(MINIMAL).encode(), id="F095"),
        pytest.param(tomli_w.dumps(MINIMAL).replace("\n", "\r\n").encode(), id="crlf"),
    ],
)
def test_a_file_as_other_systems_write_it(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    assert configuration.load(path) == configuration.parse(MINIMAL)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a = " + "[" * 100_000, id="C3-arrays"),
        pytest.param(".".join("a" * 20_000) + " = 1", id="C3-key"),
        pytest.param("a = " + "{a=" * 2_000 + "1" + "}" * 2_000, id="tables"),
        pytest.param("a = [" * 1 + "[" * 100 + "]" * 101, id="hundred"),
        pytest.param("seed = " + "9" * 5_000, id="digits"),
        pytest.param("seed = 0x" + "f" * 5_000, id="hexadecimal"),
        pytest.param("a = 25:00:00", id="time"),
        pytest.param("\0\1\2", id="binary"),
        pytest.param("model = 'm'\rsteps = 3", id="carriage returns"),
    ],
)
def test_a_file_that_no_person_writes_is_answered_in_words(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text, newline="")
    with pytest.raises(InputError) as refused:
        configuration.load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("override", ["a." * 20_000 + "b=1", "seed=0x" + "f" * 5_000])
def test_so_is_an_override(override: str) -> None:
    with pytest.raises(InputError) as refused:
        configuration.parse(MINIMAL, [override])
    assert len(str(refused.value)) < 1000


def test_places_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").touch()
    (tmp_path / "utf16").write_text("model = 'm'", encoding="utf-16")
    for path in (tmp_path, tmp_path / "loop", tmp_path / "empty", tmp_path / "utf16", "/dev/zero",
                 tmp_path / ("n" * 5000), "a\0b", tmp_path / "absent"):  # fmt: skip
        with pytest.raises(InputError):
            configuration.load(path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../victim/escape", id="C4"),
        "a/b", "/tmp/x", "..", ".", "", " ", "a\\b", "a\0b", "n" * 300,
    ],
)  # fmt: skip
def test_a_run_stands_within_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        train({**MINIMAL, "name": name, "log": {"folder": str(tmp_path / "runs")}}, console=False)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["n" * 5000, "a\0b", "[[["])
def test_a_model_that_is_no_path_is_told(value: str) -> None:
    from fastslow.models import resolve

    with pytest.raises(InputError):
        resolve(value)


# Numbers and runs that are shown.


@pytest.mark.parametrize("case", ["F099"])
def test_the_number_of_problems_is_shown(case: str, place: Path, fastslow: Command) -> None:
    done = fastslow("eval", place / "runs/own", "--problems", 4, "--samples", 2)
    assert "(letters.py:Letters test, 4 problems, 8 rollouts)" in done.out.replace(f"{place}/", "")


@pytest.mark.parametrize("case", ["F100"])
def test_compare_leaves_out_what_it_cannot_show(case: str, place: Path, fastslow: Command) -> None:
    runs = place / "runs"
    shutil.copytree(runs / "own", runs / "begun")
    (runs / "begun" / "metrics.jsonl").write_text("")
    (runs / "studies").mkdir()
    (runs / "picture.png").touch()
    shutil.copytree(runs / "own", runs / "damaged")
    (runs / "damaged" / "metrics.jsonl").write_text("{no json\n" * 3)
    (runs / "loop").symlink_to(runs / "loop")
    shutil.copytree(runs / "own" / "checkpoints" / "step_000001", runs / "checkpoint")
    done = fastslow("compare", *sorted(runs.iterdir()), "-o", place / "out.json")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()[2:4]] == ["own", "rows"]
    left_out = ("begun", "checkpoint", "damaged", "loop", "picture.png", "studies")
    for name, line in zip(left_out, done.err.splitlines(), strict=True):
        assert line.startswith(f"left out: {runs / name}")
    alone = fastslow("compare", runs / "begun", runs / "studies")
    assert alone.code == 2
    assert "nothing was measured yet" in alone.err
    assert "is no run" in alone.err
