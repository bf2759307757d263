"""Damage to every file of a study and its runs, and a look at what each command makes of it.

``python tests/chaos/mutations.py --count 1500`` is the long campaign. It prints what was found of
each mutation that ended in a traceback, took more than ``SECONDS`` or wrote where it may not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

ROOT = Path(__file__).parents[2]
sys.path[:0] = [] if str(ROOT / "tests") in sys.path else [str(ROOT / "tests")]

SECONDS = 120
"""Time of one command. An undisturbed one takes less than 2."""

COMMANDS: dict[str, list[str]] = {
    "compare": ["compare", "{run}", "{other}"],
    "report": ["compare", "{run}", "{other}", "-o", "{out}/r.html", "-o", "{out}/r.json"],
    "eval": ["eval", "{run}", "--problems", "1", "--split", "validation"],
    "eval of a checkpoint": ["eval", "{checkpoint}", "--problems", "1", "--split", "validation"],
    "resume": ["resume", "{run}"],
    "resume of a checkpoint": ["resume", "{checkpoint}"],
    "conclude": ["study", "efficiency", "{config}", "--set", "log.folder={runs}", "--conclude"],
    "study": ["study", "efficiency", "{config}", "--set", "log.folder={runs}"],
}
"""What is done with the mutated files, by name."""

Mutate = Callable[[Path, random.Random], None]


# Mutations of any file.


def _bytes(change: Callable[[bytes, random.Random], bytes]) -> Mutate:
    return lambda path, rng: _replace(path, change(path.read_bytes(), rng))


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _at(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content) + 1)


def _insert(part: bytes) -> Mutate:
    def change(content: bytes, rng: random.Random) -> bytes:
        at = _at(content, rng)
        return content[:at] + part + content[at:]

    return _bytes(change)


def _flip(content: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(content or b"\0")
    for _ in range(rng.randrange(1, 9)):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _twice(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b"\n"]
    at = rng.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def _without_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b"\n"]
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _shuffled(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def _instead(make: Callable[[Path], None]) -> Mutate:
    def mutate(path: Path, rng: random.Random) -> None:
        path.unlink()
        make(path)

    return mutate


def _link_out(path: Path) -> None:
    path.symlink_to(_victim(path))


def _victim(path: Path) -> Path:
    return next(p for p in path.parents if p.name == "mutated").parent / "victim" / "file"


def _folder_linked(path: Path, rng: random.Random) -> None:
    folder = path.parent
    if folder.name == "runs":
        return
    shutil.rmtree(folder)
    folder.symlink_to(_victim(path).parent)


def _renamed(path: Path, rng: random.Random) -> None:
    names = [path.name + ".bak", path.name.upper(), "slow_999999.parquet", "x\n\x1b[31m", "-"]
    path.rename(path.with_name(rng.choice(names)))


def _parent_renamed(path: Path, rng: random.Random) -> None:
    if path.parent.name != "runs":
        path.parent.rename(path.parent.with_name(rng.choice(["step_999999", "step_x", "a b"])))


def _swapped(path: Path, rng: random.Random) -> None:
    files = [p for p in sorted(path.parents[1].rglob("*")) if p.is_file() and p != path]
    if files:
        _replace(path, rng.choice(files).read_bytes())


ANY: dict[str, Mutate] = {
    "cut": _bytes(lambda content, rng: content[: _at(content, rng)]),
    "emptied": _bytes(lambda content, rng: b""),
    "flipped": _bytes(_flip),
    "invalid UTF-8": _insert(b"\xff\xfe\xc3"),
    "zeros": _insert(b"\0" * 100),
    "byte order mark": _bytes(lambda content, rng: b"\xef\xbb\xbf" + content),
    "noise": _bytes(lambda content, rng: rng.randbytes(500)),
    "deep": _bytes(lambda content, rng: b"[" * 100_000),
    "long": _bytes(lambda content, rng: content + b"9" * 2**22),
    "line twice": _bytes(_twice),
    "line less": _bytes(_without_line),
    "lines in another order": _bytes(_shuffled),
    "missing": lambda path, rng: path.unlink(),
    "renamed": _renamed,
    "folder renamed": _parent_renamed,
    "other file": _swapped,
    "FIFO": _instead(os.mkfifo),
    "folder": _instead(Path.mkdir),
    "link outside": _instead(_link_out),
    "hard link": _instead(lambda path: path.hardlink_to(_victim(path))),
    "link to itself": _instead(lambda path: path.symlink_to(path)),
    "link to nothing": _instead(lambda path: path.symlink_to("nothing")),
    "link to a device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "folder linked": _folder_linked,
}


# Mutations of values.

ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 0.5, 2**31, 2**63, 10**12, 10**30, -(10**30), 1e308, -0.0,
    float("nan"), float("inf"), -float("inf"), "", "x", "NaN", "1", "\ud800", "\0", "\x1b[2J",
    "../../victim/file", "/", "a\nb", "x" * 10**6, [], {}, [[]], [1, "a", None], {"a": {"a": 1}},
]  # fmt: skip


def _change(value: Any, rng: random.Random, new: Any) -> Any:
    """``value`` with one part of it, however deep, replaced, removed, added or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.2:
            return {**value, rng.choice(["extra", "", "x/y", "tokens/x", "accuracy/low"]): new}
        return {**value, key: _change(value[key], rng, new)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.2:
            return [*value, value[at]]
        return [*value[:at], _change(value[at], rng, new), *value[at + 1 :]]
    return new


def _json(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(_change(json.loads(lines[at]), rng, rng.choice(ODD)))
    _replace(path, ("\n".join(lines) + "\n").encode())


def _raw_json(path: Path, rng: random.Random) -> None:
    """What no writer of JSON writes: numbers of thousands of digits, keys that come twice."""
    text = path.read_text()
    numbers = list(re.finditer(r"(?<=: )-?[0-9.e-]+", text))
    raw = rng.choice(["9" * 5000, "1e999", "-", "01", "{}" * 2, "[" * 5000, "1, " * 3, '"a": 1'])
    if numbers:
        number = rng.choice(numbers)
        text = text[: number.start()] + raw + text[number.end() :]
    _replace(path, text.encode())


def _toml(path: Path, rng: random.Random) -> None:
    value = _change(tomllib.loads(path.read_text()), rng, rng.choice(ODD[1:]))
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # no TOML: left as it is
        _replace(path, tomli_w.dumps(value).encode("utf-8", "surrogatepass"))


def _table(path: Path, rng: random.Random) -> None:
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    at, rows = table.column_names.index(name), table.num_rows
    column = table.column(at)
    options: list[Callable[[], pa.Table]] = [
        lambda: table.drop_columns([name]),
        lambda: table.rename_columns(
            ["x" if each == name else each for each in table.column_names]
        ),
        lambda: table.set_column(at, name, pa.nulls(rows, column.type)),
        lambda: table.set_column(at, name, pa.array(["x"] * rows)),
        lambda: table.set_column(at, name, pa.array([2**62] * rows)),
        lambda: table.set_column(at, name, pa.array([-1] * rows, pa.int64())),
        lambda: table.set_column(at, name, pa.array([float("nan")] * rows)),
        lambda: table.set_column(at, name, pa.array([[[1.0]]] * rows)),
        lambda: table.set_column(at, name, pa.array([b"\xff"] * rows)),
        lambda: table.append_column(name, column),
        lambda: table.slice(0, 0),
        lambda: pa.concat_tables([table, table]),
        lambda: table.set_column(at, name, pa.array([["\x1b[2J"]] * rows)),
    ]
    changed = rng.choice(options)()
    path.unlink()
    pq.write_table(changed, path)


def _tensors(path: Path, rng: random.Random) -> None:
    """Another header: absurd sizes, shapes, offsets and names."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    if rng.random() < 0.2:
        _replace(path, rng.choice([2**62, 0, 2**31]).to_bytes(8, "little") + content[8:])
        return
    header = _change(json.loads(content[8 : 8 + size]), rng, rng.choice(ODD))
    written = json.dumps(header).encode()
    _replace(path, len(written).to_bytes(8, "little") + written + content[8 + size :])


def _values(path: Path, rng: random.Random) -> None:
    """The numbers of the tensors, and not their header."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    fill = rng.choice([b"\xff\xff\xff\xff", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\0\0"])
    for _ in range(rng.choice([1, 50])):
        at = rng.randrange(start, max(start + 1, len(content) - 3))
        content[at : at + 4] = fill
    _replace(path, bytes(content))


OF_KIND: dict[str, dict[str, Mutate]] = {
    ".json": {"value": _json, "raw value": _raw_json},
    ".jsonl": {"value": _json, "raw value": _raw_json},
    ".toml": {"value": _toml},
    ".parquet": {"table": _table},
    ".safetensors": {"header": _tensors, "numbers": _values},
}


# Places.


def build(folder: Path, model: Path, task: str) -> None:
    """A finished study of three runs below ``folder / "mutated"``, and what nobody may touch."""
    from fastslow import cli
    from tiny_run import tiny_config

    (folder / "victim").mkdir()
    (folder / "victim" / "file").write_text('{"step": 1}\n')
    config = tiny_config(model, task, folder / "mutated" / "runs", steps=2)
    config |= {"policy": {"device": "cpu", "max_tokens": 3}, "study": {"seeds": [0]}}
    config["fast"] |= {"every": 1}
    config["log"] |= {"checkpoint_every": 1}
    del config["name"]
    (folder / "c.toml").write_text(tomli_w.dumps(config))
    command = ["study", "efficiency", str(folder / "c.toml")]
    found = _run(cli.main, command)
    if found[0]:
        raise RuntimeError(f"the study was not run: {found}")


def files(folder: Path) -> list[str]:
    """The files that can be mutated, of a study's folder and of one of its runs."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in (folder / "mutated").rglob("*")
        if path.is_file() and path.name != "lock"
    )


def plan(folder: Path, count: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """(seed, file, mutation): kinds of files take turns, so that each is damaged as often."""
    kinds: dict[str, list[str]] = {}
    for name in files(folder):
        kinds.setdefault(re.sub(r"\d+|runs/[^/]*/", "", name), []).append(name)
    turns = sorted(kinds)
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        name = rng.choice(kinds[turns[number % len(turns)]])
        special = OF_KIND.get(Path(name).suffix, {})
        yield number, name, rng.choice([*ANY, *[*special] * (len(ANY) // 2)])


def attempt(
    folder: Path, number: int, name: str, mutation: str, seed: int, commands: list[str]
) -> tuple[list[str], Counter[str]]:
    """Damage a copy of the study and run the commands on it.

    Returns:
        What was wrong, one line each; and how often a command ended with each exit code.
    """
    from fastslow import cli

    rng = random.Random(f"{seed} {number} {mutation}")
    faults: list[str] = []
    ends: Counter[str] = Counter()
    for command in commands:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            copy = Path(place) / "mutated"
            shutil.copytree(folder / "mutated", copy)
            shutil.copytree(folder / "victim", Path(place) / "victim")
            path = copy.parent / name
            run = next((p for p in path.parents if p.parent.name == "runs"), None)
            if run is None or run.name == "studies":
                run = sorted(p for p in (copy / "runs").iterdir() if (p / "config.toml").exists())[
                    0
                ]
            state = rng.getstate()
            {**ANY, **OF_KIND.get(path.suffix, {})}[mutation](path, rng)
            rng.setstate(state)
            _mend_checksums(path, number)
            other = next(p for p in (copy / "runs").iterdir() if p != run)
            steps = sorted((run / "checkpoints").glob("*")) if run.is_dir() else []
            (copy.parent / "out").mkdir()
            fill = {
                "run": run,
                "other": other,
                "checkpoint": steps[-1] if steps else run,
                "config": folder / "c.toml",
                "runs": copy / "runs",
                "out": copy.parent / "out",
            }
            arguments = [word.format(**fill) for word in COMMANDS[command]]
            before = _outside(folder, copy.parent, command, run)
            code, said = _run(cli.main, arguments)
            ends[f"{command}: {code}"] += 1
            where = f"#{number} {mutation} of {name}: {command}"
            if code not in (0, 1, 2) or "Traceback (most recent call last)" in said:
                faults.append(f"{where}: {code}: {said[-1500:]}")
            if _outside(folder, copy.parent, command, run) != before:
                faults.append(f"{where}: wrote where it may not: {said[-300:]}")
    return faults, ends


def _outside(folder: Path, place: Path, command: str, run: Path) -> dict[str, Any]:
    """What the command may not change: of a reader or of a checkpoint's resumption, everything."""
    kept = [place / "victim", folder / "mutated", folder / "victim"]
    if command in ("compare", "report", "eval", "eval of a checkpoint", "resume of a checkpoint"):
        kept.append(place / "mutated")
    if command in ("resume", "conclude"):
        kept += [p for p in (place / "mutated" / "runs").iterdir() if p not in (run,)]
    if command == "conclude":
        kept.append(run)
        kept = [p for p in kept if p.name != "studies"]
    found = {}
    for top in kept:
        for file in sorted(top.rglob("*")):
            if file.name == "lock" or (file.is_dir() and not file.is_symlink()):
                continue
            if file.is_file() and not file.is_symlink():
                found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
            else:
                found[str(file)] = str(os.lstat(file).st_mode)
    return found


def _mend_checksums(path: Path, number: int) -> None:
    """Make every other damaged checkpoint one whose checksums are right."""
    from fastslow.run import checkpoint as checkpoints

    step = next((p for p in path.parents if p.parent.name == "checkpoints"), None)
    if step is not None and path.name != "checksums.sha256" and number % 2:
        with contextlib.suppress(Exception):  # it holds what has no checksum
            (step / "checksums.sha256").write_text(checkpoints._checksums(step))


class _LateError(BaseException):
    pass


def _late(*_: object) -> None:
    raise _LateError


def _run(main: Callable[[], None], arguments: list[str]) -> tuple[int | str, str]:
    """The exit code of a command, and all that it wrote."""
    out = io.StringIO()
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    code: int | str
    try:
        with (
            patch.object(sys, "argv", ["fastslow", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            main()
            code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except _LateError:
        code = "hangs"
        out.write(traceback.format_exc())
    except BaseException:
        code = "raises"
        out.write(traceback.format_exc())
    finally:
        signal.alarm(0)
    return code, out.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1500, help="mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    options = parser.parse_args()
    from conftest import write_tiny_model
    from tiny_run import write_task

    ends: Counter[str] = Counter()
    tried = wrong = 0
    names, rng = [*COMMANDS], random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, FASTSLOW_STATE=place):
        folder = Path(place) / "base"
        folder.mkdir()
        write_tiny_model(folder / "model")
        build(folder, folder / "model", write_task(folder))
        for number, name, mutation in plan(folder, options.count, options.seed):
            if number < options.first:
                continue
            commands = [rng.choice(names)]
            faults, ended = attempt(folder, number, name, mutation, options.seed, commands)
            tried, wrong, ends = tried + 1, wrong + len(faults), ends + ended
            for fault in faults:
                print(fault, flush=True)
            if tried % 50 == 0:
                print(f"{tried} mutations, {wrong} faults, {dict(ends)}", flush=True)
    print(f"{tried} mutations, {wrong} faults, {dict(ends)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
