"""The inputs of a run beside its configuration: ``inputs.json`` in its folder and checkpoints.

A configuration names files. Their digests show whether the files have changed since the run was
trained. Each checkpoint keeps the digests that it was trained with. The run's folder keeps the
digests of the present inputs, as it keeps the present ``config.toml``.
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
    """One input of a run.

    Attributes:
        digest: SHA-256, in hexadecimal digits.
        what: description for messages: a file's path, "32 problems".
        path: path of a file that the configuration names; "" for other inputs.
    """

    digest: str
    what: str
    path: str = ""


class Acceptance(_Record):
    """A record that the user let the run continue with changed inputs.

    Attributes:
        step: the step from which the run continued.
        changes: one line for each changed input.
    """

    step: int
    changes: tuple[str, ...]


class Inputs(_Record):
    """The inputs of a run.

    Attributes:
        folder: the working directory in which the run was started. Relative paths start there.
        date: the day on which the run was started, passed to the model's chat template; None: no
            day is recorded.
        moved: the present place of a moved file or folder, by the key that names it.
        found: the inputs, by the key that names them.
        accepted: changes of inputs that the user accepted.
    """

    folder: str = ""
    date: datetime.date | None = None
    moved: Mapping[str, str] = {}
    found: Mapping[str, Input] = {}
    accepted: tuple[Acceptance, ...] = ()

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def read_inputs(folder: Path) -> Inputs:
    """Read the record in the folder of a run or a checkpoint. A missing record gives empty
    ``Inputs``.

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
    """The name of a run's base model, in a form that resolves from any working directory."""
    inputs = read_inputs(run)
    name = inputs.moved.get("model", model)
    path = os.path.join(inputs.folder, expanded(name))
    return path if os.path.exists(path) else name


def differences(before: Mapping[str, Input], after: Mapping[str, Input]) -> list[str]:
    """One line for each input that changed."""
    lines = []
    for key in [*before, *(key for key in after if key not in before)]:
        was, now = before.get(key), after.get(key)
        if was is None or now is None or was.digest != now.digest:
            lines.append(f"{key}: was {_shown(was)}; is {_shown(now)}")
    return lines


def digest_of(data: bytes | Path) -> str:
    """SHA-256 of bytes, or of a whole file. Raises: OSError."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(found: Input | None) -> str:
    return "not there" if found is None else f"{found.what} (SHA-256 {found.digest[:12]})"
