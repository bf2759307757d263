"""What to do when a device has no more memory: the same work once more, in smaller parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from fastslow.errors import RunError

log = logging.getLogger("fastslow.policy")

Result = TypeVar("Result")

_ADVICE = (
    "lower slow.tokens_per_pass, policy.rows or policy.kv_memory: `fastslow resume RUN --set "
    "slow.tokens_per_pass=...` goes on from the last checkpoint"
)


_WORDS = ("out of memory", "not enough memory", "can't allocate memory")


def in_parts(work: Callable[[int], Result], what: str) -> Result:
    """``work(1)``, or ``work(2)``, in parts half as large, if memory ran out.

    Args:
        work: computes something, in parts that are smaller by the number it is given. Nothing has
            come of it if it raises.
        what: it is, for messages.

    Raises:
        RunError: memory ran out again.
    """
    # Tried again after the handler, not in it: the error holds on to what was computed so far.
    failed = ""
    try:
        return work(1)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        failed = _first_line(error)
    log.warning("%s ran out of memory and is done again in smaller parts: %s", what, failed)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        return work(2)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise RunError(
            f"{what} ran out of memory, and again in smaller parts: {_first_line(error)}; {_ADVICE}"
        ) from None


def ran_out(error: RuntimeError | MemoryError) -> bool:
    """Whether an error says that there is no more memory. On a CPU torch has no class for that."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _WORDS)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
