"""Runs whose files were damaged, whose numbers went wrong and whose clock jumped."""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from fastslow.errors import InputError, RunError
from fastslow.run import checkpoint as checkpoints
from fastslow.run.jsonl import read_lines
from fastslow.run.rollouts import read_rollouts
from fastslow.training import RunResult, resume, train
from tiny_run import outcome, tiny_config, write_task


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    return tiny_config(tiny_model_dir, write_task(folder), folder)


@pytest.fixture(scope="module")
def whole(config: dict[str, Any]) -> RunResult:
    """A finished run. Read it, and leave it as it is."""
    return train(config, console=False)


@pytest.fixture
def run(whole: RunResult, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole.folder, tmp_path / "run"))


def flip(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def truncate(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])


def remove(file: Path, rng: random.Random) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [flip, truncate, remove])
def test_damage_to_any_file_of_a_checkpoint_is_found_and_the_one_before_used(
    run: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder, rng = run / "checkpoints", random.Random(0)
    last = folder / "step_000004"
    files = [file for file in last.rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        content = file.read_bytes()
        damage(file, rng)
        found = checkpoints.latest(folder)
        assert found is not None
        assert found.path.name == "step_000002"
        assert f"{last} is damaged and is passed over: " in caplog.messages[-1]
        file.write_bytes(content)
    found = checkpoints.latest(folder)
    assert found is not None
    assert found.path == last


def test_a_run_goes_on_from_before_the_damage_and_ends_the_same(
    whole: RunResult, run: Path
) -> None:
    flip(run / "checkpoints/step_000004/model/model.safetensors", random.Random(0))
    resume(run, console=False)
    assert outcome(run) == outcome(whole.folder)
    shutil.rmtree(run / "checkpoints/step_000002")
    flip(run / "checkpoints/step_000004/optimiser.safetensors", random.Random(0))
    resume(run, console=False)  # from the beginning
    assert outcome(run) == outcome(whole.folder)


# Longer, and otherwise not.


def test_a_run_that_is_made_longer_is_as_if_it_had_been_planned_so(
    config: dict[str, Any], whole: RunResult, tmp_path: Path
) -> None:
    short = train({**config, "steps": 2, "log": {"folder": str(tmp_path)}}, console=False)
    result = resume(short.folder, ["steps=4", "log.tensorboard=false"], console=False)
    assert outcome(result.folder) == outcome(whole.folder)
    assert not (result.folder / "events").exists()
    with pytest.raises(InputError, match="steps: the run was trained with 4; found 3"):
        resume(short.folder, ["steps=3"], console=False)
    with pytest.raises(InputError, match="seed: the run was trained with 0; found 7"):
        resume(short.folder, ["seed=7"], console=False)
    assert outcome(result.folder) == outcome(whole.folder)


# Numbers.


def test_a_run_whose_numbers_go_wrong_skips_and_then_stops(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """The KL to a base of which one weight is no number: no update can be made."""
    changes = {"method": "rl", "steps": 9, "log": {"folder": str(tmp_path), "checkpoint_every": 1}}
    run = train({**config, **changes, "steps": 2}, console=False).folder
    before = outcome(run)["checkpoint"]
    poisoned = poison(Path(config["model"]), tmp_path / "model")
    for name in ("config.toml", "checkpoints/step_000002/config.toml"):
        file = run / name
        file.write_text(file.read_text().replace(config["model"], str(poisoned)))
    mend_checksums(run / "checkpoints/step_000002")
    with pytest.raises(RunError, match="step 5: a log-probability under the base") as caught:
        resume(run, ["steps=9"], console=False, accept_changes=True)
    assert "the updates of 3 steps in a row were skipped (slow.max_skipped)" in str(caught.value)
    rows = [row for row in read_lines(run / "metrics.jsonl") if row["phase"] == "slow"]
    assert [row["step"] for row in rows if "skipped" in row] == [3, 4, 5]
    assert all("loss" not in row and "reward/mean" in row for row in rows[2:])
    saved = checkpoints.latest(run / "checkpoints")
    assert saved is not None
    assert (saved.state.step, saved.state.skipped) == (4, 2)
    weights = {name: data for name, data in before.items() if name.endswith(".safetensors")}
    last = outcome(run)["checkpoint"]
    for name, data in weights.items():
        assert last[name.replace("step_000002", "step_000004")] == data
    told = json.loads((run / "anomalies/slow_000003.json").read_text())
    assert told["cause"] == "a log-probability under the base is not finite"
    batch = read_rollouts(run / "anomalies/slow_000003.parquet").to_pylist()
    blamed = {f"problem {row['problem_id']} under context {row['context']}" for row in batch}
    assert set(told["rollouts"]) <= blamed
    with pytest.raises(RunError, match="step 5: "):  # deterministic: it stops there again
        resume(run, console=False)
    with pytest.raises(RunError, match="step 7: "):
        resume(run, ["slow.max_skipped=5"], console=False)


@pytest.mark.parametrize("method", ["rl", "fst"])
def test_a_model_that_computes_no_numbers_ends_its_run(
    method: str, config: dict[str, Any], tmp_path: Path
) -> None:
    """It answers every question alike: nothing but the check would tell it from a bad pupil."""
    poisoned = str(poison(Path(config["model"]), tmp_path / "model"))
    changes = {"method": method, "model": poisoned, "log": {"folder": str(tmp_path / "runs")}}
    with pytest.raises(RunError, match="a log-probability at sampling is not finite in 2 of 2"):
        train({**config, **changes}, console=False)


def poison(model: Path, folder: Path) -> Path:
    """A copy of a model in which one number is none."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = math.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def mend_checksums(checkpoint: Path) -> None:
    (checkpoint / "checksums.sha256").write_text(checkpoints._checksums(checkpoint))


# Time.


def test_a_clock_that_jumps_changes_nothing(
    config: dict[str, Any], whole: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, clock = random.Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: clock() + rng.uniform(-1e6, 1e6))
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    result = train({**config, "log": {"folder": str(tmp_path)}}, console=False)
    assert outcome(result.folder) == outcome(whole.folder)
    rows = result.metrics()
    assert any(a["time"] > b["time"] for a, b in itertools.pairwise(rows))
    seconds = [value for row in rows for key, value in row.items() if key.startswith("seconds/")]
    assert all(0 <= value < 60 for value in seconds)
