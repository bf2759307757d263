"""Every key of a configuration is described, listed by the command and on its page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastslow.errors import InputError
from fastslow.keys import keys, lines

REPOSITORY = Path(__file__).parents[1]


def printed(expression: str) -> str:
    """What a fresh process prints: in this one, tests register tasks and learners of their own."""
    code = f"from fastslow.keys import keys, markdown; print({expression}, end='')"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


def test_every_key_has_a_description() -> None:
    assert printed("*(key.name for key in keys() if not key.description)") == ""


def test_the_page_is_up_to_date() -> None:
    page = (REPOSITORY / "docs/config.md").read_text(encoding="utf-8")
    assert page == printed("markdown(keys())"), "run make docs"


def test_a_prefix_names_a_key_or_a_table() -> None:
    assert [key.name for key in keys("slow.lr")] == ["slow.lr"]
    assert {key.name.rpartition(".")[0] for key in keys("slow.dapo")} == {"slow.dapo"}
    (path,) = keys("task.jsonl.path")
    assert (path.type, path.default, path.required) == ("path", None, True)


@pytest.mark.parametrize(
    ("wrong", "near"), [("slow.dappo", "slow.dapo"), ("fast.populaton", "fast.population")]
)
def test_an_unknown_prefix_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InputError, match=f"no key '{wrong}'; did you mean '{near}'"):
        keys(wrong)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lines_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = [key for key in keys() if len(key.name) <= columns]
    assert max(map(len, lines(found))) <= columns


def test_json_holds_every_key() -> None:
    found = [json.loads(line) for line in lines(keys("fast.population"), as_json=True)]
    assert found[0]["default"] == "4"
    assert found[0]["type"] == "whole number (at least 1, at most 10,000)"
