from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastslow.errors import InputError
from fastslow.tasks.sources import json_lines, read_rows

ROWS = [{"q": "one\u2028line", "a": "007"}, {"q": 'a "quoted",\nlonger one', "a": "1e3"}]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        path.write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv", ".CSV"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "rows.csv").rename(tmp_path / f"rows{suffix}")
    if suffix.lower() != ".csv":
        write(path)
    assert read_rows(str(path), ["q", "a"]) == ROWS


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    assert [number for number, _ in json_lines(write(tmp_path / "a.jsonl"))] == [1, 3]


def test_a_folder_serves_the_files_of_a_split(tmp_path: Path) -> None:
    write(tmp_path / "train-00001-of-00002.jsonl", [{"q": 2}])
    write(tmp_path / "train-00000-of-00002.parquet", [{"q": 1}])
    write(tmp_path / "dev.json", [{"q": 3}])
    write(tmp_path / "trained.json", [{"q": 4}])
    (tmp_path / "README.md").write_text("not data")
    folder = str(tmp_path)
    assert read_rows(folder, ["q"]) == [{"q": 1}, {"q": 2}]
    assert read_rows(folder, ["q"], hub_split="validation") == [{"q": 3}]
    with pytest.raises(InputError, match=r"no file for the split 'test'; found dev.json, train-0"):
        read_rows(folder, ["q"], hub_split="test")


def test_a_folder_without_splits_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path / "b.json", [{"q": 2}])
    write(tmp_path / "a.jsonl", [{"q": 1}])
    assert read_rows(str(tmp_path), ["q"], hub_split="test") == [{"q": 1}, {"q": 2}]


def test_a_download_from_the_hub_keeps_its_folders(tmp_path: Path) -> None:
    write(tmp_path / "main" / "test-00000-of-00001.jsonl", [{"q": 1}])
    write(tmp_path / "data" / "test.jsonl", [{"q": 2}])
    assert read_rows(str(tmp_path), ["q"], hub_config="main", hub_split="test") == [{"q": 1}]
    assert read_rows(str(tmp_path), ["q"], hub_split="test") == [{"q": 2}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"q": 1}\n{"p": 1}', r"a.jsonl: line 2: no column 'q'; it has: p"),
        ("a.jsonl", '{"q": 1}\n[1]', r"line 2: expected a JSON object; found '\[1\]'"),
        ("a.jsonl", '{"q": 1', r"line 1: is not JSON: .*found '\{\"q\": 1'"),
        ("a.jsonl", "[" * 10**5, r"line 1: is not JSON: .*recursion"),
        ("a.jsonl", f'{{"q": {"9" * 5000}}}', r"line 1: is not JSON"),
        ("a.jsonl", "\n\n", r"a.jsonl: holds no rows; expected at least one with: q"),
        ("a.json", '{"q": 1}', r"a.json: expected a list of objects; found '\{"),
        ("a.json", '[{"q": 1}, 2]', r"item 2: expected a JSON object; found '2'"),
        ("a.csv", "q,p\n1,2\n1,2,3", r"line 3: has more or fewer fields"),
        ("a.csv", "q,p\n1", r"line 2: has more or fewer fields"),
        ("a.csv", 'q,p\n"1,2', r"a.csv: line \d: is not CSV"),
        ("a.parquet", "PAR1", r"a.parquet: cannot be read as Parquet"),
        ("a.txt", "q", r"a.txt: files of this kind are not read; expected one of .jsonl, .json"),
    ],
)
def test_what_cannot_be_read_is_explained(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_rows(str(tmp_path / name), ["q"])


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"q\n\xff")
    with pytest.raises(InputError, match=r"a.csv: cannot be read as UTF-8"):
        read_rows(str(tmp_path / "a.csv"), ["q"])


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder holds no data; expected .jsonl"):
        read_rows(str(tmp_path), ["q"])


@pytest.mark.parametrize("source", ["gone.jsonl", "gone/gone.parquet", "gone", "/a/b/c"])
def test_what_is_neither_a_path_nor_an_id(source: str) -> None:
    with pytest.raises(InputError, match=r"there is no such file or folder .*owner/name"):
        read_rows(source, [])


def test_an_id_is_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((name, config, split))
        return datasets.Dataset.from_list([{"q": "x"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_rows("owner/name", ["q"], hub_config="c", hub_split="test") == [{"q": "x"}]
    assert asked == [("owner/name", "c", "test")]
    with pytest.raises(InputError, match=r"owner/name \(train\): row 1: no column 'a'; it has: q"):
        read_rows("owner/name", ["a"])


def test_without_the_hub_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ConnectionError("No route.\nLong trace")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=r"split train\): ConnectionError: No route\. Without a "):
        read_rows("owner/name", [])
