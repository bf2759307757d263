from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fastslow.run.jsonl import JsonLines, read_lines


def test_lines_are_read_back_while_the_file_is_open(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "m.jsonl")
    file.append({"step": 1, "loss": 0.1})
    file.append({"step": 2, "loss": math.inf, "text": "\ud800 ü"})
    assert list(read_lines(file.path)) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": math.inf, "text": "\ud800 ü"},
    ]
    assert file.size == file.path.stat().st_size


def test_a_line_that_is_half_written_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st')
    assert list(read_lines(path)) == [{"step": 1}]


def test_a_cut_brings_back_the_very_same_bytes(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "m.jsonl")
    file.append({"step": 1})
    before, size = file.path.read_bytes(), file.size
    file.append({"step": 2})
    file.cut(size)
    assert file.path.read_bytes() == before
    file.append({"step": 3})
    assert list(read_lines(file.path)) == [{"step": 1}, {"step": 3}]
    with pytest.raises(ValueError, match="fewer than 1000"):
        file.cut(1000)


def test_a_line_that_does_not_fit_leaves_no_part_of_itself(
    tmp_path: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    file = JsonLines(tmp_path / "m.jsonl")
    file.append({"step": 1})
    with largest_file(file.size + 10), pytest.raises(OSError, match="too large"):
        file.append({"step": 2, "text": "x" * 100})
    assert list(read_lines(file.path)) == [{"step": 1}]
    assert file.path.stat().st_size == file.size
    file.append({"step": 3})
    assert list(read_lines(file.path)) == [{"step": 1}, {"step": 3}]
