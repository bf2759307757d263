"""JSON that somebody else may have written: what the standard allows, once and within bounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

_MAX_DIGITS = 400
"""Of a whole number. A float that is printed in full has at most 309."""


def parse(text: bytes | str) -> Any:
    """The value that ``text`` stands for, in UTF-8 if it is bytes.

    Raises:
        ValueError: it is no JSON, names a key twice, nests too deeply, or holds a number that JSON
            cannot say or nobody counts to.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_whole
        )
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"names the key {twice[:80]!r} twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is no number in JSON")


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"holds a whole number of {len(digits):,} digits")
    return int(digits)
