"""``reflections.jsonl``: what the reflection model was asked, and what it answered.

All other randomness of a run is derived from its seed, but a server gives no answer twice. A run
that is resumed does again what came after its checkpoint, and is given the answers that were had
the first time: it takes the same course, and nobody pays for them again.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from fastslow.regular import open_regular
from fastslow.run import disk
from fastslow.run.jsonl import MAX_FILE, JsonLines, read_lines
from fastslow.run.stored import AnswerRow


class Answers:
    """The file, which begins with the first answer.

    Attributes:
        size: its length in bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: JsonLines | None = None
        self._again: dict[str, deque[str]] = {}

    @property
    def size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def rewind(self, size: int) -> None:
        """From now on, have the answers again that stand after the first ``size`` bytes.

        Raises:
            InputError: they are no answers. The file is as it was.
            OSError: it is not a regular file, or cannot be written.
        """
        self.close()
        self._again = {}
        if not self._path.exists():
            return
        for row in read_lines(self._path, size, AnswerRow):
            self._again.setdefault(row["prompt"], deque()).append(row["answer"])
        if self._path.stat().st_nlink > 1:
            disk.unshare(self._path)
        with os.fdopen(open_regular(self._path, os.O_RDWR), "r+b") as file:
            file.seek(size)
            whole = file.read(MAX_FILE).rpartition(b"\n")
            file.truncate(size + len(whole[0]) + len(whole[1]))  # not what broke off

    def again(self, prompt: str) -> str | None:
        """An answer to the same prompt that was had before the run was resumed, once."""
        answers = self._again.get(prompt)
        return answers.popleft() if answers else None

    def add(self, prompt: str, answer: str) -> None:
        """Write an answer down. Raises: OSError."""
        if self._file is None:
            self._file = JsonLines(self._path)
        self._file.append({"prompt": prompt, "answer": answer})

    def sync(self) -> None:
        """Wait until all answers are on the disk."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
