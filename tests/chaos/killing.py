"""Runs whose process is killed, time after time, and resumed until they are done.

A process is killed by SIGKILL, after some seconds or at its n-th use of the file system, where
files are half written. Just before, it writes its stack down, which tells what it was doing.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_run import outcome, processes

PLACES = {
    "save_checkpoint": "writing a checkpoint",
    "_prune": "removing a checkpoint",
    "rewind": "rewinding",
    "write_rollouts": "writing rollouts",
    "on_metrics": "writing metrics",
    "_record_context": "writing contexts",
    "on_evolution": "writing contexts",
    "save_weights": "writing a checkpoint",
    "load_weights": "loading a checkpoint",
    "latest_checkpoint": "loading a checkpoint",
    "open_trainer": "loading the model",
    "build_curriculum": "starting",
    "step": "an update",
    "grade": "grading",
    "sample": "sampling",
    "_fast_phase": "a fast phase",
    "evaluate": "an evaluation",
    "_slow_step": "a slow step",
}
"""What a process does by the functions that are on its stack; the innermost one counts."""


_SHARE = 0.8
"""Of a whole run that a process may do, at most, before it is killed: so it takes several."""


@dataclass(frozen=True)
class Whole:
    """A run that nobody killed: what it came to, and what it took."""

    outcome: dict[str, Any]
    seconds: float
    file_uses: int


@dataclass(frozen=True)
class Killed:
    """A run that was killed: where, time after time, and whether it came to the same."""

    places: tuple[str, ...]
    identical: bool


def undisturbed(config: Mapping[str, Any], folder: Path) -> Whole:
    """A run in a process of its own that nobody kills."""
    folder.mkdir()
    process = _start(config, folder, None, folder / "measures")
    process.join()
    assert process.exitcode == 0, (folder / "errors").read_text()
    seconds, uses = (folder / "measures").read_text().split()
    return Whole(_everything(folder / "run"), float(seconds), int(uses))


def killed_until_done(
    config: Mapping[str, Any], folder: Path, whole: Whole, rng: random.Random, most: int
) -> Killed:
    """The same run, killed at random moments until it ends before it is, ``most`` times at most."""
    folder.mkdir()
    places: list[str] = []
    attempts = 0
    while True:
        attempts += 1
        stack = folder / f"stack{attempts}"
        spared = len(places) == most
        by_use = rng.random() < 0.5 and not spared
        use = rng.randrange(int(_SHARE * whole.file_uses)) if by_use else None
        process = _start(config, folder, use, stack)
        waits = by_use or spared
        process.join(None if waits else rng.uniform(0, _SHARE * whole.seconds))
        if process.exitcode is None:
            if stack.exists():
                os.kill(process.pid, signal.SIGUSR1)
                time.sleep(0.002)
            process.kill()
            process.join()
        if process.exitcode >= 0:
            done = process.exitcode == 0
            return Killed(tuple(places), done and _everything(folder / "run") == whole.outcome)
        if process.exitcode == -signal.SIGKILL:  # and not of writing its stack down, as happens
            places.append(_place(stack))


def _everything(run: Path) -> dict[str, Any]:
    """What a run came to, and which checkpoints are left."""
    return {**outcome(run), "kept": sorted(os.listdir(run / "checkpoints"))}


def _start(config: Mapping[str, Any], folder: Path, use: int | None, stack: Path) -> Any:
    settings = {**config, "name": "run", "log": {**config["log"], "folder": str(folder)}}
    process = processes().Process(target=_work, args=(settings, folder, use, stack))
    process.start()
    return process


def _work(config: Mapping[str, Any], folder: Path, use: int | None, stack: Path) -> None:
    """Begin the run, or go on with it; with ``use``, no further than that use of files."""
    from fastslow.training import resume, train

    started = time.perf_counter()
    errors = os.open(folder / "errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)
    with stack.with_suffix(".new").open("w") as file:
        faulthandler.register(signal.SIGUSR1, file, all_threads=False)
        stack.with_suffix(".new").rename(stack)  # now it may be sent that signal
        uses = _watch_files(lambda count: _die(file) if count == use else None)
        if (folder / "run" / "config.toml").exists():
            resume(folder / "run", console=False)
        else:
            train(config, console=False)
        if use is None:
            file.write(f"{time.perf_counter() - started} {uses()}")


def _die(file: Any) -> None:
    faulthandler.dump_traceback(file, all_threads=False)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch_files(on_use: Callable[[int], None]) -> Callable[[], int]:
    """Have every use of the file system told, with its number; returns how many there were."""
    count = -1

    def hear(event: str, _: object) -> None:
        nonlocal count
        if event == "open" or event.split(".")[0] in ("os", "shutil"):
            count += 1
            on_use(count)

    sys.addaudithook(hear)
    return lambda: count + 1


def _place(stack: Path) -> str:
    """What a process was doing, by the stack that it left."""
    lines = stack.read_text().splitlines() if stack.exists() else []
    functions = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    return next((PLACES[name] for name in functions if name in PLACES), "starting")
