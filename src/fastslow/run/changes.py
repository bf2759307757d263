"""What of a run's configuration may change between its start and its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastslow.config import RunConfig, shown
from fastslow.errors import InputError

MAY_CHANGE = (
    # What a run is called, what is kept of it, and when it gives up.
    "name",
    "log",
    "slow.max_skipped",
    "slow.mismatch_warning",
    "slow.mismatch_error",
    # How much is computed at a time, and where: results may differ in the last bit.
    "policy.device",
    "policy.rows",
    "policy.kv_memory",
    "slow.tokens_per_pass",
    # Where the reflection model is to be found, and how long to wait for it.
    "fast.reflection.url",
    "fast.reflection.api_key_env",
    "fast.reflection.timeout",
    "fast.reflection.retries",
)
"""Keys, and tables of keys, that a run may be resumed with other values of."""


def refuse_changes(before: RunConfig, after: RunConfig, source: str) -> None:
    """See that a run that was trained as ``before`` says may go on as ``after`` says.

    Beside ``MAY_CHANGE``, the last stage may become longer.

    Raises:
        InputError: naming ``source`` and each key that may not change, with both values unless they
            may be secret.
    """
    length = f"stages.{len(before.stages) - 1}.steps" if before.stages else "steps"
    old, new = (dict(_leaves(config.model_dump())) for config in (before, after))
    refused = []
    for key in sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k)):
        if key == length and (old[key] or 0) < (new.get(key) or 0):
            continue
        if not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE):
            was, now = (_shown(key, values.get(key)) for values in (old, new))
            refused.append(f"{source}: {key}: the run was trained with {was}; found {now}")
    if refused:
        free = ", ".join([f"{length} (to more)", *MAY_CHANGE])
        hint = (
            f"Of a run that has begun only these may change: {free}; and --set may say where a "
            "file is now. Train under another name"
        )
        raise InputError("\n".join([*refused, hint]))


def _shown(key: str, value: Any) -> str:
    return "nothing" if value is None else shown(key, value)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested tables and arrays by its dotted key; an empty one is its own value."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    if not items:
        yield key, value
    for name, item in items:
        yield from _leaves(item, f"{key}.{name}" if key else str(name))
