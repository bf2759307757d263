"""What is done with finished runs of the tiny model: evaluated otherwise, and gone on from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fastslow.config import EvalConfig, TaskConfig
from fastslow.errors import InputError
from fastslow.models import load_model, resolve
from fastslow.run.observer import Observer
from fastslow.run.rollouts import read_rollouts
from fastslow.training import RunResult, evaluate, resume, train
from tiny_run import tiny_config, write_task

SETTINGS = EvalConfig(problems=4, samples=2, contexts=("seed", "best"), drift=True)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def fst(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, task: str) -> RunResult:
    """A finished run. Read it, and leave it as it is."""
    config = tiny_config(
        tiny_model_dir, task, tmp_path_factory.mktemp("runs"), eval={"drift": True, "samples": 4}
    )
    return train(config, console=False)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, task: str) -> RunResult:
    slow = {"lora": {"rank": 2}, "lr": 1e-2, "warmup": 0}
    config = tiny_config(
        tiny_model_dir, task, tmp_path_factory.mktemp("runs"), slow=slow, method="rl"
    )
    return train(config, console=False)


class Rows(Observer):
    """Keeps the rows it is told."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)


def evaluated(run: RunResult, **options: Any) -> list[Mapping[str, Any]]:
    rows = Rows()
    evaluate(run.folder, SETTINGS, rows, **options)
    return rows.rows


# Evaluations.


def test_evaluations_tell_of_drift_and_diversity(fst: RunResult) -> None:
    rows = [row for row in fst.metrics() if row["phase"] == "eval"]
    first = [row for row in rows if row["step"] == 0]
    assert first
    for row in first:
        assert row["drift/exact"] == pytest.approx(0, abs=1e-6)
    for row in rows:
        assert row["accuracy/low"] <= row["accuracy"] <= row["accuracy/high"]
        assert row["accuracy"] <= 1
        assert row["pass@2"] <= row["pass@4"]
        assert 1 <= row["distinct/completions"] <= 4
        assert row["n"] == 2 * 4
        if row["step"]:
            assert 0 < row["drift/exact"] < row["drift/sequence"]
            assert row["entropy"] > 0


def test_without_being_asked_no_drift_is_measured(adapter: RunResult) -> None:
    assert not [row for row in adapter.metrics() if "drift/exact" in row]


def test_the_base_weights_are_evaluated_under_the_contexts_that_were_found(fst: RunResult) -> None:
    trained, base = evaluated(fst), evaluated(fst, base=True)
    assert [row["context"] for row in trained] == [row["context"] for row in base]
    assert {row["context"] for row in base} == {"seed", "best"}
    for row in base:
        assert row["drift/exact"] == pytest.approx(0, abs=1e-6)
    for row in trained:
        assert row["drift/exact"] > 1e-6


def test_an_adapter_drifts_from_the_weights_below_it(adapter: RunResult) -> None:
    assert all(row["drift/exact"] > 1e-6 for row in evaluated(adapter))
    assert all(abs(row["drift/exact"]) < 1e-6 for row in evaluated(adapter, base=True))


def test_a_run_is_evaluated_on_other_tasks(fst: RunResult, task: str) -> None:
    other = TaskConfig(name="star_graph", train=4, validation=3, test=1, d=2, l=3)
    rows = evaluated(fst, tasks={"stars": other, "again": TaskConfig(name=task)})
    assert {row["task"] for row in rows} == {"stars", "again"}
    assert {row["n"] for row in rows if row["task"] == "stars"} == {3 * 2}
    with pytest.raises(InputError, match="no such"):
        evaluated(fst, tasks={"x": TaskConfig(name="no such")})


# Slow learners.


@pytest.mark.parametrize(
    "algorithm", ["cispo", "grpo", "dapo", "dr_grpo", "gspo", "reinforce", "sft", "opd"]
)
def test_every_slow_learner_trains_and_goes_on(
    algorithm: str, fst: RunResult, tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    own = {"opd": {"teacher": str(fst.folder)}, "sft": {"threshold": 0.1}}.get(algorithm, {})
    slow = {"algorithm": algorithm, algorithm: own}
    config = tiny_config(tiny_model_dir, task, tmp_path, slow=slow, fast={"every": 1})
    whole = train(config, ["name=whole", "steps=2"], console=False)
    part = train(config, ["name=part", "steps=1"], console=False)
    resume(part.folder, ["steps=2"], console=False)
    rows = [row for row in whole.metrics() if row["phase"] == "slow"]
    assert [row["step"] for row in rows] == [1, 2]
    assert any("loss" in row for row in rows)
    for file in ("model/model.safetensors", "optimiser.safetensors"):
        place = Path("checkpoints", "step_000002", file)
        assert (part.folder / place).read_bytes() == (whole.folder / place).read_bytes()
    if algorithm == "opd":
        assert "teacher/model.safetensors" in (part.folder / "inputs.json").read_text()


# Distillation.


def test_distilling_trains_on_what_is_said_without_a_context(
    tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    result = train(
        tiny_config(tiny_model_dir, task, tmp_path, seed=1, slow={"algorithm": "distill"}),
        console=False,
    )
    rows = [row for row in result.metrics() if row["phase"] == "slow"]
    assert len(rows) == 4
    for row in rows:
        assert row["kl/teacher"] > 0  # with this seed another context than the seed is kept
        assert row["rollouts/reused"] == 0
        assert row["logprob/mismatch"] <= 1e-4
    sampled = read_rollouts(result.folder).to_pylist()
    (seed,) = {row["context"] for row in sampled if row["phase"] == "slow"}
    fast = {row["context"] for row in sampled if row["phase"] == "fast"}
    assert seed in fast, "the first fast phase knows the seed context"
    assert len(fast) > 1


# Models that runs have made.


def weights(name: Path) -> dict[str, torch.Tensor]:
    model, _ = load_model(str(name))
    return {key: value.detach() for key, value in model.named_parameters()}


def test_a_run_goes_by_its_latest_checkpoint(fst: RunResult, tiny_model_dir: Path) -> None:
    checkpoint = fst.folder / "checkpoints" / "step_000004"
    saved = load_file(checkpoint / "model" / "model.safetensors")
    for name in (fst.folder, checkpoint):
        loaded = weights(name)
        for key, value in saved.items():
            assert torch.equal(loaded[key], value)
    assert any(not torch.equal(loaded[k], v) for k, v in weights(tiny_model_dir).items())
    assert "step_000004" in resolve(str(fst.folder)).description


def test_a_damaged_checkpoint_is_no_model_even_if_it_is_named(
    fst: RunResult, tmp_path: Path
) -> None:
    run = shutil.copytree(fst.folder, tmp_path / "run")
    weights = run / "checkpoints" / "step_000004" / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"step_000004: this checkpoint is damaged: model/model.s"):
        resolve(str(run / "checkpoints" / "step_000004"))
    assert "step_000002" in resolve(str(run)).description


def test_an_adapter_is_merged_into_what_it_was_trained_on(
    adapter: RunResult, tiny_model_dir: Path
) -> None:
    from peft import PeftModel

    model, _ = load_model(str(tiny_model_dir))
    folder = adapter.folder / "checkpoints" / "step_000004" / "model"
    peft = PeftModel.from_pretrained(model, folder).eval()
    merged, _ = load_model(str(adapter.folder))
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        expected, found = peft(tokens).logits, merged(tokens).logits
        with peft.disable_adapter():
            before = peft(tokens).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-3)


def test_a_run_may_begin_where_another_has_ended(fst: RunResult, task: str, tmp_path: Path) -> None:
    config = tiny_config(fst.folder, task, tmp_path, method="rl", eval={"drift": True})
    result = train(config, console=False)
    rows = [row for row in result.metrics() if row["phase"] == "eval"]
    assert rows[0]["drift/exact"] == pytest.approx(0, abs=1e-6), "its base is where it began"
    start, end = weights(fst.folder), weights(result.folder)
    assert any(not torch.equal(start[key], value) for key, value in end.items())


def test_a_run_that_kept_its_weights_stands_for_its_model(
    tiny_model_dir: Path, task: str, tmp_path: Path
) -> None:
    result = train(tiny_config(tiny_model_dir, task, tmp_path, method="fast"), console=False)
    source = resolve(str(result.folder))
    assert source.location == str(tiny_model_dir)
    assert "kept" in source.description


def test_a_run_without_a_checkpoint_is_no_model(fst: RunResult, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.toml").write_bytes((fst.folder / "config.toml").read_bytes())
    with pytest.raises(InputError, match="no checkpoint yet"):
        resolve(str(tmp_path))
