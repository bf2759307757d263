"""Whole studies of the tiny model: what they run, what they share, and that nothing stops them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w

from fastslow import cli
from fastslow.errors import RunError
from fastslow.run.jsonl import read_lines
from fastslow.run.record import read_run
from fastslow.run.toml import to_toml
from fastslow.studies import STUDIES
from fastslow.studies.execute import status
from fastslow.studies.prepare import Prepared, prepare
from tiny_run import outcome, tiny_config, write_task


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]
Write = Callable[..., Path]

REPOSITORY = Path(__file__).parents[2]

EMPTY = {"name": "star_graph", "d": 2, "l": 4, "train": 64, "validation": 8, "test": 0}
"""A task without problems to test on."""


@pytest.fixture
def fastslow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``fastslow study`` in this process, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fastslow", "study", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture
def write(tmp_path: Path, tiny_model_dir: Path, task: str) -> Write:
    """Write a configuration of two slow steps, with ``study`` as its table and other changes."""

    def make(study: Any = None, **changes: Any) -> Path:
        path = tmp_path / "c.toml"
        changes = {"steps": 2, "policy": {"max_tokens": 3}, **changes}
        config = tiny_config(tiny_model_dir, task, tmp_path / "runs", **changes)
        del config["name"]
        config["study"] = {"seeds": [0]} if study is None else study
        path.write_text(tomli_w.dumps({k: v for k, v in config.items() if v is not None}))
        return path

    return make


@pytest.fixture
def then(task: str) -> dict[str, Any]:
    """The [study] table of plasticity: one step of RL on the same problems."""
    return {"seeds": [0], "then": {"steps": 1, "task": {"name": task}}}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def paths(prepared: Prepared) -> dict[str, Path]:
    return {run.role: run.path for run in prepared.plan.runs}


def result(prepared: Prepared, name: str) -> Any:
    return json.loads((prepared.folder / name).read_text())


def no_policy(*_: Any, **__: Any) -> None:
    raise AssertionError("a policy was built")


# Studies from beginning to end.


def test_a_study_is_run_once_and_shares_its_runs(
    fastslow: Command, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    done = fastslow("efficiency", path)
    assert (done.code, done.err) == (0, "")
    prepared = prepare("efficiency", path, [])
    assert {path.name for path in prepared.folder.iterdir()} == {
        *("plan.json", "results.json", "claims.json", "figure.png", "figure.svg", "lock")
    }
    plan = result(prepared, "plan.json")
    assert [(run["role"], run["seed"], run["after"]) for run in plan["runs"]] == [
        ("rl", 0, None),
        ("fst", 0, None),
        ("fast", 0, None),
    ]
    for number, (spec, run) in enumerate(zip(prepared.plan.runs, plan["runs"], strict=True), 1):
        assert run["folder"] == str(spec.path)
        assert read_run(spec.path).config == spec.resolved
        assert status(spec) == "finished"
        assert f"[{number}/3] {spec.role}, seed 0: trains {spec.path} (at most " in done.out
    assert "of training left at most" in done.out
    rows = result(prepared, "results.json")["rows"]
    assert [(row["role"], row["run"]) for row in rows] == [
        (run.role, run.path.name) for run in prepared.plan.runs
    ]
    assert result(prepared, "results.json")["missing"] == []
    for claim in result(prepared, "claims.json"):
        assert claim["holds"] == "undecided"  # of one seed
        assert claim["command"] == f"fastslow study efficiency {path}" == prepared.command
        assert claim["runs"] == [paths(prepared)[role].name for role in ("fst", "rl")]
    assert "FST reaches RL's peak with 3 times fewer problems" in done.out
    assert (prepared.folder / "figure.png").read_bytes().startswith(b"\x89PNG")

    before = snapshot(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("fastslow.build.open_trainer", no_policy)
        again = fastslow("efficiency", path)
        shared = fastslow("star-graph", path)
    assert (again.code, shared.code) == (0, 0)
    assert again.out.count("reuses") == 3
    assert shared.out.count("reuses") == 2
    after = snapshot(tmp_path)
    assert {name: content for name, (_, content) in before.items()}.items() <= {
        name: content for name, (_, content) in after.items()
    }.items()
    assert not [name for name in before if "studies" not in name and before[name] != after[name]]


def test_an_evaluation_is_made_once_even_if_another_fails(
    fastslow: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastslow import training

    path = write({"seeds": [0], "split": "validation", "problems": 2})
    prepared = prepare("quadrants", path, [])
    evaluate = training.evaluate

    def full_disk(*arguments: Any, base: bool, **more: Any) -> None:
        if base:
            raise RunError("the disk is full")
        evaluate(*arguments, base=base, **more)

    with monkeypatch.context() as patched:
        patched.setattr("fastslow.training.evaluate", full_disk)
        failed = fastslow("quadrants", path)
    assert failed.code == 1
    assert "with base weights: the disk is full" in failed.err
    kept = result(prepared, "results.json")["rows"]
    assert {row["weights"] for row in kept} == {"trained"}

    done = fastslow("quadrants", path)
    assert (done.code, done.err) == (0, "")
    assert "with base weights" in done.out
    assert "with trained weights" not in done.out
    (spec,) = prepared.plan.runs
    rows = result(prepared, "results.json")["rows"]
    assert [(row["weights"], row["context"], row["run"]) for row in rows] == [
        (weights, context, spec.path.name)
        for weights in ("base", "trained")
        for context in ("seed", "best")
    ]
    assert rows[2:] == kept
    accuracy = {(row["weights"], row["context"]): row["accuracy"] for row in rows}
    own = read_run(spec.path).rows("eval")
    assert accuracy["base", "seed"] == own[0]["accuracy"]
    for context in ("seed", "best"):
        last = [row["accuracy"] for row in own if row["context"] == context][-1]
        assert accuracy["trained", context] == last
    assert json.loads((spec.path / "quadrants.json").read_text()) == rows
    assert sorted(map(str, read_lines(prepared.folder / "evaluations.jsonl"))) == sorted(
        map(str, rows)
    )

    monkeypatch.setattr("fastslow.build.open_trainer", no_policy)
    again = fastslow("quadrants", path)
    assert (again.code, again.err) == (0, "")
    assert result(prepared, "results.json")["rows"] == rows


def test_other_tasks_are_evaluated(fastslow: Command, write: Write, task: str) -> None:
    path = write({"seeds": [0], "tasks": {"other": {"name": task}}, "problems": 2})
    done = fastslow("ood", path, "--set", "study.split=validation")
    assert (done.code, done.err) == (0, "")
    rows = result(prepare("ood", path, ["study.split=validation"]), "results.json")["rows"]
    assert [(row["role"], row["weights"], row["task"], row["split"]) for row in rows] == [
        (role, weights, "other", "validation")
        for role, weights in (("rl", "base"), ("rl", "trained"), ("fst", "trained"))
    ]


def test_drift_is_told_under_every_context(fastslow: Command, write: Write) -> None:
    path = write(eval={"contexts": ["seed", "best"]})
    done = fastslow("drift", path)
    assert (done.code, done.err) == (0, "")
    rows = result(prepare("drift", path, []), "results.json")["rows"]
    assert [(row["role"], row["step"], row["context"]) for row in rows] == [
        ("rl", 0, "seed"),
        ("rl", 2, "seed"),
        ("fst", 0, "seed"),
        ("fst", 2, "seed"),
        ("fst", 2, "best"),
        ("fst", 2, "population"),
    ]
    for row in rows:
        assert row["drift/sequence"] >= row["drift/exact"] >= -1e-6
        assert {"drift/k1", "drift/k3", "entropy"} <= row.keys()


# What fails, and what is stopped.


def test_a_run_that_fails_is_told_and_the_others_go_on(
    fastslow: Command, write: Write, then: dict[str, Any]
) -> None:
    path = write(then)
    prepared = prepare("plasticity", path, [])
    folder = paths(prepared)["rl"]
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    done = fastslow("plasticity", path)
    assert done.code == 1
    assert done.err.startswith("fastslow: study plasticity: 2 of its runs")
    assert f"rl, seed 0: {folder}: is not empty and holds no run" in done.err
    assert f"rl -> rl, seed 0: begins from {folder.name}, which is missing" in done.err
    assert f"`fastslow study plasticity {path}` tries these again" in done.err
    assert "[1/5] rl, seed 0: failed: " in done.out
    results = result(prepared, "results.json")
    assert {row["role"] for row in results["rows"]} == {"fst", "base -> rl", "fst -> rl"}
    assert [missing["what"] for missing in results["missing"]] == ["rl, seed 0", "rl -> rl, seed 0"]
    claim = result(prepared, "claims.json")[1]
    assert claim["readings"] == [{"seed": 0, "missing": "no finished run of rl -> rl"}]

    shutil.rmtree(folder)
    again = fastslow("plasticity", path)
    assert (again.code, again.err) == (0, "")
    assert again.out.count("reuses") == 3
    assert again.out.count("trains") == 2
    found = {role: read_run(folder) for role, folder in paths(prepared).items()}
    for role, first in (("rl -> rl", "rl"), ("fst -> rl", "fst")):
        assert found[role].config.model == str(found[first].path / "checkpoints/step_000002")
        ends = [row for row in found[first].rows("eval") if row["context"] == "seed"]
        assert found[role].rows("eval")[0]["accuracy"] == ends[-1]["accuracy"]
        assert (found[role].slow_steps, found[role].config.method) == (1, "rl")
    assert found["base -> rl"].base_accuracy == found["rl"].base_accuracy


def test_what_is_finished_can_be_concluded_from_alone(
    fastslow: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"seeds": [0, 1]})
    assert fastslow("star-graph", path, "--set", "study.seeds=[0]").code == 0
    monkeypatch.setenv("DISTURB", "30 SIGINT")
    assert fastslow("star-graph", path, "--set", "study.seeds=[1]").code == 130
    monkeypatch.delenv("DISTURB", raising=False)
    prepared = prepare("star-graph", path, [])
    states = [status(spec) for spec in prepared.plan.runs]
    monkeypatch.setattr("fastslow.build.open_trainer", no_policy)
    done = fastslow("star-graph", path, "--conclude")
    assert (done.code, done.err) == (0, "")
    assert [status(spec) for spec in prepared.plan.runs] == states
    finished = [spec for spec, s in zip(prepared.plan.runs, states, strict=True) if s == "finished"]
    assert done.out.count("is finished: ") == len(finished) >= 2
    missing = result(prepared, "results.json")["missing"]
    assert {m["why"] for m in missing} <= {"is not finished", "is not begun"}
    assert f"missing: {len(states) - len(finished)} runs" in done.out
    assert {claim["holds"] for claim in result(prepared, "claims.json")} == {"undecided"}


def test_evaluations_are_not_made_to_conclude(fastslow: Command, write: Write) -> None:
    path = write()
    assert fastslow("star-graph", path).code == 0
    done = fastslow("quadrants", path, "--conclude")
    assert (done.code, done.err) == (0, "")
    results = result(prepare("quadrants", path, []), "results.json")
    assert results["rows"] == []
    assert [m["why"] for m in results["missing"]] == ["is not made"] * 2


def test_an_error_that_nobody_foresaw_stops_one_run_only(
    fastslow: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastslow import training

    train = training.train

    def break_rl(config: Any, **more: Any) -> Any:
        if config.method == "rl":
            raise ZeroDivisionError("by zero")
        return train(config, **more)

    monkeypatch.setattr("fastslow.training.train", break_rl)
    done = fastslow("star-graph", write())
    assert done.code == 1
    assert "rl, seed 0: ZeroDivisionError: by zero" in done.err
    assert "Traceback" in done.err  # whoever mends it needs the place
    assert "fst, seed 0: trains" in done.out


def test_an_interrupted_study_goes_on(
    fastslow: Command, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(log={"folder": str(tmp_path / "whole")})
    assert fastslow("star-graph", whole).code == 0
    expected = paths(prepare("star-graph", whole, []))

    path = write()
    monkeypatch.setenv("DISTURB", "30 SIGINT")
    done = fastslow("star-graph", path)
    monkeypatch.delenv("DISTURB", raising=False)
    assert done.code == 130
    assert done.err.startswith("fastslow: stopped by SIGINT")
    assert f"`fastslow study star-graph {path}` goes on with the study" in done.err
    again = fastslow("star-graph", path)
    assert (again.code, again.err) == (0, "")
    assert (again.out.count("reuses"), again.out.count("goes on with")) == (1, 1)
    for role, folder in paths(prepare("star-graph", path, [])).items():
        assert outcome(folder) == outcome(expected[role])


def test_what_counts_as_finished(fastslow: Command, write: Write) -> None:
    path = write()
    assert fastslow("quadrants", path, "--set", "study.problems=1").code == 0
    (spec,) = prepare("quadrants", path, []).plan.runs
    before = outcome(spec.path)
    metrics = spec.path / "metrics.jsonl"

    # Killed between the last two evaluations.
    metrics.write_bytes(b"".join(metrics.read_bytes().splitlines(keepends=True)[:-1]))
    assert status(spec) == "unfinished"
    done = fastslow("quadrants", path, "--set", "study.problems=1")
    assert done.code == 0
    assert f"goes on with {spec.path}" in done.out
    assert outcome(spec.path) == before
    assert status(spec) == "finished"

    shutil.rmtree(spec.path / "checkpoints/step_000002")
    assert status(spec) == "unfinished"
    shutil.rmtree(spec.path)
    assert status(spec) == "to train"


def test_no_earlier_weights_stand_in_for_the_last(fastslow: Command, write: Write) -> None:
    """Damage that nobody could tell from the outside, found when the weights are read."""
    path = write({"seeds": [0], "split": "validation", "problems": 2}, fast={"every": 1})
    assert fastslow("star-graph", path, "--set", "study={seeds=[0]}").code == 0
    prepared = prepare("quadrants", path, [])
    (spec,) = prepared.plan.runs
    assert sorted(os.listdir(spec.path / "checkpoints")) == ["step_000001", "step_000002"]
    weights = spec.last_checkpoint / "model/model.safetensors"
    content, times = weights.read_bytes(), weights.stat()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert status(spec) == "finished"
    failed = fastslow("quadrants", path)
    assert failed.code == 1
    assert f"{spec.last_checkpoint}: this checkpoint is damaged: model/model.safet" in failed.err
    assert f"`fastslow resume {spec.path}` goes on from the one before" in failed.err
    assert result(prepared, "results.json")["rows"] == []

    from fastslow import training

    training.resume(spec.path, console=False)
    assert weights.read_bytes() == content
    assert fastslow("quadrants", path).code == 0


def test_a_folder_of_another_run_is_not_reused(fastslow: Command, write: Write) -> None:
    path = write()
    spec = prepare("star-graph", path, []).plan.runs[0]
    spec.path.mkdir(parents=True)
    other = spec.config.model_copy(
        update={"slow": spec.config.slow.model_copy(update={"kl_cap": 5.0})}
    )
    (spec.path / "config.toml").write_text(to_toml(other))
    done = fastslow("star-graph", path, "--dry-run")
    assert done.code == 2
    assert f"{spec.path / 'config.toml'}: says otherwise in slow than the study" in done.err


# Dry run.


def test_a_dry_run_says_what_is_left_and_touches_nothing(
    fastslow: Command, write: Write, tmp_path: Path
) -> None:
    path = write()
    before = snapshot(tmp_path)
    done = fastslow("ceiling", path, "--dry-run", "--set", "study.seeds=[0,1]")
    assert (done.code, done.err) == (0, "")
    prepared = prepare("ceiling", path, ["study.seeds=[0,1]"])
    for spec in prepared.plan.runs:
        assert spec.path.name in done.out
    assert f"6 runs in {tmp_path / 'runs'}, 0 of them finished" in done.out
    # Slow phases: 2 steps of 2 problems and 4 rollouts, in each of 6 runs. Fast phases, in 4: three
    # passes over 4 anchors, and 3 proposals of 2 anchors and 4 probes.
    assert f"at most {6 * 16 + 4 * (12 + 3 * 6)} rollouts" in done.out
    assert f"results: {prepared.folder}" in done.out
    assert snapshot(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["c.toml"]


def test_a_dry_run_knows_what_is_finished(fastslow: Command, write: Write, tmp_path: Path) -> None:
    path = write()
    assert fastslow("quadrants", path, "--set", "study.problems=1").code == 0
    before = snapshot(tmp_path)
    done = fastslow("star-graph", path, "--dry-run")
    assert f"2 runs in {tmp_path / 'runs'}, 1 of them finished" in done.out
    assert "at most 16 rollouts" in done.out
    assert snapshot(tmp_path) == before


def test_showing_and_concluding_are_two_things(
    fastslow: Command, write: Write, tmp_path: Path
) -> None:
    done = fastslow("efficiency", write(), "--dry-run", "--conclude")
    assert done.code == 2
    assert "--dry-run and --conclude" in done.err
    assert "Give one of them" in done.err
    assert os.listdir(tmp_path) == ["c.toml"]


def test_the_help_says_what_every_study_asks(fastslow: Command) -> None:
    done = fastslow("--help")
    assert done.code == 0
    told = " ".join(done.out.split())
    for name, asks in STUDIES.items():
        assert f"{name}: {asks}" in told
    assert "a table [study] or without" in done.out


# Wrong input.


@pytest.mark.parametrize(
    ("name", "study", "changes", "words"),
    [
        ("efficency", {}, {}, "there is no study 'efficency'. Allowed: efficiency, ceiling"),
        (
            "efficiency",
            {"sedes": [0]},
            {},
            "c.toml: study.sedes: unknown key; did you mean",
        ),
        ("efficiency", {"seeds": []}, {}, "c.toml: study.seeds: "),
        ("efficiency", {"seeds": [1, 1]}, {}, "c.toml: study.seeds: names a seed twice: [1, 1]"),
        ("efficiency", {"seeds": [-1]}, {}, "c.toml: study.seeds.0: "),
        ("efficiency", {"ratio": 0}, {}, "c.toml: study.ratio: "),
        ("efficiency", 3, {}, "c.toml: study: is a value; found 3"),
        ("efficiency", {}, {"eval": {"problems": 0}}, "c.toml: eval.problems is 0"),
        ("efficiency", {}, {"eval": {"contexts": ["seed"]}}, "c.toml: eval.contexts lacks best"),
        ("efficiency", {}, {"slow": {"goup": 1}}, "c.toml: slow.goup: unknown key"),
        ("efficiency", {}, {"model": "no/such/model"}, 'model = "no/such/model"'),
        ("efficiency", {}, {"task": {"name": "star_grap"}}, "did you mean 'star_graph'?"),
        ("efficiency", {}, {"slow": {"problems": 100}}, "c.toml: slow.problems: a batch takes 100"),
        ("plasticity", {}, {}, "c.toml: study.then: this key is missing"),
        ("ood", {}, {}, "c.toml: study.tasks: this key is missing"),
        ("ood", {"tasks": {"x": {"name": "no"}}}, {}, "c.toml: study.tasks.x: "),
        ("ablations", {"population": [3]}, {}, "c.toml: the run 'fast.population=3': "),
        ("ablations", {"baseline": ["none"]}, {}, "c.toml: study.baseline.0: "),
        (
            "plasticity",
            {"then": {"task": {"name": "star_grap"}}},
            {},
            "c.toml: the run 'base -> rl': task.name: unknown task 'star_grap'",
        ),
        (
            "ood",
            {"tasks": {"hard": EMPTY}},
            {},
            "c.toml: study.split: a study evaluates on it; found 'test', of which task hard",
        ),
        ("quadrants", {}, {"task": EMPTY}, "found 'test', of which task star_graph holds no"),
        (
            "efficiency",
            {},
            {"task": EMPTY, "eval": {"split": "test"}},
            "c.toml: eval.split: a study evaluates on it; found 'test', of which task star_graph",
        ),
        ("continual", {}, {}, "c.toml: study continual takes several tasks"),
        ("quadrants", {"split": "train"}, {}, "c.toml: study.split: "),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_input_is_told_before_anything_is_run(
    fastslow: Command,
    write: Write,
    tmp_path: Path,
    name: str,
    study: Any,
    changes: dict[str, Any],
    words: str,
) -> None:
    path = write(study, **changes)
    done = fastslow(name, path)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert os.listdir(tmp_path) == ["c.toml"]


def test_a_study_of_one_task_refuses_several(fastslow: Command, write: Write, task: str) -> None:
    stages = [{"steps": 2, "task": {"name": name}} for name in (task, "star_graph")]
    done = fastslow("efficiency", write(steps=None, task=None, stages=stages))
    assert done.code == 2
    assert "c.toml: study efficiency is about one task; found " in done.err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("study.sedes=[0]", "study.sedes: unknown key"),
        ("study.seeds.x=1", "study.seeds is an array of 1: its elements are 0 to 0"),
        ("study=1", "study: is a value; found 1. Allowed: a table"),
        ("slow.grou=4", "slow.grou: unknown key; did you mean 'group'?"),
    ],
)
def test_wrong_overrides(fastslow: Command, write: Write, override: str, words: str) -> None:
    done = fastslow("efficiency", write(), "--set", override)
    assert done.code == 2
    assert words in done.err


# The configurations that come with the project.


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("sums", ["efficiency", "ceiling", "drift", "quadrants", "ablations", "final-contexts"]),
        ("plasticity", ["plasticity"]),
        ("continual", ["continual"]),
        ("star_graph", ["star-graph"]),
        ("ood", ["ood"]),
    ],
)
def test_every_shipped_file_can_be_studied(file: str, names: list[str]) -> None:
    path = REPOSITORY / f"configs/studies/{file}.toml"
    for name in names:
        assert prepare(name, path, []).plan.runs


def test_every_shipped_file_is_tried_above() -> None:
    (mark,) = test_every_shipped_file_can_be_studied.pytestmark  # type: ignore[attr-defined]
    tried, names = zip(*mark.args[1], strict=True)
    assert {path.stem for path in REPOSITORY.glob("configs/studies/*")} == set(tried)
    assert {name for some in names for name in some} == set(STUDIES)


def test_the_shipped_star_graphs_share_their_runs() -> None:
    folder = REPOSITORY / "configs/studies"
    star = prepare("star-graph", folder / "star_graph.toml", [])
    hard = prepare("ood", folder / "ood.toml", [])
    assert [run.digest for run in star.plan.runs] == [run.digest for run in hard.plan.runs]
