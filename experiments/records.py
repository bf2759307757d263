"""Records of an experiment's runs: one file, `records.parquet`, of configurations and metrics.

A row is a run's name, what kind of text it is ("config": config.toml, whole; "metrics": one line of
metrics.jsonl), and the text. With duckdb::

    SELECT run, CAST(text->>'step' AS INT), text->>'accuracy'
    FROM 'records.parquet' WHERE kind = 'metrics' AND text->>'phase' = 'eval'

`python experiments/records.py FILE FOLDER` writes the runs out again, as `fastslow compare` reads
them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NAME = "records.parquet"


@dataclass(frozen=True)
class Record:
    """What is kept of a run: its config.toml, "" where there is none, and its metrics.jsonl."""

    config: str
    metrics: str

    @classmethod
    def of(cls, run: Path) -> Record:
        """The record of a run's folder."""
        return cls((run / "config.toml").read_text(), (run / "metrics.jsonl").read_text())


def write(path: Path, records: Mapping[str, Record]) -> None:
    """Write the records of runs by their names."""
    rows = []
    for run, record in sorted(records.items()):
        texts = [("config", record.config)] if record.config else []
        texts += [("metrics", line) for line in record.metrics.splitlines()]
        rows += [{"run": run, "kind": kind, "text": text} for kind, text in texts]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", compression_level=19)


def read(path: Path) -> dict[str, Record]:
    """The records of a file by the names of their runs; none where there is no file."""
    if not path.exists():
        return {}
    found: dict[str, dict[str, str]] = {}
    for row in pq.read_table(path).to_pylist():
        texts = found.setdefault(row["run"], {"config": "", "metrics": ""})
        texts[row["kind"]] += row["text"] + ("\n" if row["kind"] == "metrics" else "")
    return {run: Record(**texts) for run, texts in found.items()}


def main(path: Path, folder: Path) -> None:
    for run, record in read(path).items():
        (folder / run).mkdir(parents=True)
        (folder / run / "config.toml").write_text(record.config)
        (folder / run / "metrics.jsonl").write_text(record.metrics)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
