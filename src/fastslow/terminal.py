"""Cleans everything that the command prints.

Messages are untrusted: an error may quote column names of a data set, and a traceback may quote an
API key. All text written to standard output or standard error passes through ``fit_to_show``. It
replaces secrets, and it spells out control characters and invisible characters. rich draws colours
and the live display. Text for rich passes through the same function before rich adds its own escape
sequences.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from fastslow.redaction import redacting
from fastslow.text import spell_hidden


def fit_to_show(text: str) -> str:
    """Replace secrets in ``text``, and spell out control characters and invisible characters, for
    example as ``⟨U+001B⟩``. Line ends and tabs stay."""
    return _cleaner()(text)


def name(text: object) -> str:
    """Format an untrusted name (of a column, a key, a file) on one line. A name with characters
    that cannot be printed is quoted and escaped, so that it cannot imitate a line of our output."""
    plain = str(text)
    return plain if plain.isprintable() else ascii(plain)


def message(text: str) -> str:
    """Format a message of the command. Further lines are indented, so that none of them looks like
    a separate message."""
    return "fastslow: " + "\n  ".join(text.splitlines())


class Guarded:
    """A text stream that passes all text through ``fit_to_show``.

    ``isatty`` returns False, so that libraries write plain text. ``raw`` is the stream behind it.
    rich writes there, since its escape sequences are intended.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        # A progress bar returns to the start of its line and overwrites it.
        start = "\r" if text.startswith("\r") and self.raw.isatty() else ""
        self.raw.write(start + fit_to_show(text[len(start) :]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return False

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.raw, attribute)


def raw(stream: Any) -> TextIO:
    """The stream behind a ``Guarded`` one; any other stream itself."""
    found: TextIO = stream.raw if isinstance(stream, Guarded) else stream
    return found


def guard() -> None:
    """Pass everything that this process prints through ``fit_to_show``: print, logging, warnings,
    tracebacks of any thread, and messages of libraries."""
    for stream in ("stdout", "stderr"):
        found = getattr(sys, stream)
        if found is not None and not isinstance(found, Guarded):
            guarded = Guarded(found)
            setattr(sys, stream, guarded)
            setattr(sys, f"__{stream}__", guarded)  # Python uses these streams at exit


def console(file: TextIO | None = None, **options: Any) -> Any:
    """A rich console that passes its texts through ``fit_to_show``; by default on standard
    output."""
    from rich.console import Console
    from rich.segment import Segment
    from rich.style import Style

    plain = Style(conceal=False)

    class _Console(Console):
        def _render_buffer(self, buffer: Iterable[Segment]) -> str:
            clean = _cleaner()
            return super()._render_buffer(
                segment
                if segment.control
                else Segment(
                    clean(segment.text),
                    segment.style and segment.style.update_link(None) + plain,
                )
                for segment in buffer
            )

    return _Console(file=raw(file or sys.stdout), **options)


def _cleaner() -> Callable[[str], str]:
    redacted = redacting()
    return lambda text: spell_hidden(redacted(text))
