"""Paths as users write them, and the folder that relative paths start at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from fastslow.errors import InputError


@dataclass(frozen=True)
class _Mark:
    """Marks the type of an option that names a file or a folder."""


def expanded(text: str | Path) -> Path:
    """Convert ``text`` to a path, with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        ValueError: the user has no home folder, or the text contains a NUL character.
    """
    if "\0" in str(text):
        raise ValueError(f"a path holds no NUL character; found {str(text)!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder for {str(text)!r}: write it out") from None


def given(text: str | Path) -> Path:
    """As ``expanded``, for an argument of a command or a function. Raises: InputError."""
    try:
        return expanded(text)
    except ValueError as error:
        raise InputError(str(error)) from None


def _expanded_text(text: str) -> str:
    return str(expanded(text)) if text.startswith("~") or "\0" in text else text


Place = Annotated[Path, AfterValidator(expanded), _Mark()]
"""An option that names a file or a folder. Relative paths start at the working directory."""

PlaceOrName = Annotated[str, AfterValidator(_expanded_text), _Mark()]
"""An option that names a file, a folder, or something else, such as an id on the hub."""


def is_place(annotation: Any, metadata: Any = ()) -> bool:
    """Whether the values of a field are paths: the field is a ``Place``, a ``PlaceOrName`` or a
    ``Path``, or one of them or None."""
    if annotation is Path or any(isinstance(item, _Mark) for item in metadata):
        return True
    further = getattr(annotation, "__metadata__", ())
    arguments = getattr(annotation, "__args__", ())
    return any(is_place(argument, further) for argument in arguments)


def working_folder() -> Path:
    """The working directory. Raises: InputError if it was removed."""
    try:
        return Path.cwd()
    except OSError as error:
        raise InputError(
            f"the working directory cannot be used: {error}: change to another"
        ) from None


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make ``folder`` the process's working directory inside the ``with`` block, if it exists."""
    with contextlib.ExitStack() as stack:
        if os.path.isdir(folder):
            stack.enter_context(contextlib.chdir(folder))
        yield
