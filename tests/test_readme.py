"""What the README tells people to write works as written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fastslow import config as configuration
from fastslow.config import TaskConfig
from fastslow.tasks.registry import create

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_configurations_are_accepted() -> None:
    whole, stages = blocks("toml")
    assert configuration.parse(tomllib.loads(whole)).steps == 60
    assert configuration.parse({"model": "m", **tomllib.loads(stages)}).total_steps == 100


def test_task_of_ones_own_takes_under_30_lines_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = next(block for block in blocks("python") if "class Squares" in block)
    assert len(block.splitlines()) < 30
    (tmp_path / "squares.py").write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    task = create(TaskConfig(name="squares.py:Squares"), 0, "README.md")

    problem = task.problems("train")[7]
    answer = task.demonstrate(problem)
    assert answer is not None
    assert task.grade(problem, answer).score == 1
    assert task.grade(problem, "no tags").score == 0


def test_every_file_it_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
