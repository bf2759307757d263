"""Metrics and contexts as TensorBoard events.

Events are derived: every one is made of a row of ``metrics.jsonl`` or ``contexts.jsonl``. A resumed
run writes them anew from the rows that hold, because TensorBoard's own purging goes by step alone
and cannot tell the rows of one step before and after a checkpoint apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastslow.text import lines

_EVAL_LABELS = ("task", "split", "context")
"""What tells the evaluation rows of one step apart, and therefore becomes part of the tag."""

_POSITION = ("step", "cycle", "time")


class Events:
    """One event file in ``folder``, flushed at every event."""

    def __init__(self, folder: Path) -> None:
        # The record writer alone: the usual summary writers bring a thread, in which an error of
        # the disk would be lost, and import tensorflow where it is installed.
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(exist_ok=True)
        path = folder / f"events.out.tfevents.{time.time_ns() // 1000}.fastslow"
        self._writer = RecordWriter(path.open("xb"))
        self._add(time.time(), file_version="brain.Event:2")

    def metrics(self, row: Mapping[str, Any]) -> None:
        """A row of ``metrics.jsonl``: every numeric measure as a scalar ``phase/measure``.

        Evaluations are tagged ``eval/task/split/context/measure``. Raises: OSError.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        labels = [str(row[key]) for key in _EVAL_LABELS if key in row and row["phase"] == "eval"]
        prefix = "/".join([row["phase"], *labels])
        values = [
            Summary.Value(tag=f"{prefix}/{name}", simple_value=value)
            for name, value in row.items()
            if isinstance(value, (int, float)) and name not in _POSITION
        ]
        self._add(row["time"], step=row["step"], summary=Summary(value=values))

    def context(self, record: Mapping[str, Any]) -> None:
        """A line of ``contexts.jsonl``: the best context of each population, as text ``best``."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        if record.get("rank") != 1:
            return
        value = Summary.Value(
            tag="context/best",
            metadata=SummaryMetadata(
                plugin_data=SummaryMetadata.PluginData(plugin_name="text"),
                data_class="DATA_CLASS_TENSOR",
            ),
            tensor=TensorProto(dtype=DT_STRING, string_val=[_as_code(record).encode("utf-8")]),
        )
        self._add(record["time"], step=record["step"], summary=Summary(value=[value]))

    def close(self) -> None:
        self._writer.close()

    def _add(self, wall_time: float, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=wall_time, **fields).SerializeToString())
        self._writer.flush()


def _as_code(record: Mapping[str, Any]) -> str:
    """A context as an indented code block: TensorBoard takes text as Markdown."""
    turns: Iterable[tuple[str, str]] = [
        ("system", record["instructions"]),
        *(
            turn
            for shown in record["demonstrations"]
            for turn in (("user", shown["question"]), ("assistant", shown["answer"]))
        ),
    ]
    return "\n".join(f"    {role + ':':<10} {line}" for role, text in turns for line in lines(text))
