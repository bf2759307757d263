"""Files of one JSON object a line that grow with a run and can be cut back to where they were."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fastslow.errors import InputError
from fastslow.regular import IrregularFileError, open_regular
from fastslow.run import disk
from fastslow.run.serial import NON_FINITE, dumps
from fastslow.run.stored import check
from fastslow.run.strict_json import parse

MAX_LINE = 2**26
"""Bytes of a line, at most: more than the longest answer of a reflection model with its prompt."""

MAX_FILE = 2**30
"""Bytes of all lines that are read, at most: a run of 100,000 steps has a tenth of it."""


class JsonLines:
    """A file opened for appending. ``size`` is its length in bytes and always ends a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and path.stat().st_nlink > 1:
            disk.unshare(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # Unbuffered: a line that did not fit on the disk must not come back at the next write.
        self._file = os.fdopen(open_regular(path, flags), "ab", buffering=0)
        self.size = self._file.seek(0, os.SEEK_END)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one line, whole or not at all. Raises: OSError."""
        line = (dumps(row) + "\n").encode("ascii")
        try:
            rest = memoryview(line)
            while rest:  # a full disk takes a part of a line before it refuses the rest
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self.size)
            raise
        self.size += len(line)

    def cut(self, size: int) -> None:
        """Forget every line after the first ``size`` bytes. Raises: ValueError if it is shorter."""
        if self.size < size:
            raise ValueError(f"holds {self.size} bytes, fewer than {size}")
        self._file.truncate(size)
        self.size = size

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_lines(
    path: Path, start: int = 0, model: type[BaseModel] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of ``metrics.jsonl`` or ``contexts.jsonl``, while a run writes it or afterwards,
    from byte ``start`` on.

    A last line that is still being written is passed over. Numbers that are not finite are floats
    again.

    Args:
        path: the file.
        start: byte that the first row begins at.
        model: what every row must be (see ``stored``); None: any JSON object.

    Raises:
        InputError: a line is not such a row, or too long; it names the file and the line.
        OSError: the file is not there, is not regular, or cannot be read.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size - start > MAX_FILE:
            raise IrregularFileError(path, f"holds {size:,} bytes, more than the rows of a run")
        file.seek(start)
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
            where = f"{path}: line {number}{f' after byte {start}' if start else ''}"
            if len(line) > MAX_LINE:
                raise InputError(f"{where}: is longer than {MAX_LINE:,} bytes: no run wrote it")
            if line.endswith(b"\n"):
                try:
                    yield _row(line, model)
                except ValueError as error:
                    raise InputError(f"{where}: {error}. {_NO_ROW}") from None


_NO_ROW = "No run writes such a row: restore the file, or do without this run"


def _row(line: bytes, model: type[BaseModel] | None) -> dict[str, Any]:
    value = parse(line)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object; found {type(value).__name__}")
    row = {key: _number(item) for key, item in value.items()}
    if model is not None:
        check(model, row)
    return row


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in NON_FINITE else value
