"""Digests of what a run is given, and where it is found."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastslow import config as configuration
from fastslow.errors import InputError
from fastslow.inputs import Located, locate, problems_digest
from fastslow.run.inputs import FILE, Input, Inputs, differences, located_model, read_inputs
from fastslow.types import Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    value: int


class Plain:
    def __init__(self, value: int) -> None:
        self.value = value


REFERENCES = (
    None, 1, 1.5, "1", b"1", [1, 2], [2, 1], {"a": 1}, {"a": 2}, {1, 2}, Slotted(1), Slotted(2),
    Plain(1), Plain(2), {"deep": [Plain(3)]}, {"deep": [Plain(4)]},
)  # fmt: skip


def test_problems_that_differ_have_other_digests() -> None:
    problems = [Problem("p", "q", reference) for reference in REFERENCES]
    problems += [Problem("p2", "q"), Problem("p", "q2")]
    digests = {problems_digest([problem]) for problem in problems}
    assert len(digests) == len(problems)
    assert problems_digest(problems) != problems_digest(problems[::-1])


def test_a_digest_is_the_same_in_every_process() -> None:
    code = (
        "from test_inputs import *\n"
        "words = [Problem('p', 'q', {'x': {'a', 'b', 'c', 'd'}, 'y': Plain(1), 'z': len})]\n"
        "print(problems_digest(words))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(digests) == 1


def test_a_knot_has_a_digest() -> None:
    knot: list[Any] = []
    knot.append(knot)
    assert problems_digest([Problem("p", "q", knot)])


def test_every_difference_is_a_line() -> None:
    def found(digest: str) -> Input:
        return Input(digest=digest * 64, what=f"what {digest}")

    before = {"same": found("a"), "other": found("b"), "gone": found("c")}
    after = {"same": found("a"), "other": found("d"), "new": found("e")}
    assert differences(before, after) == [
        "other: was what b (SHA-256 bbbbbbbbbbbb); is what d (SHA-256 dddddddddddd)",
        "gone: was what c (SHA-256 cccccccccccc); is not there",
        "new: was not there; is what e (SHA-256 eeeeeeeeeeee)",
    ]


def test_a_record_is_read_back_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    inputs = Inputs(folder="/f", moved={"model": "/m"}, found={"k": Input(digest="d", what="w")})
    assert read_inputs(tmp_path) == Inputs()
    (tmp_path / FILE).write_text(inputs.to_json())
    assert read_inputs(tmp_path) == inputs
    for text in ("", "{", "[]", '{"folder": 3}', '{"extra": 1}', "\xff"):
        (tmp_path / FILE).write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=f"{FILE}: cannot be read"):
            read_inputs(tmp_path)


def test_the_base_of_a_run_is_found_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "place" / "tiny").mkdir(parents=True)
    assert located_model(tmp_path, "tiny") == "tiny"
    (tmp_path / FILE).write_text(Inputs(folder=str(tmp_path / "place")).to_json())
    assert located_model(tmp_path, "tiny") == str(tmp_path / "place" / "tiny")
    assert located_model(tmp_path, "owner/name") == "owner/name"


STAGES = {
    "model": "m",
    "stages": [
        {"steps": 1, "task": {"name": "jsonl", "path": "q.jsonl"}},
        {"steps": 1, "mix": [{"task": {"name": "star_graph"}}]},
        {"steps": 1, "task": {"name": "jsonl", "path": "q.jsonl"}},
    ],
}


def test_a_task_of_several_stages_is_moved_once(tmp_path: Path) -> None:
    config = configuration.parse(STAGES)
    (tmp_path / "r.jsonl").touch()
    overrides = ["stages.2.task.path=r.jsonl", "slow.lr=1"]
    located, others = locate(config, "c.toml", Inputs(), overrides, tmp_path)
    assert others == ["slow.lr=1"]
    assert located.moved == {"stages.0.task.path": str(tmp_path / "r.jsonl")}
    assert located.tasks["q"].options == {"path": str(tmp_path / "r.jsonl")}
    assert list(located.tasks) == list(config.tasks)


@pytest.mark.parametrize(
    "override", ["stages.0.task.question=q", "stages.1.mix.0.task.d=4", "steps=3", "name=x"]
)
def test_other_keys_are_not_where_something_is(override: str, tmp_path: Path) -> None:
    config = configuration.parse(STAGES)
    located, others = locate(config, "c.toml", Inputs(), [override], tmp_path)
    assert others == [override]
    assert located == Located(config, "c.toml", {})
