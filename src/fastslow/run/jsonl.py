"""Files of one JSON object a line that grow with a run and can be cut back to where they were."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastslow.run.serial import NON_FINITE, dumps


class JsonLines:
    """A file opened for appending. ``size`` is its length in bytes and always ends a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Unbuffered: a line that did not fit on the disk must not come back at the next write.
        self._file = path.open("ab", buffering=0)
        self.size = self._file.tell()

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


def read_lines(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The rows of ``metrics.jsonl`` or ``contexts.jsonl``, while a run writes it or afterwards,
    from byte ``start`` on.

    A last line that is still being written is passed over. Numbers that are not finite are floats
    again.
    """
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield {key: _number(value) for key, value in json.loads(line).items()}


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in NON_FINITE else value
