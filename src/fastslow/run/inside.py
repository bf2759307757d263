"""What a run's folder is made of: regular files and real folders, and nothing that leads elsewhere.

A run is handed on as a folder. A link in it would have a resumed run cut, replace or delete what
lies outside, and a named pipe or a device would have it wait for ever. So a folder is looked
through before anything in it is opened, and refused as it is. The folder itself may be reached by a
link, which the user gave. What is opened afterwards is opened by ``regular``, which follows none.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from fastslow import config as configuration
from fastslow.config import RunConfig
from fastslow.errors import InputError
from fastslow.regular import kind

CONFIG = "config.toml"

MAX_ENTRIES = 1_000_000
"""Files and folders of one run: a hundred thousand steps with a file of rollouts each are fewer."""

MAX_DEPTH = 16
"""Folders within one another."""


def load_config(path: Path) -> RunConfig:
    """The configuration of the run, or of the checkpoint, in the folder ``path``.

    Raises:
        InputError: it is no run, holds what no run holds (see ``refuse_strange_entries``), or its
            configuration is wrong.
    """
    try:
        if path.is_dir():
            refuse_strange_entries(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not (path / CONFIG).is_file():
        place = "in it" if path.is_dir() else "there, nor such a folder"
        raise InputError(
            f"{path}: is no run: there is no {CONFIG} {place}; give a folder that `fastslow train` "
            "made"
        )
    return configuration.load(path / CONFIG)


def refuse_strange_entries(folder: Path) -> None:
    """See that ``folder`` holds nothing but regular files and real folders, however deep.

    Raises:
        InputError: it holds anything else, or more than a run does. Nothing was opened.
        OSError: it cannot be looked through.
    """
    try:
        for _ in files_below(folder):
            pass
    except ValueError as error:
        raise InputError(
            f"{folder}: {error}. A run's folder holds regular files and real folders alone; "
            "nothing in this one was opened or changed. If somebody handed it to you, do not trust "
            "it. If the entry is your own, put the file or the folder itself in its place"
        ) from None


def files_below(folder: Path) -> Iterator[str]:
    """Every file below a folder by its path from there, with ``/`` between parts.

    Raises:
        ValueError: something below it is neither a regular file nor a real folder, or there is
            more than a run holds.
        OSError: it cannot be looked through.
    """
    for number, entry in enumerate(_entries(folder, MAX_DEPTH), start=1):
        if number > MAX_ENTRIES:
            raise ValueError(f"it holds more than {MAX_ENTRIES:,} files and folders")
        mode = entry.stat(follow_symlinks=False).st_mode
        found = kind(mode)
        name = Path(entry.path).relative_to(folder).as_posix()
        if found is None:
            yield name
        elif not stat.S_ISDIR(mode):
            raise ValueError(f"{name!r} in it is {found}")


def remove(path: Path) -> None:
    """Remove what has this name, a folder with all that is in it; a link goes, not what it names.

    Raises: OSError.
    """
    try:
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if is_folder:
        shutil.rmtree(path)
    else:
        path.unlink()


def _entries(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    if not depth:
        raise ValueError(f"it nests folders more than {MAX_DEPTH} deep")
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path), depth - 1)
