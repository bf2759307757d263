"""What each process leaves alone when it starts: fastslow starts many, and every import costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fastslow
from fastslow.sandbox.jail import INSIDE

LIBRARIES = {"torch", "transformers", "numpy", "scipy", "sympy", "matplotlib", "datasets", "gepa"}
CONFIGURATION = {"pydantic", "fastslow.config"}
DISPLAY = {"typer", "click", "rich", "pygments"}
FRESH = f"import sys; sys.path.insert(0, {str(Path(fastslow.__file__).parents[1])!r}); "

OWN_TASK = """
from fastslow import Problem, Task, Verdict, register

@register("own")
class Own(Task):
    def problems(self, split):
        return [Problem("1", "?")]

    def grade(self, problem, completion):
        return Verdict(1.0)
"""


def imported(code: str, *options: str) -> set[str]:
    """The modules of a fresh process after it has run ``code``."""
    code += "; print('modules:', *sys.modules)"
    command = [sys.executable, "-P", *options, "-c", code]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("modules:")[2].split())


@pytest.mark.parametrize(
    ("code", "left_alone"),
    [
        pytest.param(
            "import fastslow",
            LIBRARIES | CONFIGURATION | DISPLAY | {"importlib.metadata", "logging"},
            id="package",
        ),
        pytest.param(
            "import fastslow.fast.client_process",
            LIBRARIES | CONFIGURATION | DISPLAY | {"httpx", "fastslow.tasks", "fastslow.types"},
            id="module that the client shares with its process",
        ),
        pytest.param(
            "from fastslow.fast import client_process as process; process._limit_memory = int; "
            "process.Guard().install()",
            LIBRARIES | CONFIGURATION | DISPLAY,
            id="process that asks servers",
        ),
        pytest.param(
            "import fastslow.tasks.grading_server",
            LIBRARIES | CONFIGURATION | DISPLAY | {"httpx", "fastslow.tasks.registry"},
            id="process that grades",
        ),
        pytest.param(
            "import fastslow.sandbox.jail",
            LIBRARIES | CONFIGURATION | DISPLAY | {"fastslow.tasks", "logging"},
            id="sandbox",
        ),
        pytest.param(
            "import fastslow.cli",
            LIBRARIES | CONFIGURATION | {"rich", "pygments", "fastslow.tasks", "fastslow.run"},
            id="command",
        ),
        pytest.param(
            "from fastslow.cli import app; app(['--help'], standalone_mode=False)",
            LIBRARIES | CONFIGURATION | {"rich", "pygments", "fastslow.tasks", "fastslow.run"},
            id="help",
        ),
    ],
)
def test_a_process_leaves_alone_what_it_does_not_need(code: str, left_alone: set[str]) -> None:
    assert sorted(imported(FRESH + code) & left_alone) == []


def test_a_task_of_ones_own_brings_no_configuration_into_its_graders(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN_TASK, encoding="utf-8")
    load = f"from fastslow.tasks import grading_server as it; it.load_file(it.Path({str(path)!r}))"
    found = imported(FRESH + load)
    assert sorted(found & (LIBRARIES | CONFIGURATION | DISPLAY)) == []


def test_the_warden_of_programs_imports_nothing_of_ours_and_little_of_python() -> None:
    folder, name = str(INSIDE.parent), INSIDE.stem
    found = imported(f"import sys; sys.path.insert(0, {folder!r}); import {name}", "-s", "-S")
    assert sorted(found & {"fastslow", "typing", "re", "dataclasses", "subprocess"}) == []


@pytest.mark.parametrize(
    "package", ["fastslow", "fastslow.tasks", "fastslow.slow", "fastslow.sandbox"]
)
def test_every_public_name_can_be_had_and_is_listed(package: str) -> None:
    module = __import__(package, fromlist=["__all__"])
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert fastslow.__version__ == version("fastslow")
