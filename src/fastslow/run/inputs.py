"""What a run was given beside its configuration: ``inputs.json`` in its folder and checkpoints.

A configuration names files; their digests say whether they are still the ones that the run was
trained with. Each checkpoint keeps those that it was trained with, and the run's folder those that
the run works with now, as with ``config.toml``.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fastslow.errors import InputError
from fastslow.places import expanded
from fastslow.regular import read_bytes

FILE = "inputs.json"

_MAX_BYTES = 2**24


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Record):
    """One of the things that a run is given.

    Attributes:
        digest: SHA-256, in hexadecimal digits.
        what: what was found, for messages: a file's path, "32 problems".
        path: where it is, of a file that the configuration names; "" for anything else.
    """

    digest: str
    what: str
    path: str = ""


class Acceptance(_Record):
    """That the run went on with other inputs, because somebody wanted it to.

    Attributes:
        step: that it went on from.
        changes: one line for each input that differed.
    """

    step: int
    changes: tuple[str, ...]


class Inputs(_Record):
    """The inputs of a run.

    Attributes:
        folder: the working directory in which the run was begun, which relative paths start at.
        date: the day that the run was begun, which the model's chat template is told; None: no day
            is recorded.
        moved: where a file or folder is now, by the key that named it.
        found: the inputs, by the key that names them.
        accepted: changes that somebody told the run to go on with.
    """

    folder: str = ""
    date: datetime.date | None = None
    moved: Mapping[str, str] = {}
    found: Mapping[str, Input] = {}
    accepted: tuple[Acceptance, ...] = ()

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def read_inputs(folder: Path) -> Inputs:
    """What is recorded in the folder of a run or a checkpoint; nothing where there is no record.

    Raises:
        InputError: the record is damaged.
    """
    path = folder / FILE
    try:
        return Inputs.model_validate_json(read_bytes(path, _MAX_BYTES))
    except FileNotFoundError:
        return Inputs()
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no record of inputs"
        raise InputError(
            f"{path}: cannot be read: {reason}. Copy the one of the latest checkpoint in its place"
        ) from None


def located_model(run: Path, model: str) -> str:
    """The name of a run's base model as it can be resolved from any working directory."""
    inputs = read_inputs(run)
    name = inputs.moved.get("model", model)
    path = os.path.join(inputs.folder, expanded(name))
    return path if os.path.exists(path) else name


def differences(before: Mapping[str, Input], after: Mapping[str, Input]) -> list[str]:
    """One line for each input that is not what it was."""
    lines = []
    for key in [*before, *(key for key in after if key not in before)]:
        was, now = before.get(key), after.get(key)
        if was is None or now is None or was.digest != now.digest:
            lines.append(f"{key}: was {_shown(was)}; is {_shown(now)}")
    return lines


def digest_of(data: bytes | Path) -> str:
    """SHA-256 of some bytes, or of a file, which is read whole. Raises: OSError."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(found: Input | None) -> str:
    return "not there" if found is None else f"{found.what} (SHA-256 {found.digest[:12]})"
