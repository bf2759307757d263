"""The examples of docs/extending.md: each is complete, short, and trains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from fastslow.config import TaskConfig
from fastslow.run.jsonl import read_lines
from fastslow.tasks.registry import create
from fastslow.training import RunResult, train
from tiny_run import tiny_config, write_task

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def example(heading: str) -> str:
    """The example below a heading, after it was run as a script would be."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(code.splitlines()) < 60
    exec(compile(code, f"{PAGE}: {heading}", "exec"), {"__name__": "an_example"})
    return code


@pytest.fixture
def trained(tiny_model_dir: Path, tmp_path: Path) -> Any:
    def run(**settings: Any) -> RunResult:
        config = tiny_config(tiny_model_dir, write_task(tmp_path), tmp_path, **settings)
        return train(config, console=False)

    return run


def test_a_slow_learner(trained: Any) -> None:
    example("A slow learner")
    result = trained(slow={"algorithm": "truncated_is"})
    assert any("loss" in row for row in result.metrics())


def test_a_fast_learner(trained: Any) -> None:
    example("A fast learner")
    fast = {"algorithm": "suffixes", "suffixes": {"suffixes": ["Be kind."]}}
    result = trained(fast=fast)
    tried = list(read_lines(result.folder / "contexts.jsonl"))
    assert {row["origin"] for row in tried} == {"seed", "suffixes"}
    assert any(row["instructions"].endswith(" Be kind.") for row in tried)


def test_a_proposer(trained: Any) -> None:
    example("A proposer")
    result = trained(fast={"components": ["demonstrations", "shuffle"], "proposals": 12})
    origins = {row["origin"] for row in read_lines(result.folder / "contexts.jsonl")}
    assert "demonstrations" in origins
    assert result.metrics()


def test_a_task() -> None:
    example("A task")
    task = create(TaskConfig(name="squares"), 0, "docs/extending.md")
    problem = task.problems("validation")[3]
    answer = task.demonstrate(problem)
    assert answer is not None
    assert task.grade(problem, answer).score == 1
    assert task.grade(problem, "no").score == 0


def test_a_backend(trained: Any, tiny_model_dir: Path) -> None:
    example("A backend")
    result = trained(policy={"backend": "fixed_embeddings", "max_tokens": 8}, slow={"lr": 1e-2})
    weights = load_file(result.folder / "checkpoints/step_000004/model/model.safetensors")
    usual = load_file(
        trained(name="usual", slow={"lr": 1e-2}).folder
        / "checkpoints/step_000004/model/model.safetensors"
    )
    first = load_file(tiny_model_dir / "model.safetensors")
    (name,) = [name for name in weights if "embed" in name]
    assert weights[name].equal(first[name])
    assert not usual[name].equal(first[name])
    assert any(not weights[other].equal(first[other]) for other in weights)
