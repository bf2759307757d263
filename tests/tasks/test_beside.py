"""Modules beside a task's file: found, followed, and never in a library's place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastslow.errors import InputError
from fastslow.tasks.beside import files_of, refuse_namesakes
from fastslow.tasks.loading import load_file


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.path[:] = path


def write(folder: Path, **files: str) -> Path:
    """Write modules, by their names. Returns that of ``task``."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder / "task.py"


def test_the_files_that_a_task_is_made_of(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        task="import json\nfrom first_helper import f\ndef g():\n    import pack_age.deep\n",
        first_helper="from second_helper import *\nimport task",
        second_helper="import numpy, not_there",
        unrelated="",
    )
    write(
        tmp_path / "pack_age",
        __init__="",
        deep="from . import sibling\nfrom .sibling import x\nfrom ..outside import y",
        sibling="syntax error(",
    )
    names = [file.relative_to(tmp_path).as_posix() for file in files_of(path)]
    assert names[0] == "task.py"
    assert sorted(names[1:]) == [
        "first_helper.py", "pack_age/__init__.py", "pack_age/deep.py", "pack_age/sibling.py",
        "second_helper.py",
    ]  # fmt: skip


def test_the_standard_library_comes_first(tmp_path: Path) -> None:
    path = write(
        tmp_path, task="import colorsys\nVALUE = colorsys.__name__, colorsys", colorsys="raise"
    )
    sys.modules.pop("colorsys", None)
    assert Path(load_file(path).VALUE[1].__file__).parent != tmp_path


def test_a_module_of_an_earlier_task_makes_room(tmp_path: Path) -> None:
    paths = [
        write(
            tmp_path / name, task="from same_helper import VALUE", same_helper=f"VALUE = '{name}'"
        )
        for name in ("a", "b")
    ]
    assert [load_file(path).VALUE for path in paths] == ["a", "b"]
    with pytest.raises(InputError, match="two modules of one name"):
        refuse_namesakes(paths)


def test_no_library_is_shadowed_afterwards(tmp_path: Path) -> None:
    load_file(write(tmp_path, task="", late_helper="VALUE = 1"))
    assert sys.path[-1] == str(tmp_path)
    assert __import__("late_helper").VALUE == 1
