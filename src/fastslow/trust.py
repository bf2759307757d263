"""Whether a run may execute the code, and speak to the servers, that its configuration names.

A run's folder holds a configuration, and a folder can be handed on: resuming or evaluating it would
execute whatever its maker wrote there. Your own configuration is trusted, so ``train`` writes down
what it names, outside the run's folder, in ``state_folder``: one file for each piece of code or
server, called by a digest of it. A run that names anything else asks for ``--trust``.

What is written down is the thing itself (the path of a task's file with the task's options, the
model that brings code, the reflection model with its address and the variable of its key), not the
run: a run of yours can be moved and copied, and a folder of somebody else's that copies your run's
name gains nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import Any

import platformdirs

from fastslow.config import RunConfig, TaskConfig
from fastslow.errors import InputError
from fastslow.places import working_in
from fastslow.regular import open_regular
from fastslow.run import inside
from fastslow.run.inputs import read_inputs

log = logging.getLogger(__name__)

_RUNS_PACKAGES = "verifiers"
"""The built-in task whose options name an installed package to execute."""


def state_folder() -> Path:
    """``$FASTSLOW_STATE``, or ``fastslow`` in the platform's folder for the state of programs."""
    override = os.environ.get("FASTSLOW_STATE")
    return Path(override).expanduser() if override else platformdirs.user_state_path("fastslow")


def named(config: RunConfig) -> dict[str, Any]:
    """What a run of ``config`` would execute or speak to, in words, with what it is known by."""
    found: dict[str, Any] = {}
    for task in config.tasks.values():
        if (code := _code(task)) is not None:
            found[code] = ["task", code, task.model_dump(mode="json")]
    if config.policy.trust_remote_code:
        found[f"Python code that comes with the model {config.model}"] = ["model", config.model]
    reflection = config.fast.reflection
    is_ours = reflection.model in (None, "policy", "python") and reflection.url is None
    if not is_ours or reflection.api_key_env is not None:
        where = reflection.url or "its provider"
        key = f" with the key in {reflection.api_key_env}" if reflection.api_key_env else ""
        asked = ["reflection", reflection.model, reflection.url, reflection.api_key_env]
        found[f"the reflection model {reflection.model} at {where}{key}"] = asked
    return found


def require_trust(run: Path, trust: bool) -> bool:
    """See that the run in the folder ``run`` names nothing that a configuration of this user, on
    this machine, has not named before, or that the user trusts it.

    Returns:
        Whether it names nothing new: a run of the user's own.

    Raises:
        InputError: it is no run; or it names something new, and ``trust`` is False. Nothing of it
            was executed, and nothing was written.
    """
    config = inside.load_config(run)
    with working_in(Path(read_inputs(run).folder)):  # where its relative paths start
        new = [words for words, what in named(config).items() if not _is_known(what)]
    if new and not trust:
        listed = "\n".join(f"- {words}" for words in new)
        raise InputError(
            f"{run}: would execute, or speak to, what no run of yours on this machine has named:\n"
            f"{listed}\nIt has all your rights. If the run was handed to you, read these first; "
            "then say --trust (trust=True in Python)"
        )
    return not new


def remember(config: RunConfig) -> None:
    """Write down what a configuration of the user's own names. Where that cannot be written, its
    runs ask for ``--trust``."""
    for what in named(config).values():
        path = _record(what)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                flags = os.O_WRONLY | os.O_CREAT
                with os.fdopen(open_regular(path, flags), "w", encoding="ascii") as file:
                    file.write(_text(what) + "\n")
        except OSError as error:
            log.info("%s cannot be written: %s: resuming will ask for --trust", path, error)


def _code(task: TaskConfig) -> str | None:
    """The code that a task names, in words; None for a built-in task."""
    if task.name == _RUNS_PACKAGES:
        return f"the package of the environment {task.options.get('environment')}"
    where, separator, class_name = task.name.rpartition(":")
    if not separator:
        return None
    return f"the task {class_name} in {_origin(where)}"


def _origin(where: str) -> str:
    """The file of a module, or of the package around it, found without executing any of it."""
    if where.endswith(".py"):
        return str(Path(where).resolve())
    try:
        spec = importlib.util.find_spec(where.partition(".")[0])
    except (ImportError, ValueError, AttributeError):
        spec = None
    origin = None if spec is None else spec.origin or list(spec.submodule_search_locations or ())
    return f"{where} ({origin})"


def _is_known(what: Any) -> bool:
    return _record(what).is_file()


def _record(what: Any) -> Path:
    digest = hashlib.sha256(_text(what).encode("ascii")).hexdigest()
    return state_folder() / "trusted" / digest


def _text(what: Any) -> str:
    return json.dumps(what, sort_keys=True)
