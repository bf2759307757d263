"""Keeps passwords and keys out of whatever is shown, logged or stored.

Secrets come to a run by environment variables and in no other way: a configuration only names one
(see ``config.ReflectionConfig``). What libraries and servers say may still quote them, so their
words pass through here first. A secret is known by the name of the variable that holds it, by its
place in an address or in a header of HTTP, or by a form that only keys have.
"""

from __future__ import annotations

import base64
import json
import os
import re
import string
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
    | \beyJ[\w-]{12,}(?:\.[\w-]+)*                                # JSON in base64: JWT
    | (?<=hooks\.slack\.com/services/)[\w/-]{8,}
    """,
    re.VERBOSE,
)
"""Keys by their form, wherever they stand."""

_QUOTE = r"""\\*['"]"""
_ITEM = r"""(?:[^\s,'"\\]|(?<==)\\*"[^"\r\n]*")+"""

_FIELD = re.compile(
    rf"""(?P<name> authorization | cookie | key | token | secret | signature | password )
        (?: (?P<closing>{_QUOTE})[ \t]*[:=,] | [ \t]*(?P<sign>[:=]) ) [ \t]*""",
    re.VERBOSE | re.IGNORECASE,
)
"""The last word of a header's or a parameter's name, and the sign behind it."""

_LONGEST_NAME = 50
"""Characters before that last word in which its name may begin."""

_NAME_CHARACTERS = string.ascii_letters + string.digits + "_-\\"

_NAME = re.compile(
    r"""(?:
      (?P<authorization> (?: (?<![a-z]) | (?<=\\[nrt]) )authorization )
    | (?P<cookie> (?: (?<![a-z]) | (?<=\\[nrt]) )(?:set-)?cookie )
    | (?P<hyphen> (?:api|access|secret|subscription|signing|account)-key
        | (?:auth|access|private|security|session|refresh|csrf|xsrf|id)-token
        | (?:client|app|shared)-secret
        | \bx-[a-z0-9-]{0,40}(?:key|token|secret|signature|password|authorization) )
    | (?P<joined> (?:api|access|secret|subscription|signing|account)_?key
        | (?:auth|access|private|security|session|refresh|csrf|xsrf|id)_?token
        | (?:client|app|shared)_?secret )
    )\Z""",
    re.VERBOSE | re.IGNORECASE,
)

_SCHEME = r"""(?:basic|bearer|token|digest|negotiate|ntlm|hawk|oauth|dpop|jwt|mac|key|api-?key
    |aws4-hmac-sha256|sharedkey|sharedaccesssignature)[ \t]+"""
_ITEMS = rf"{_ITEM}(?:,(?:[ \t]*(?=[\w-]{{1,40}}=))?{_ITEM})*"
_HAS_DIGIT = r"""(?=[^\s'"]{0,200}\d)(?=[^\s'"]{8})"""
_PAIR = r"""[^\s;'"=]{1,100}+=[^\s;'"]*(?:"[^"\r\n]*")?"""


def _value(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | re.IGNORECASE)


_QUOTED = _value(
    rf"(?P<shown>b?(?P<quote>{_QUOTE})(?:[a-z][\w-]{{0,40}}[ ]+)?)(?:(?!(?P=quote))[^\r\n])+"
)
_UNQUOTED = {
    "authorization": _value(
        rf"""(?P<shown> {_SCHEME} | (?:[a-z][\w-]{{0,40}}[ \t]+)?{_HAS_DIGIT} | (?=[^\s'"]{{16}}) )
        {_ITEMS}"""
    ),
    "cookie": _value(rf"(?P<shown>){_PAIR}(?:;[ \t]*(?:{_PAIR}|[^\s;'\"=]+))*"),
    "hyphen": _value(rf"(?P<shown>){_ITEMS}"),
    "joined=": _value(rf"(?P<shown>)(?=[^\s'\"]{{8}}){_ITEMS}"),
    "joined:": _value(rf"(?P<shown>){_HAS_DIGIT}{_ITEMS}"),
}
"""Values without quotes, by the kind of the name before them. A value that may be a word of prose
is shown."""

_BEARER = re.compile(
    r"\b(?P<shown>bearer\s+)(?=[\w+/.~-]{0,200}(?:[\d=]|(?-i:[a-z][A-Z][\w+/.~-]{0,200}[a-z][A-Z])))"
    r"[\w+/.~-]{8,}=*",
    re.IGNORECASE,
)
_BASIC = re.compile(r"\b(?P<shown>basic\s+)(?P<value>[A-Za-z0-9+/_-]{4,}={0,2})", re.IGNORECASE)
_QUERY = re.compile(
    r"(?P<shown>(?:[?&#]|&amp;|\\u0026)(?P<name>[\w.-]{1,64})=)(?P<value>[^&#\s'\"<>\\]+)"
)
_SIGNATURES = frozenset({"SIG", "SIGNATURE", "HMAC"})
"""Words of a parameter's name whose value lets anybody use an address."""

_USER_INFO = re.compile(
    r"""(?<=://)[^/?#\s'"<>@]*:[^/?#\s'"<>]*@ | (?<=http://)[^/?#\s'"<>]+@
    | (?<=https://)[^/?#\s'"<>]+@""",
    re.VERBOSE | re.IGNORECASE,
)
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
    """``text`` without secrets in addresses and headers, and without what has the form of a key."""
    text = _KEYS.sub("***", text)
    text = _without_headers(text)
    text = _BEARER.sub(r"\g<shown>***", text)
    text = _BASIC.sub(lambda basic: _hidden(basic, _is_basic(basic["value"])), text)
    text = _QUERY.sub(lambda query: _hidden(query, _is_secret_parameter(query["name"])), text)
    return _USER_INFO.sub("***@", text)


def redact_addresses(text: str) -> str:
    """``text`` without what URLs in it may carry: user names, passwords and query strings."""
    text = _USER_INFO.sub("***@", text)
    return _URL.sub(lambda url: f"{url[1]}?***" if url[2] else url[1], text)


def _hidden(found: re.Match[str], is_secret: bool) -> str:
    return f"{found['shown']}***" if is_secret else found[0]


def _without_headers(text: str) -> str:
    """``text`` without the values of headers of HTTP that carry secrets, as a server, a library or
    a dictionary spells them."""
    parts, end = [], 0
    for field in _FIELD.finditer(text):
        start = field.start()
        if start < end or not (found := _field_value(text, field)):
            continue
        parts += [text[end : found.end("shown")], "***"]
        end = found.end()
    return "".join([*parts, text[end:]])


def _field_value(text: str, field: re.Match[str]) -> re.Match[str] | None:
    """The value behind a field's name, or None where the field holds no secret."""
    before = text[max(0, field.start() - _LONGEST_NAME) : field.end("name")]
    name = _NAME.search(before[len(before.rstrip(_NAME_CHARACTERS)) :])
    if name is None:
        return None
    if quoted := _QUOTED.match(text, field.end()):
        return quoted
    kind = name.lastgroup or ""
    sign = field["sign"] or ""
    if field["closing"] and kind != "authorization":
        return None
    return _UNQUOTED[kind + sign if kind == "joined" else kind].match(text, field.end())


def _is_basic(value: str) -> bool:
    """Whether a value is "user:password" in base64, and no word of prose."""
    padded = value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4)
    try:
        user, colon, _ = (
            base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
        )
    except ValueError:
        return False
    return bool(colon) and user.isprintable()


def _is_secret_parameter(name: str) -> bool:
    words = re.split(r"[^A-Z0-9]+", name.upper())
    return is_secret_name(name) or not _SIGNATURES.isdisjoint(words)


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
