from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import fastslow
from fastslow.config import LogConfig, RunConfig, load
from fastslow.errors import InputError, RunError
from fastslow.fast.base import Evolution
from fastslow.run import checkpoint as checkpoints
from fastslow.run.folder import RunFolder
from fastslow.run.jsonl import read_lines
from fastslow.run.rollouts import read_rollouts
from fastslow.run.serial import context_from_json
from fastslow.run.state import LoopState
from fastslow.slow.anomalies import Anomaly
from fastslow.types import Candidate, Population, Problem, Rollout

LargestFile = Callable[[int], AbstractContextManager[None]]
KilledAt = Callable[[int, Callable[[], object]], bool]
PROBLEMS = {"p": Problem("p", "1 + 41?", "42")}


class Training:
    """A run without a model: what the loop tells a folder, and two checkpoints in six steps.

    The weights are a file with the number of steps that they saw.
    """

    def __init__(self, candidate: Callable[..., Candidate], rollout: Callable[..., Rollout]):
        self.candidate, self.rollout = candidate, rollout
        self.weights = 0

    def begin(self, path: Path, config: RunConfig) -> None:
        if (path / "config.toml").exists():
            self.resume(path)
        else:
            self.start(path, config)

    def start(self, path: Path, config: RunConfig) -> None:
        self.weights = 0
        with RunFolder.create(path, config) as folder:
            self.go_on(folder, None)

    def resume(self, path: Path) -> None:
        with RunFolder.open(path) as folder:
            checkpoint = folder.latest_checkpoint()
            folder.rewind(checkpoint)
            self.weights = self._load(checkpoint.path) if checkpoint else 0
            self.go_on(folder, checkpoint.state if checkpoint else None)

    def go_on(self, folder: RunFolder, state: LoopState | None) -> None:
        if state is None:
            state = LoopState(0, 0, Population((self.candidate("seed"),)))
            folder.record_seed(state.population)
            folder.on_state(state)
        for step in range(state.step, 6):
            cycle = step // 3
            if step % 3 == 0:
                self.fast(folder, step, cycle)
            self.weights += 1
            folder.on_rollouts("slow", step + 1, cycle, [self.rollout()] * 2)
            folder.on_metrics({"step": step + 1, "cycle": cycle, "phase": "slow", "loss": 0.5})
            if step % 3 == 2:
                folder.on_rollouts("eval", step + 1, cycle, [self.rollout()])
                folder.on_state(LoopState(step + 1, cycle + 1, self.population(cycle)))
                folder.save_checkpoint(self._save)

    def fast(self, folder: RunFolder, step: int, cycle: int) -> None:
        population = self.population(cycle)
        lost = self.candidate(f"lost {cycle}", parents=("seed",), origin="r", cycle=cycle)
        found = Evolution(population, (lost, *population.candidates), {}, 2, 1, 0)
        folder.on_rollouts("fast", step, cycle, [self.rollout()])
        folder.on_evolution(step, cycle, found)
        folder.on_metrics({"step": step, "cycle": cycle, "phase": "fast", "metric_calls": 2})

    def population(self, cycle: int) -> Population:
        kept = self.candidate(f"kept {cycle}", cycle=cycle, scores={"p": 0.5, "q": 1.0})
        return Population((kept, self.candidate("seed", scores={"p": 0.0})))

    def _save(self, folder: Path) -> None:
        (folder / "weights").write_text(str(self.weights))

    def _load(self, folder: Path) -> int:
        return int((folder / "weights").read_text())


@pytest.fixture
def training(candidate: Callable[..., Candidate], rollout: Callable[..., Rollout]) -> Training:
    return Training(candidate, rollout)


@pytest.fixture
def folder(tmp_path: Path, config: RunConfig) -> Iterator[RunFolder]:
    with RunFolder.create(tmp_path / "run", config) as found:
        yield found


def without_time(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "time"} for row in read_lines(path)]


def contents(path: Path) -> dict[str, Any]:
    """All that a run's folder holds, but for the time of writing."""
    latest = checkpoints.latest(path / "checkpoints")
    assert latest is not None
    return {
        "files": sorted(
            str(p.relative_to(path))
            for p in path.rglob("*")
            if not p.name.startswith("events.out.tfevents")
        ),
        "metrics": without_time(path / "metrics.jsonl"),
        "contexts": without_time(path / "contexts.jsonl"),
        "rollouts": read_rollouts(path).to_pylist(),
        "state": latest.state,
        "weights": (latest.path / "weights").read_text(),
    }


def test_a_run_is_written_as_promised(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    path = tmp_path / "runs" / "a"
    training.start(path, config)
    assert sorted(os.listdir(path)) == [
        "checkpoints",
        "config.toml",
        "contexts.jsonl",
        "inputs.json",
        "lock",
        "metrics.jsonl",
        "rollouts",
    ]
    assert sorted(os.listdir(path / "checkpoints")) == ["step_000003", "step_000006"]
    assert sorted(os.listdir(path / "checkpoints" / "step_000006")) == [
        "checksums.sha256",
        "config.toml",
        "inputs.json",
        "state.json",
        "weights",
    ]
    assert sorted(os.listdir(path / "rollouts")) == [
        "eval_000003.parquet",
        "eval_000006.parquet",
        "fast_c0000.parquet",
        "fast_c0001.parquet",
        *(f"slow_{step:06d}.parquet" for step in range(1, 7)),
    ]
    rows = list(read_lines(path / "metrics.jsonl"))
    assert [row["phase"] for row in rows] == ["fast", "slow", "slow", "slow"] * 2
    assert list(rows[1]) == ["step", "cycle", "phase", "time", "loss"]
    assert rows[0]["time"] <= rows[-1]["time"]
    with RunFolder.open(path) as folder:
        assert folder.config == config


def test_every_context_is_written_with_its_history(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    training.start(tmp_path / "run", config)
    seed, lost, kept, *_ = read_lines(tmp_path / "run" / "contexts.jsonl")
    assert (seed["origin"], seed["kept"], seed["rank"], seed["scores"]) == ("seed", True, 1, {})
    assert "mean" not in seed
    assert (lost["kept"], lost["parents"], lost["origin"]) == (False, ["seed"], "r")
    assert "rank" not in lost
    assert (kept["kept"], kept["rank"], kept["mean"]) == (True, 1, 0.75)
    assert (kept["cycle"], kept["phase_cycle"], kept["step"]) == (0, 0, 0)
    assert kept["digest"] == context_from_json(kept).digest
    assert kept["demonstrations"] == [
        {"question": "1 + 1?", "answer": "<answer>2</answer>", "problem_id": "p1"}
    ]


def test_a_number_that_is_not_finite_is_written_as_valid_json(folder: RunFolder) -> None:
    row = {"step": 1, "cycle": 0, "phase": "slow", "loss": math.nan, "grad_norm": math.inf}
    folder.on_metrics(row)
    path = folder.path / "metrics.jsonl"
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (found["loss"], found["grad_norm"]) == ("NaN", "Infinity")
    (read,) = read_lines(path)
    assert math.isnan(read["loss"])


def test_a_measure_with_nothing_behind_it_is_left_out(folder: RunFolder) -> None:
    folder.on_metrics({"step": 1, "cycle": 0, "phase": "slow", "kl/base": None, "loss": 0.0})
    (row,) = without_time(folder.path / "metrics.jsonl")
    assert row == {"step": 1, "cycle": 0, "phase": "slow", "loss": 0.0}


def test_what_the_config_turns_off_is_not_written(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    off = LogConfig(rollouts=False, tensorboard=False)
    training.start(tmp_path / "run", config.model_copy(update={"log": off}))
    assert os.listdir(tmp_path / "run" / "rollouts") == []
    assert not (tmp_path / "run" / "events").exists()


# Where a run may begin and go on.


def test_a_folder_that_holds_a_run_is_not_begun_again(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    training.start(tmp_path, config)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"holds a run already: `fastslow resume .* set name"):
        RunFolder.create(tmp_path, config)
    assert contents(tmp_path) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, config: RunConfig) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not empty and holds no run"):
        RunFolder.create(tmp_path, config)
    with pytest.raises(InputError, match=r"thesis\.tex: cannot be made a run's folder"):
        RunFolder.create(tmp_path / "thesis.tex", config)
    with pytest.raises(InputError, match=r"a: cannot be made a run's folder"):
        RunFolder.create(tmp_path / "thesis.tex" / "a", config)
    with pytest.raises(InputError, match=r"is no run: there is no config\.toml"):
        RunFolder.open(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_second_process_is_refused_until_the_first_ends(
    tmp_path: Path, config: RunConfig
) -> None:
    script = (
        "import sys; from pathlib import Path; from fastslow.run.folder import RunFolder\n"
        "folder = RunFolder.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    RunFolder.create(tmp_path, config).close()
    source = str(Path(fastslow.__file__).parents[1])
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match=rf"another process \(pid {other.pid}\) is at work"):
            RunFolder.open(tmp_path)
        other.kill()
    RunFolder.open(tmp_path).close()  # the lock went with the process


def test_a_lock_is_given_back_where_a_run_cannot_begin(tmp_path: Path, config: RunConfig) -> None:
    RunFolder.create(tmp_path, config).close()
    (tmp_path / "rollouts").rmdir()
    (tmp_path / "rollouts").touch()
    for _ in range(2):
        with pytest.raises(RunError, match="rollouts"):
            RunFolder.open(tmp_path)


# Resuming.


def test_a_rewound_folder_is_byte_for_byte_what_it_was(
    folder: RunFolder, training: Training, rollout: Callable[..., Rollout]
) -> None:
    def held() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}

    state = LoopState(3, 1, training.population(0))
    folder.record_seed(state.population)
    folder.on_metrics({"step": 3, "cycle": 0, "phase": "slow", "loss": 0.1})
    folder.on_rollouts("slow", 3, 0, [rollout()])
    folder.on_rollouts("eval", 3, 0, [rollout()])
    folder.on_state(state)
    folder.on_metrics({"step": 3, "cycle": 1, "phase": "fast"})  # told after the state
    checkpoint = folder.save_checkpoint(lambda path: (path / "weights").touch())
    folder.rewind(checkpoint)
    before = held()
    assert [row["phase"] for row in read_lines(folder.path / "metrics.jsonl")] == ["slow"]

    training.fast(folder, 3, 1)
    folder.on_rollouts("eval", 3, 1, [rollout()])  # a second one at this step
    assert held() != before
    folder.rewind(checkpoint)
    assert held() == before
    folder.rewind(None)
    assert not (folder.path / "metrics.jsonl").read_bytes()
    assert os.listdir(folder.path / "rollouts") == []


def test_a_file_that_lost_rows_is_not_gone_on_with(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    training.start(tmp_path, config)
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(RunError, match=r"metrics\.jsonl: holds 0 bytes, fewer than"):
        training.resume(tmp_path)


def test_tensorboard_shows_after_a_rewind_what_the_rows_say(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    shown = config.model_copy(update={"log": LogConfig()})
    with RunFolder.create(tmp_path, shown) as folder:
        training.go_on(folder, None)
        folder.on_metrics({"step": 6, "cycle": 2, "phase": "slow", "loss": 9.0})
    with RunFolder.open(tmp_path) as folder:
        folder.rewind(folder.latest_checkpoint())
        folder.on_metrics({"step": 7, "cycle": 2, "phase": "slow", "loss": 0.25})
    (file,) = (tmp_path / "events").iterdir()
    found = EventAccumulator(str(file)).Reload()
    told = [(scalar.step, scalar.value) for scalar in found.Scalars("slow/loss")]
    assert told == [*((step, 0.5) for step in range(1, 7)), (7, 0.25)]
    assert [tensor.step for tensor in found.Tensors("context/best")] == [0, 0, 3]


def test_a_run_killed_at_any_moment_and_resumed_ends_as_if_it_never_was(
    tmp_path: Path, config: RunConfig, training: Training, killed_at: KilledAt
) -> None:
    training.start(tmp_path / "whole", config)
    expected = contents(tmp_path / "whole")
    assert expected["weights"] == "6"
    moment, killed = 0, True
    while killed:
        path = tmp_path / f"killed_{moment}"
        killed = killed_at(moment, lambda path=path: training.begin(path, config))
        killed_at(3 * moment, lambda path=path: training.begin(path, config))  # and once more
        training.begin(path, config)
        assert contents(path) == expected
        moment += 1 if moment < 10 else 19  # the beginning of a run closely, the rest in strides
    assert moment > 50


# What may change on the way.


def test_what_may_change_is_taken_up_and_written_down(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    training.start(tmp_path, config)
    with RunFolder.open(tmp_path) as folder:
        checkpoint = folder.latest_checkpoint()
        folder.reconfigure(checkpoint, ["steps=9", "log.keep=1"])
        assert (folder.config.steps, folder.config.log.keep) == (9, 1)
        assert load(tmp_path / "config.toml") == config  # as long as the run has not gone on
        folder.rewind(checkpoint)
    assert load(tmp_path / "config.toml").steps == 9
    assert os.listdir(tmp_path / "checkpoints") == ["step_000006"]


@pytest.mark.parametrize("edited", [True, False])
def test_what_may_not_change_is_refused_wherever_it_was_changed(
    tmp_path: Path, config: RunConfig, training: Training, edited: bool
) -> None:
    training.start(tmp_path, config)
    path = tmp_path / "config.toml"
    if edited:
        path.write_text(path.read_text().replace("lr = 1e-06", "lr = 2e-06"))
    before = path.read_bytes()
    with RunFolder.open(tmp_path) as folder:
        overrides = [] if edited else ["slow.lr=2e-6"]
        with pytest.raises(InputError) as caught:
            folder.reconfigure(folder.latest_checkpoint(), overrides)
    told = f"{path}: slow.lr: the run was trained with 1e-06; found 2e-06"
    assert str(caught.value).splitlines()[0] == told
    assert path.read_bytes() == before


def test_before_its_first_checkpoint_a_config_may_be_edited(
    tmp_path: Path, config: RunConfig
) -> None:
    RunFolder.create(tmp_path, config).close()
    path = tmp_path / "config.toml"
    path.write_text(path.read_text().replace("lr = 1e-06", "lr = 2e-06"))
    with RunFolder.open(tmp_path) as folder:
        folder.reconfigure(None)
        assert folder.config.slow.lr == 2e-6
        with pytest.raises(InputError, match=r"slow\.lr: .* found 3e-06"):
            folder.reconfigure(None, ["slow.lr=3e-6"])


def test_other_versions_are_told(
    tmp_path: Path,
    config: RunConfig,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    training.start(tmp_path, config)
    training.resume(tmp_path)
    assert not caplog.records
    here = {**checkpoints.current_versions(), "torch": "3.0"}
    monkeypatch.setattr(checkpoints, "current_versions", lambda: here)
    training.resume(tmp_path)
    (record,) = caplog.records
    assert f"torch {metadata.version('torch')} (here 3.0)" in record.getMessage()
    assert "numpy" not in record.getMessage()


# What is kept.


def test_the_most_accurate_checkpoint_is_kept(
    tmp_path: Path, config: RunConfig, training: Training
) -> None:
    """A checkpoint is saved before it is evaluated."""
    place = {"phase": "eval", "task": "t", "context": "best"}
    with RunFolder.create(tmp_path, config) as folder:
        for step, accuracy in enumerate([0.1, 0.5, 0.2, 0.2, 0.2], start=1):
            folder.on_state(LoopState(step, step, training.population(0)))
            folder.save_checkpoint(lambda path: None)
            folder.on_metrics({**place, "step": step, "cycle": step, "accuracy": accuracy})
    kept = tmp_path / "checkpoints"
    assert checkpoints.steps(kept) == [2, 4, 5]
    with RunFolder.open(tmp_path) as folder:
        folder.rewind(folder.latest_checkpoint())
        assert checkpoints.steps(kept) == [2, 4, 5]
        folder.reconfigure(folder.latest_checkpoint(), ["log.keep_best=false"])
        folder.rewind(folder.latest_checkpoint())
        assert checkpoints.steps(kept) == [4, 5]


# Batches that could not be trained on.


def test_an_anomaly_is_kept_to_be_studied_and_taken_back(
    folder: RunFolder, training: Training, rollout: Callable[..., Rollout]
) -> None:
    anomaly = Anomaly("a loss is not finite", ("problem p under context c",))
    for step in (3, 4):
        folder.on_anomaly(step, 1, [rollout(), rollout(text="43")], anomaly)
        folder.on_state(LoopState(step, 1, training.population(0)))
        folder.save_checkpoint(lambda path: None)
    kept = folder.path / "anomalies"
    assert sorted(os.listdir(kept)) == [
        f"slow_00000{step}.{kind}" for step in (3, 4) for kind in ("json", "parquet")
    ]
    assert json.loads((kept / "slow_000003.json").read_text()) == {
        "step": 3,
        "cycle": 1,
        "cause": "a loss is not finite",
        "rollouts": ["problem p under context c"],
    }
    batch = read_rollouts(kept / "slow_000003.parquet").to_pylist()
    assert [row["text"] for row in batch] == ["42", "43"]
    shutil.rmtree(folder.path / "checkpoints" / "step_000004")
    folder.rewind(folder.latest_checkpoint())
    assert sorted(os.listdir(kept)) == ["slow_000003.json", "slow_000003.parquet"]
    folder.rewind(None)
    assert os.listdir(kept) == []


# A reflection model's answers.


def test_what_was_answered_before_a_run_was_resumed_is_not_asked_again(
    folder: RunFolder, training: Training
) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return f"{prompt}, answer {len(asked)}"

    remembering = folder.remembering(ask)
    assert remembering("a") == "a, answer 1"
    folder.on_state(LoopState(3, 1, training.population(0)))
    checkpoint = folder.save_checkpoint(lambda path: None)
    first = list(map(remembering, "aba"))
    assert first == ["a, answer 2", "b, answer 3", "a, answer 4"]
    with (folder.path / "reflections.jsonl").open("ab") as file:
        file.write(b'{"prompt": "b", "ans')  # broken off
    folder.rewind(checkpoint)
    assert list(map(remembering, "abaa")) == [*first, "a, answer 5"]
    folder.rewind(checkpoint)  # killed again
    assert list(map(remembering, "aaa")) == [first[0], first[2], "a, answer 5"]
    rows = list(read_lines(folder.path / "reflections.jsonl"))
    assert [row["prompt"] for row in rows] == ["a", "a", "b", "a", "a"]
    assert len(asked) == 5


# A disk that is full.


def test_a_full_disk_ends_a_checkpoint_with_a_clear_message(
    folder: RunFolder, training: Training, largest_file: LargestFile
) -> None:
    def save(path: Path) -> None:
        save_file({"weights": np.zeros(100_000, np.float32)}, path / "weights.safetensors")

    folder.on_state(LoopState(0, 0, training.population(0)))
    with largest_file(1000), pytest.raises(RunError, match="No checkpoint was written before"):
        folder.save_checkpoint(save)
    before = folder.save_checkpoint(save)
    folder.on_state(LoopState(3, 1, training.population(0)))
    with largest_file(1000), pytest.raises(RunError) as caught:
        folder.save_checkpoint(save)
    message = str(caught.value)
    assert "step_000003 could not be written: " in message
    assert "too large" in message
    assert f"The checkpoint {before.path} is intact" in message
    assert f"`fastslow resume {folder.path}`" in message
    assert folder.latest_checkpoint() == before
    assert os.listdir(folder.path / "checkpoints") == ["step_000000"]


def test_a_full_disk_loses_nothing_that_was_written(
    folder: RunFolder,
    training: Training,
    rollout: Callable[..., Rollout],
    largest_file: LargestFile,
) -> None:
    row = {"step": 1, "cycle": 0, "phase": "slow", "loss": 0.5}
    folder.on_metrics(row)
    folder.on_rollouts("slow", 1, 0, [rollout()])
    with largest_file(100):
        with pytest.raises(RunError, match=r"metrics\.jsonl could not be written"):
            folder.on_metrics(row)
        with pytest.raises(RunError, match=r"contexts\.jsonl could not be written"):
            folder.record_seed(training.population(0))
        with pytest.raises(RunError, match="rollouts could not be written"):
            folder.on_rollouts("slow", 2, 0, [rollout()])
    assert len(without_time(folder.path / "metrics.jsonl")) == 1
    assert os.listdir(folder.path / "rollouts") == ["slow_000001.parquet"]


def test_nothing_is_saved_before_a_state_was_told(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="on_state was never called"):
        folder.save_checkpoint(lambda path: None)
