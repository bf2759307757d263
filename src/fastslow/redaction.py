"""Keeps passwords and keys out of whatever is shown, logged or stored.

Secrets come to a run by environment variables and in no other way: a configuration only names one
(see ``config.ReflectionConfig``). What libraries and servers say may still quote them, so their
words pass through here first.
"""

from __future__ import annotations

import os
import re

SHORTEST = 8
"""Characters that a secret has at least. What is shorter is replaced nowhere: a flag or a number
would take half of a text with it."""

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)", re.IGNORECASE)
_USER_INFO = re.compile(r"://[^/@\s]*@")
_URL = re.compile(r"(https?://[^\s?'\"]*)(\?[^\s'\"]*)?")


def secrets(*names: str) -> dict[str, str]:
    """The environment variables that hold secrets, by name.

    They are those called so, ``OPENAI_API_KEY`` or ``HF_TOKEN`` for instance, and ``names``.
    """
    return {
        name: value
        for name, value in ((name, value.strip()) for name, value in os.environ.items())
        if len(value) >= SHORTEST and (name in names or _SECRET_NAME.search(name))
    }


def redact(text: str, *names: str) -> str:
    """``text`` with ``***`` in the place of every value of ``secrets(*names)``."""
    # The longest first: a secret may be part of another one.
    for value in sorted(secrets(*names).values(), key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def redact_addresses(text: str) -> str:
    """``text`` without what URLs in it may carry: user names, passwords and query strings."""
    text = _USER_INFO.sub("://***@", text)
    return _URL.sub(lambda url: f"{url[1]}?***" if url[2] else url[1], text)
