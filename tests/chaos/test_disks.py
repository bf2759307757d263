"""Runs on a disk that is full, or that becomes read-only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disks import Disk

from fastslow.errors import InputError, RunError
from fastslow.run import checkpoint as checkpoints
from fastslow.training import resume, train
from tiny_run import outcome, processes, tiny_config, write_task

NOT_ALLOWED = 77
"""How a process ends that may mount nothing."""


def in_a_process(work: Callable[..., None], *arguments: Any) -> None:
    process = processes().Process(target=_on_own_disk, args=(work, arguments))
    process.start()
    process.join(120)
    if process.exitcode == NOT_ALLOWED:
        pytest.skip("this system lets nobody mount a disk")
    assert process.exitcode == 0


def _on_own_disk(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    folder = arguments[0]
    try:
        disk = Disk(folder, 2**26)
    except OSError:
        os._exit(NOT_ALLOWED)
    work(disk, *arguments)


@pytest.fixture
def config(tiny_model_dir: Path, tmp_path: Path) -> dict[str, Any]:
    return tiny_config(tiny_model_dir, write_task(tmp_path), tmp_path / "disk")


def fill_and_go_on(disk: Disk, folder: Path, config: dict[str, Any]) -> None:
    """However little of a run fits, what it had saved is whole, and it ends the same."""
    undisturbed = outcome(train(config, ["name=whole"], console=False).folder)
    whole = used(folder)
    for percent in (3, 40, 70, 97):
        name = f"run{percent}"
        disk.resize(used(folder) + whole * percent // 100)
        with pytest.raises((RunError, InputError)) as caught:
            train(config, [f"name={name}"], console=False)
        message = str(caught.value)
        assert "No space left on device" in message
        saved = checkpoints.latest(folder / name / "checkpoints")
        disk.resize(2**26)
        if isinstance(caught.value, InputError):  # nothing had begun
            train(config, [f"name={name}"], console=False)
        else:
            assert f"`fastslow resume {folder / name}`" in message
            assert saved is None or f"{saved.path} is intact" in message
            resume(folder / name, console=False)
        assert outcome(folder / name) == undisturbed, percent


def used(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_a_run_that_filled_the_disk_goes_on_once_there_is_space(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    in_a_process(fill_and_go_on, tmp_path / "disk", config)


def go_on_read_only(disk: Disk, folder: Path, config: dict[str, Any]) -> None:
    run = train(config, ["steps=2"], console=False).folder
    before = outcome(run)
    disk.protect()
    with pytest.raises(RunError, match=r"cannot be written to: .*Read-only file system"):
        resume(run, console=False)
    with pytest.raises(InputError, match=r"cannot be made a run's folder: .*Read-only"):
        train(config, ["name=another"], console=False)
    assert outcome(run) == before


def test_a_run_on_a_disk_that_is_read_only_is_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    in_a_process(go_on_read_only, tmp_path / "disk", config)
