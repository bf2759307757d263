"""Rows of a data set, from local files or from the hub.

A source is a file (``.jsonl``, ``.json`` holding a list, ``.parquet``, ``.csv``), a folder of such
files, or the id "owner/name" of a data set on the Hugging Face hub. What exists locally is local.
A folder is read as the hub lays out its own: files named after their split (``train.jsonl``,
``train-00000-of-00002.parquet``), perhaps in a folder named after the configuration or ``data``;
so a data set downloaded from the hub is a source too.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastslow.errors import InputError
from fastslow.places import given
from fastslow.regular import open_regular, read_text
from fastslow.terminal import name as shown_name
from fastslow.text import excerpt

MAX_LINE = 2**26
"""Characters of a line, at most."""
MAX_ROWS = 10_000_000
"""Lines or rows of a file, at most."""
MAX_COLUMNS = 1000
_BATCH = 256
"""Rows of a Parquet file that are in memory at a time."""
MAX_TOTAL = 2**32
"""Bytes of a Parquet file's values in memory, or of a JSON file, at most."""

Row = dict[str, Any]

_SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""What files of a split are called."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def read_rows(
    source: str,
    required: Sequence[str],
    *,
    hub_config: str | None = None,
    hub_split: str = "train",
) -> list[Row]:
    """All rows of one split of a source, in its order, each with the required columns.

    Args:
        source: a file, a folder or a hub id.
        required: columns that every row must have; their values may be anything.
        hub_config: configuration of the data set on the hub, and the subfolder of a local folder
            if there is one of that name.
        hub_split: split of the data set on the hub, and of a local folder whose files are named
            after splits. A file is read whole.

    Raises:
        InputError: there is no such source, it cannot be read, is empty, or a row lacks a column.
    """
    rows = []
    for where, row in _locate(source, hub_config, hub_split):
        missing = [column for column in required if column not in row]
        if missing:
            names = ", ".join(map(repr, missing))
            raise InputError(f"{where}: no column {names}; it has: {columns(row)}")
        rows.append(row)
    if not rows:
        raise InputError(f"{source}: holds no rows; expected at least one with: {_list(required)}")
    return rows


def json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    """The objects of a JSON Lines file, each with the number of its line; blank lines are skipped.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            where = f"{path}: line {number}"
            yield number, _object(_json(line, where), where)


def data_files(path: Path) -> dict[str, Path]:
    """The files of a source: a file, called "", or those of a folder that can be read, by their
    paths from there; none of one that is not here."""
    if os.path.isfile(path):
        return {"": path}
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _READERS)
    return {str(file.relative_to(path)): file for file in found if os.path.isfile(file)}


def _locate(source: str, config: str | None, split: str) -> Iterator[tuple[str, Row]]:
    path = given(source)
    if os.path.isdir(path):
        files = _split_files(path, config, split)
    elif os.path.exists(path) or path.suffix.lower() in _READERS or not _HUB_ID.fullmatch(source):
        files = [path]
    else:
        return _hub_rows(source, config, split)
    return (item for file in files for item in _file_rows(file))


def _split_files(folder: Path, config: str | None, split: str) -> list[Path]:
    """The files of ``split`` in a folder; all files where none is named after any split."""
    places = [folder / name for name in (config, "data") if name] + [folder]
    # In order of preference; a folder without any readable file is none of them.
    files = next((found for place in places if (found := _readable(place))), [])
    if not files:
        raise InputError(f"{folder}: the folder holds no data; expected {_list(_READERS)} files")
    if own := [file for file in files if _is_of(file, _SPLIT_NAMES.get(split, (split,)))]:
        return own
    others = [name for names in _SPLIT_NAMES.values() for name in names]
    if not any(_is_of(file, others) for file in files):
        return files
    raise InputError(
        f"{folder}: there is no file for the split {split!r}; "
        f"found {_list(file.name for file in files)}. "
        "Name the file to read instead of the folder, or add one named after the split"
    )


def _readable(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _READERS)


def _is_of(file: Path, names: Iterable[str]) -> bool:
    return any(file.stem == name or file.stem.startswith(f"{name}-") for name in names)


def _file_rows(path: Path) -> Iterator[tuple[str, Row]]:
    if not os.path.isfile(path):
        raise InputError(
            f"{path}: there is no such file or folder ({path.absolute()}), and it is no id of a "
            "data set on the hub, as in owner/name"
        )
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: files of this kind are not read; expected one of {_list(_READERS)}"
        )
    return reader(path)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
    return ((f"{path}: line {number}", row) for number, row in json_lines(path))


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    items = _json(_text(path), str(path))
    if not isinstance(items, list):
        raise InputError(f"{path}: expected a list of objects; found {_shown(items)}")
    for number, item in enumerate(items, start=1):
        where = f"{path}: item {number}"
        yield where, _object(item, where)


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows of text: a column of a CSV file has no type, and an answer "007" or "1e3" no number."""
    reader = csv.DictReader(_lines(path), strict=True)
    try:
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where}: has more or fewer fields than the first line names")
            yield where, row
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: is not CSV: {error}") from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with os.fdopen(open_regular(path, follow=True), "rb") as opened:
            file = pq.ParquetFile(opened)
            count, width = file.metadata.num_rows, len(file.schema_arrow.names)
            if count > MAX_ROWS or width > MAX_COLUMNS:
                raise InputError(
                    f"{path}: says that it holds {count:,} rows of {width:,} columns; at most "
                    f"{MAX_ROWS:,} rows of {MAX_COLUMNS:,} are read"
                )
            number = total = 0
            for batch in file.iter_batches(_BATCH):
                total += batch.nbytes
                if total > MAX_TOTAL:
                    raise InputError(f"{path}: its values take more than {MAX_TOTAL:,} bytes")
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from None


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Row]]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
    ".csv": _csv_rows,
}


def _hub_rows(name: str, config: str | None, split: str) -> Iterator[tuple[str, Row]]:
    import datasets

    try:
        # Remote code never runs: this library reads data files alone.
        data = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # of the hub's client, the file system, or the data set's own making
        raise InputError(
            f"{name}: there is no such file or folder, and the data set of that name could not be "
            f"loaded from the hub (config {config or 'default'}, split {split}): "
            f"{type(error).__name__}: {_first_line(error)}. Without a network, download it "
            f"elsewhere and give the path of its files ({_list(_READERS)})"
        ) from error
    return ((f"{name} ({split}): row {number}", dict(row)) for number, row in enumerate(data, 1))


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file with their endings, which a field of a CSV file may hold too."""
    try:
        with os.fdopen(open_regular(path, follow=True), encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), ""), start=1):
                if len(line) > MAX_LINE or number > MAX_ROWS:
                    raise InputError(
                        f"{path}: line {number}: is more than is read: at most {MAX_ROWS:,} lines "
                        f"of {MAX_LINE:,} characters each"
                    )
                yield line
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file ({path.absolute()})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON: {error}; found {_shown(text.strip())}") from None


def _text(path: Path) -> str:
    try:
        return read_text(path, MAX_TOTAL, follow=True).removeprefix("\ufeff")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file ({path.absolute()})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object; found {_shown(value)}")
    if len(value) > MAX_COLUMNS:
        raise InputError(f"{where}: has {len(value):,} keys; expected at most {MAX_COLUMNS:,}")
    return value


def columns(row: Iterable[object]) -> str:
    """The names of a row's columns for a message: on one line, whatever they are, and not all of
    very many."""
    names = list(row)
    more = f" and {len(names) - 30:,} more" if len(names) > 30 else ""
    return ", ".join(shown_name(column) for column in names[:30]) + more


def _shown(value: Any) -> str:
    return excerpt(value if isinstance(value, str) else json.dumps(value), 80)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
