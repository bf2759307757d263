"""Whole runs of the tiny model: what they leave behind, and that stopping them changes nothing."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from safetensors.numpy import load_file

import fastslow
from fastslow import config as configuration
from fastslow.errors import InputError, RunError
from fastslow.interruption import InterruptedRunError
from fastslow.run.jsonl import read_lines
from fastslow.run.rollouts import read_rollouts
from fastslow.training import RunResult, resume, train
from tiny_run import command, outcome, processes, tiny_config, write_task


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def fst(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, task: str) -> RunResult:
    """A finished run that nobody disturbed. Read it, and leave it as it is."""
    folder = tmp_path_factory.mktemp("runs")
    return train(tiny_config(tiny_model_dir, task, folder), console=False)


def phases(result: RunResult) -> list[str]:
    return [f"{row['phase']} {row['step']}" for row in result.metrics() if row["phase"] != "eval"]


# What a run leaves behind.


def test_a_run_folder_holds_what_it_should(fst: RunResult) -> None:
    names = {str(path.relative_to(fst.folder)) for path in fst.folder.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("events/events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        "config.toml",
        "inputs.json",
        "metrics.jsonl",
        "contexts.jsonl",
        "lock",
        *(f"rollouts/fast_c000{cycle}.parquet" for cycle in (0, 1)),
        *(f"rollouts/slow_00000{step}.parquet" for step in (1, 2, 3, 4)),
        "rollouts/eval_000000.parquet",
        *(f"rollouts/eval_00000{step}{n}.parquet" for step in (2, 4) for n in ("", "_2", "_3")),
        *(
            f"checkpoints/step_{step}/{name}"
            for step in ("000002", "000004")
            for name in (
                "checksums.sha256",
                "config.toml",
                "inputs.json",
                "state.json",
                "policy.json",
                "optimiser.safetensors",
                "model/chat_template.jinja",
                "model/config.json",
                "model/generation_config.json",
                "model/model.safetensors",
                "model/tokenizer.json",
                "model/tokenizer_config.json",
            )
        ),
    }


def test_the_result_says_what_the_folder_says(fst: RunResult, task: str) -> None:
    assert fst.metrics() == list(read_lines(fst.folder / "metrics.jsonl"))
    assert phases(fst) == ["fast 0", "slow 1", "slow 2", "fast 2", "slow 3", "slow 4"]
    contexts = list(read_lines(fst.folder / "contexts.jsonl"))
    kept = [row["digest"] for row in contexts if row.get("phase_cycle") == 1 and row["kept"]]
    assert set(kept) == set(fst.population.digests)
    assert fst.best == fst.population.contexts[0]
    assert configuration.load(fst.folder / "config.toml").task.name == task


def test_slow_rows_hold_all_measures(fst: RunResult) -> None:
    fields = {
        *("step", "cycle", "phase", "time", "reward/mean", "reward/std", "groups/kept"),
        *(
            "groups/dropped",
            "truncated/fraction",
            "loss",
            "grad_norm",
            "entropy",
            "kl/base",
            "ratio/max",
        ),
        *("logprob/mismatch", "tokens/sampled", "tokens/trained", "tokens/trained_unshared"),
        *(
            "rollouts/reused",
            "rollouts/sampled",
            "tokens/reused",
            "seconds/rollout",
            "seconds/update",
            "lr",
        ),
    }
    rows = [row for row in fst.metrics() if row["phase"] == "slow"]
    assert [set(row) ^ fields for row in rows] == [set()] * 4
    assert [row["lr"] for row in rows] == [0.5e-3, 1e-3, 1e-3, 1e-3]
    assert all(row["logprob/mismatch"] <= 1e-4 for row in rows)
    assert all(0 < row["rollouts/reused"] <= 4 for row in rows)
    assert all(row["tokens/trained"] < row["tokens/trained_unshared"] for row in rows)


def test_the_rollouts_tell_under_which_weights_they_were_sampled(fst: RunResult) -> None:
    rows = read_rollouts(fst.folder).to_pylist()
    versions = {
        (row["phase"], row["step"], row["policy_version"]) for row in rows if row["phase"] != "eval"
    }
    assert versions == {
        *(("fast", 0, 0), ("slow", 1, 0), ("slow", 2, 0), ("slow", 2, 1)),
        *(("fast", 2, 2), ("slow", 3, 2), ("slow", 4, 2), ("slow", 4, 3)),
    }


def test_training_moves_the_weights(fst: RunResult, tiny_model_dir: Path) -> None:
    before = load_file(tiny_model_dir / "model.safetensors")
    after = load_file(fst.folder / "checkpoints/step_000004/model/model.safetensors")
    assert before.keys() == after.keys()
    assert all((before[name] != after[name]).any() for name in before)


def test_rl_learns_without_contexts(tiny_model_dir: Path, task: str, tmp_path: Path) -> None:
    config = tiny_config(tiny_model_dir, task, tmp_path, method="rl", eval={"problems": 0})
    result = train(config, console=False)
    assert phases(result) == ["slow 1", "slow 2", "slow 3", "slow 4"]
    assert result.best == fastslow.Context("Write.")
    (seed,) = read_lines(result.folder / "contexts.jsonl")
    assert (seed["digest"], seed["origin"], seed["kept"]) == (result.best.digest, "seed", True)
    assert not {row["rollouts/reused"] for row in result.metrics()} - {0}


def test_fast_leaves_the_weights_alone(tiny_model_dir: Path, task: str, tmp_path: Path) -> None:
    config = tiny_config(tiny_model_dir, task, tmp_path, method="fast")
    result = train(config, console=False)
    assert phases(result) == ["fast 0", "fast 2"]
    saved = result.folder / "checkpoints/step_000004"
    files = ["checksums.sha256", "config.toml", "inputs.json", "policy.json", "state.json"]
    assert sorted(os.listdir(saved)) == files
    assert {row["policy_version"] for row in read_rollouts(result.folder).to_pylist()} == {0}


def test_where_nothing_is_solved_nothing_is_measured_of_an_update(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    task = {"name": "star_graph", "train": 12, "validation": 2, "test": 0}
    config = tiny_config(tiny_model_dir, "star_graph", tmp_path, task=task, steps=2)
    result = train(config, console=False)
    rows = [row for row in result.metrics() if row["phase"] == "slow"]
    assert [row["reward/mean"] for row in rows] == [0, 0]
    assert [row["groups/dropped"] for row in rows] == [2, 2]
    for name in ("loss", "grad_norm", "entropy", "kl/base", "lr", "tokens/trained"):
        assert not any(name in row for row in rows)


def test_a_function_may_take_the_place_of_the_reflection_model(
    tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    prompts = []

    def reflect(prompt: str) -> str:
        prompts.append(prompt)
        return f"```\nWrite well, {len(prompts)}.\n```"

    fast = {"components": ["instructions"], "reflection": {"model": "named/anyway"}}
    config = tiny_config(tiny_model_dir, task, tmp_path, fast=fast, steps=2)
    result = train(config, reflect=reflect, console=False)
    proposed = [row["instructions"] for row in read_lines(result.folder / "contexts.jsonl")]
    assert "Write well, 1." in proposed
    assert "Expected " in prompts[0]  # the verifier's feedback


def test_a_configuration_is_given_in_any_form(
    fst: RunResult, tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    data = tiny_config(tiny_model_dir, task, tmp_path, steps=1, eval={"problems": 0})
    path = tmp_path / "c.toml"
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    forms = {"mapping": data, "path": path, "text": str(path), "model": configuration.parse(data)}
    outcomes = [
        outcome(train(form, [f"name={name}"], console=False).folder) for name, form in forms.items()
    ]
    assert all(found == outcomes[0] for found in outcomes)


# The same again.


def test_the_same_seed_gives_the_same_run(
    fst: RunResult, tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    again = train(tiny_config(tiny_model_dir, task, tmp_path), console=False)
    assert outcome(again.folder) == outcome(fst.folder)
    assert again.population == fst.population


def test_another_seed_gives_another(
    fst: RunResult, tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    other = train(tiny_config(tiny_model_dir, task, tmp_path, seed=1), console=False)
    found, expected = outcome(other.folder), outcome(fst.folder)
    assert all(found[part] != expected[part] for part in ("metrics", "contexts", "checkpoint"))


# Stopping and going on (invariant 5). The run grades 62 completions: 2 in the first evaluation, 17
# in the fast phase, 4 in each slow step, 6 in the evaluation, and so once more but for one.

PLACES = {
    "first evaluation": 1,
    "fast phase": 12,
    "first slow step": 21,
    "second slow step": 26,
    "evaluation": 30,
    "second cycle": 40,
    "last evaluation": 60,
}


CRASHES = ("fast phase", "second slow step", "evaluation", "second cycle")


@pytest.mark.parametrize("place", CRASHES)
def test_a_run_that_crashed_goes_on_from_its_checkpoint(
    fst: RunResult,
    tiny_model_dir: Path,
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    monkeypatch.setenv("DISTURB", f"{PLACES[place]} crash")
    with pytest.raises(KeyboardInterrupt, match="broken off"):
        train(tiny_config(tiny_model_dir, task, tmp_path), console=False)
    result = resume(tmp_path / "run", console=False)
    assert outcome(result.folder) == outcome(fst.folder)
    assert result.population == fst.population


@pytest.mark.parametrize("moment", PLACES.values(), ids=PLACES.keys())
def test_a_run_that_was_interrupted_saves_and_goes_on(
    fst: RunResult,
    tiny_model_dir: Path,
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
) -> None:
    monkeypatch.setenv("DISTURB", f"{moment} SIGTERM")
    with pytest.raises(InterruptedRunError, match="stopped by SIGTERM: the run is saved"):
        train(tiny_config(tiny_model_dir, task, tmp_path), console=False)
    saved = max((tmp_path / "run/checkpoints").iterdir())
    assert (saved.name == "step_000004") == (moment == PLACES["last evaluation"])
    result = resume(saved.parents[1], console=False)
    assert outcome(result.folder) == outcome(fst.folder)


def test_a_run_of_adapters_may_be_interrupted_again_and_again(
    tiny_model_dir: Path,
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(tiny_model_dir, task, tmp_path, slow={"lora": {"rank": 2}})
    undisturbed = train(config, ["name=undisturbed"], console=False)
    folder = tmp_path / "run"
    monkeypatch.setenv("DISTURB", "22 SIGINT")
    with pytest.raises(InterruptedRunError):
        train(config, console=False)
    for moment in (3, 20):
        monkeypatch.setenv("DISTURB", f"{moment} SIGINT")
        with pytest.raises(InterruptedRunError):
            resume(folder, console=False)
    resume(folder, console=False)
    assert outcome(folder) == outcome(undisturbed.folder)


def test_a_run_on_a_mix_may_be_interrupted_in_any_stage(
    tiny_model_dir: Path, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = {"name": "star_graph", "d": 2, "nodes": 40, "train": 12, "validation": 4}
    config = tiny_config(tiny_model_dir, task, tmp_path, slow={"problems": 3})
    del config["task"], config["steps"]
    config["stages"] = [
        {"steps": 1, "task": graphs},
        {"steps": 3, "mix": [{"weight": 2, "task": {"name": task}}, {"task": graphs}]},
    ]
    undisturbed = train(config, ["name=undisturbed"], console=False)
    asked = read_rollouts(undisturbed.folder)["problem_id"].to_pylist()
    assert {problem.rpartition("/")[0] for problem in asked} == {"star_graph", task}
    for moment in (5, 30):
        monkeypatch.setenv("DISTURB", f"{moment} SIGINT")
        name = f"stopped-{moment}"
        with pytest.raises(InterruptedRunError):
            train(config, [f"name={name}"], console=False)
        result = resume(tmp_path / name, console=False)
        assert outcome(result.folder) == outcome(undisturbed.folder)
    rows = [row for row in undisturbed.metrics() if row["phase"] == "eval"]
    assert {row["task"] for row in rows} == {"star_graph", task}


def test_resuming_a_finished_run_changes_nothing(
    tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    first = train(tiny_config(tiny_model_dir, task, tmp_path), console=False)
    before = outcome(first.folder)
    again = resume(first.folder, console=False)
    assert outcome(first.folder) == before
    assert again == first


def exit_code(arguments: list[str], disturb: str | None = None) -> int:
    process = processes().Process(target=command, args=(arguments, disturb))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize("moment", [PLACES[name] for name in ("first slow step", "second cycle")])
def test_a_process_that_was_killed_and_resumed_ends_the_same(
    fst: RunResult,
    tiny_model_dir: Path,
    task: str,
    tmp_path: Path,
    moment: int,
) -> None:
    path = tmp_path / "c.toml"
    config = tiny_config(tiny_model_dir, task, tmp_path, log={"folder": str(tmp_path)})
    path.write_text(tomli_w.dumps(config), encoding="utf-8")
    killed = exit_code(["train", str(path)], f"{moment} SIGKILL")
    assert killed == -signal.SIGKILL
    assert exit_code(["resume", str(tmp_path / "run")]) == 0
    assert outcome(tmp_path / "run") == outcome(fst.folder)


def test_an_interrupted_process_ends_with_130(
    fst: RunResult, tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(tomli_w.dumps(tiny_config(tiny_model_dir, task, tmp_path)), encoding="utf-8")
    moment = PLACES["first slow step"]
    assert exit_code(["train", str(path)], f"{moment} SIGINT") == 130
    assert os.listdir(tmp_path / "run/checkpoints") == ["step_000001"]
    assert exit_code(["resume", str(tmp_path / "run")]) == 0
    assert outcome(tmp_path / "run") == outcome(fst.folder)


# A full disk.


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond ``size`` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, "model/model.safetensors"),
        ({}, "optimiser.safetensors"),
        ({"slow": {"lora": {"rank": 1, "targets": ["q_proj"]}}}, "model/tokenizer.json"),
    ],
)
def test_a_run_that_filled_the_disk_goes_on_once_there_is_space(
    tiny_model_dir: Path,
    task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    refused: str,
) -> None:
    log = {"folder": str(tmp_path), "rollouts": False, "tensorboard": False}
    config = tiny_config(tiny_model_dir, task, tmp_path, method="rl", log=log, **changes)
    undisturbed = train(config, ["name=undisturbed"], console=False)
    size = (undisturbed.folder / "checkpoints/step_000004" / refused).stat().st_size
    monkeypatch.setenv("DISTURB", "3 SIGINT")
    with pytest.raises(InterruptedRunError):
        train(config, console=False)
    (saved,) = (tmp_path / "run/checkpoints").iterdir()
    with largest_file(size - 1), pytest.raises(RunError) as caught:
        resume(tmp_path / "run", console=False)
    message = str(caught.value)
    assert "step_000002 could not be written" in message
    assert f"{saved} is intact" in message
    assert os.listdir(saved.parent) == [saved.name]
    resume(tmp_path / "run", console=False)
    assert outcome(tmp_path / "run") == outcome(undisturbed.folder)


# What cannot be gone on with.


def test_a_run_whose_rows_were_lost_is_refused(
    tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    result = train(tiny_config(tiny_model_dir, task, tmp_path, steps=1, method="rl"), console=False)
    (result.folder / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="rows are missing"):
        resume(result.folder, console=False)


def test_what_is_wrong_is_found_before_anything_is_written(
    tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    wrong = {
        "the task": {"task": {"name": "no_task"}},
        "the data": {"slow": {"problems": 100}},
        "the model": {"model": str(tmp_path)},
        "the adapters": {"slow": {"lora": {"targets": ["no_layer"]}}},
        "the reflection model": {
            "fast": {
                "components": ["instructions"],
                "reflection": {"model": "openai/x", "api_key_env": "NOT_SET_ANYWHERE"},
            }
        },
    }
    for changes in wrong.values():
        with pytest.raises(InputError):
            train(tiny_config(tiny_model_dir, task, tmp_path, **changes), console=False)
        assert not os.listdir(tmp_path)
