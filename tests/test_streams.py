"""Streams that nobody reads: silent, and never an error."""

from __future__ import annotations

import io
import os
import sys
from typing import cast

import pytest

from fastslow.errors import RunError
from fastslow.streams import require_output, tolerant


def test_what_can_be_written_is_written() -> None:
    file = io.StringIO()
    stream = tolerant(file)
    assert stream.write("seen") == 4
    stream.writelines([" twice", "\n"])
    stream.flush()
    assert file.getvalue() == "seen twice\n"
    assert tolerant(stream) is stream


def test_a_character_that_cannot_be_encoded_becomes_a_question_mark() -> None:
    raw = io.BytesIO()
    stream = tolerant(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    stream.write("a\u2026b")
    assert raw.getvalue() == b"a?b"


@pytest.mark.parametrize("kind", ["full", "closed", "none"])
def test_an_error_silences_a_stream(kind: str) -> None:
    file = None if kind == "none" else open("/dev/full", "w")  # noqa: SIM115
    if kind == "closed":
        assert file is not None
        file.close()
    stream = tolerant(file)
    for _ in range(3):
        assert stream.write("x" * 10_000) == 10_000
        stream.flush()
    assert not stream.isatty()


def test_an_output_that_is_asked_for_must_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", tolerant(open("/dev/full", "w")))  # noqa: SIM115
    print("lost")
    with pytest.raises(RunError, match="No space left"):
        require_output()


def test_a_reader_who_wanted_no_more_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stdout", tolerant(os.fdopen(write, "w")))
    print("not wanted")
    require_output()
    assert cast(object, sys.stdout) is not None
