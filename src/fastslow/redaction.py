"""Keeps passwords and keys out of whatever is shown, logged or stored.

Secrets come to a run by environment variables and in no other way: a configuration only names one
(see ``config.ReflectionConfig``). What libraries and servers say may still quote them, so their
words pass through here first. A secret is known by the name of the variable that holds it, by its
place in an address, or by a form that only keys have.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

SHORTEST = 8
"""Characters that a secret has at least. What is shorter is replaced nowhere: a flag or a number
would take half of a text with it."""

_WORDS = frozenset(
    {
        "KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PASSCODE", "PASS", "PWD",
        "PW", "PAT", "AUTH", "AUTHORIZATION", "CREDENTIAL", "CRED", "COOKIE", "BEARER", "JWT",
        "DSN", "WEBHOOK", "PRIVATE", "SIGNING", "CERT", "CERTIFICATE", "PEM", "SK", "SAS",
    }
)  # fmt: skip
"""Words of a variable's name that say what it holds, in the singular: ``DB_PASS``, ``HF_PAT``."""

_ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "PWD", "CREDENTIAL", "COOKIE")
"""How a word ends that was written as one: ``APIKEY``, ``dbPassword``."""

_ORDINARY_WORDS = frozenset(
    {
        "MONKEY", "DONKEY", "TURKEY", "HOTKEY", "HOCKEY", "JOCKEY", "WHISKEY", "BYPASS",
        "COMPASS", "ASKPASS", "SURPASS", "TRESPASS", "UNDERPASS", "OVERPASS", "OLDPWD",
    }
)  # fmt: skip
"""Words with such an ending that hold no secret."""

_ORDINARY_VALUES = frozenset(
    {
        "disabled", "required", "optional", "unlimited", "undefined", "anonymous", "production",
        "development", "localhost", "password", "changeme", "negotiate",
    }
)  # fmt: skip
"""Values of 8 letters or more that stand in many texts, and are nobody's secret."""

_KEYS = re.compile(
    r"""
      -----BEGIN[ A-Z]*PRIVATE[ ]KEY-----[\s\S]*?(?:-----END[ A-Z]*PRIVATE[ ]KEY-----|\Z)
    | \b(?:sk|pk|rk)[-_](?=[\w-]{0,40}\d)[\w-]{16,}               # OpenAI, Anthropic, Stripe
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|gsk_|r8_|pypi-|dop_v1_)[\w-]{20,}
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
    | \bAIza[\w-]{30,}
    | \bxox[a-z]-[\w-]{10,} | \bxapp-[\w-]{10,}
    | \bSG\.[\w-]{16,}\.[\w-]{16,}
    | \beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*
    | (?<=[Aa]uthorization:[ ][Bb]asic[ ])[\w+/=]{4,}
    | (?<=hooks\.slack\.com/services/)[\w/-]{8,}
    """,
    re.VERBOSE,
)
"""Keys by their form, wherever they stand."""

_HEADER = re.compile(
    r"\b(basic|bearer)(\s+)(?=[\w+/.~=-]{0,200}[\d=])[\w+/.~-]{8,}=*", re.IGNORECASE
)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s'\"<>]*@")
_URL = re.compile(r"(https?://[^\s?'\"]*)(\?[^\s'\"]*)?")
_PASSWORD = re.compile(r"\w://[^/?#\s:@]*:([^/?#\s]*)@")


def is_secret_name(name: str) -> bool:
    """Whether a variable or a key of this name holds a secret, by the words it is made of."""
    words = [word.rstrip("0123456789") for word in re.split(r"[^A-Z0-9]+", name.upper())]
    if words in (["PWD"], ["PW"]):  # where a shell stands
        return False
    singular = (form for word in words for form in (word, word.removesuffix("S")))
    return any(
        form in _WORDS or (form.endswith(_ENDINGS) and form not in _ORDINARY_WORDS)
        for form in singular
        if form + "S" not in _ORDINARY_WORDS
    )


def secrets(*names: str) -> dict[str, str]:
    """The environment variables that hold secrets, by name.

    They are those called so (``OPENAI_API_KEY``, ``DB_PASS``) and ``names``. Of any other that
    holds an address with a password, as ``DATABASE_URL`` does, the password.
    """
    found = {}
    for name, value in os.environ.items():
        value = value.strip()
        if name in names or (is_secret_name(name) and not _is_ordinary(value)):
            found[name] = value
        elif password := _PASSWORD.search(value):
            found[name] = password[1]
    return {name: value for name, value in found.items() if len(value) >= SHORTEST}


def redact(text: str, *names: str) -> str:
    """``text`` with ``***`` in the place of every value of ``secrets(*names)``, of passwords in
    addresses, and of what has the form of a key."""
    return redacting(*names)(text)


def redacting(*names: str) -> Callable[[str], str]:
    """``redact`` for many texts: the environment is looked through once."""
    values = {form for value in secrets(*names).values() for form in _forms(value)}
    # The longest first: a secret may be part of another one.
    ordered = sorted(values, key=len, reverse=True)

    def redacted(text: str) -> str:
        for value in ordered:
            text = text.replace(value, "***")
        return by_form(text)

    return redacted


def by_form(text: str) -> str:
    """``text`` without passwords in addresses, and without what has the form of a key."""
    text = _KEYS.sub("***", text)
    text = _HEADER.sub(r"\1\2***", text)
    return _USER_INFO.sub(lambda user: "***@" if ":" in user[0] else user[0], text)


def redact_addresses(text: str) -> str:
    """``text`` without what URLs in it may carry: user names, passwords and query strings."""
    text = _USER_INFO.sub("***@", text)
    return _URL.sub(lambda url: f"{url[1]}?***" if url[2] else url[1], text)


def _is_ordinary(value: str) -> bool:
    """Whether a value is a number, a word or a path, which other texts hold for other reasons."""
    is_number = re.fullmatch(r"[0-9]{1,12}|[0-9]*\.[0-9]*", value) is not None
    return is_number or value.lower() in _ORDINARY_VALUES or _is_path(value)


def _is_path(value: str) -> bool:
    try:
        return value.startswith(("/", "~/", "./", "../")) and os.path.exists(
            os.path.expanduser(value)
        )
    except (OSError, ValueError):
        return False


def _forms(value: str) -> set[str]:
    """A secret as it may be quoted: spelled for an address, in JSON or Python, or line by line."""
    quoted = {quote(value, safe=""), quote(value), unquote(value)}
    escaped = {json.dumps(value)[1:-1], repr(value)[1:-1]}
    lines = {line.strip() for line in value.splitlines()} if "\n" in value else set()
    forms = {value} | quoted | escaped | {line for line in lines if not line.startswith("-----")}
    return {form for form in forms if len(form) >= SHORTEST}
