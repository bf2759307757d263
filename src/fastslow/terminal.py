"""The one exit for all that the command prints.

No message is trusted: an error quotes the column names of somebody's data, a traceback the key that
a library was given. Whatever is written to standard output or standard error passes through
``fit_to_show``, which replaces secrets and spells out every character that steers a terminal or
hides. Colours and the display that is redrawn in place are rich's: what it is given to print passes
through the same function before it adds escape sequences of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from fastslow.redaction import redacting
from fastslow.text import spell_hidden


def fit_to_show(text: str) -> str:
    """``text`` without secrets, and with every character that steers or hides spelled out, as in
    ``⟨U+001B⟩``. Line ends and tabs stay."""
    return _cleaner()(text)


def name(text: object) -> str:
    """A name that others chose (of a column, a key, a file) on one line: in quotes and with escapes
    where it is not plain, so that it cannot pass for a line of ours."""
    plain = str(text)
    return plain if plain.isprintable() else ascii(plain)


def message(text: str) -> str:
    """A message of the command: further lines are indented, so that none passes for a message of
    its own."""
    return "fastslow: " + "\n  ".join(text.splitlines())


class Guarded:
    """A text stream that shows only what is fit to be shown.

    It says that it is no terminal, so that libraries write plain text to it. ``raw`` is what stands
    behind it: for rich, whose own sequences are meant.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        # A progress bar goes back to the start of its line and writes it anew.
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
    """What stands behind a stream, if it is guarded."""
    found: TextIO = stream.raw if isinstance(stream, Guarded) else stream
    return found


def guard() -> None:
    """Have everything that this process prints pass through ``fit_to_show``: print, logging,
    warnings, tracebacks of any thread, and messages of other libraries."""
    for stream in ("stdout", "stderr"):
        found = getattr(sys, stream)
        if found is not None and not isinstance(found, Guarded):
            guarded = Guarded(found)
            setattr(sys, stream, guarded)
            setattr(sys, f"__{stream}__", guarded)  # what a process falls back on when it ends


def console(file: TextIO | None = None, **options: Any) -> Any:
    """A console of rich whose texts are fit to be shown; by default on standard output."""
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
