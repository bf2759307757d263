"""Decides whether a run may execute the code and contact the servers that its configuration names.

A run's folder contains a configuration. If somebody gives you the folder, resuming or evaluating
it would execute the code that the configuration names. Your own configurations are trusted:
``train`` records what they name in ``state_folder``, outside the run's folder. Each piece of code
and each server has one file there, named by a digest. A run that names anything else requires
``--trust``.

A record describes the code or the server, not the run: the path of a task's file with the task's
options, the model that comes with code, or the reflection model with its address and the variable
of its key. So you can move and copy your runs, and a folder that copies the name of your run is
still not trusted.
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
    """The code that a run of ``config`` would execute and the servers that it would contact: the
    record of each, by its description."""
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
    """Check that the user trusts the run in the folder ``run``, or that the user's configurations
    on this machine have already named all code and servers that it names.

    Returns:
        True if the run names nothing new, as the user's own runs do.

    Raises:
        InputError: the folder contains no run, or the run names something new and ``trust`` is
            False. The check executes no code of the run and writes nothing.
    """
    config = inside.load_config(run)
    with working_in(Path(read_inputs(run).folder)):  # relative paths start there
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
    """Record the code and the servers that the user's own configuration names. If a record cannot
    be written, the configuration's runs require ``--trust``."""
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
    """A description of the code that a task names; None for a built-in task."""
    if task.name == _RUNS_PACKAGES:
        return f"the package of the environment {task.options.get('environment')}"
    where, separator, class_name = task.name.rpartition(":")
    if not separator:
        return None
    return f"the task {class_name} in {_origin(where)}"


def _origin(where: str) -> str:
    """Find the file of a module, or of the package around it, without executing code."""
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
