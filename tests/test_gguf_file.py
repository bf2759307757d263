"""gguf_file: GGUF files that are damaged or at odds with themselves."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from fastslow.errors import InputError
from fastslow.gguf_file import check_gguf
from gguf_files import write_gguf


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    write_gguf(path)
    return path


def refused(path: Path, reason: str) -> None:
    with pytest.raises(InputError, match=rf"cannot read the GGUF file .*{reason}"):
        check_gguf("m.gguf", path)


def test_a_whole_file_passes(whole: Path) -> None:
    check_gguf("m.gguf", whole)


def test_a_file_that_is_cut_off_anywhere(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [0, 3, 4, 23, 24, 30, *range(100, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:size])
        refused(path, "(truncated|damaged|too few bytes)")


@pytest.mark.parametrize("key", ["embedding_length", "feed_forward_length", "head_count",
                                 "head_count_kv", "vocab_size", "block_count"])  # fmt: skip
@pytest.mark.parametrize("value", [10**9, 2**32 - 1, 300])
def test_a_count_that_the_tensors_do_not_have(tmp_path: Path, key: str, value: int) -> None:
    write_gguf(tmp_path / "m.gguf", **{key: value})
    refused(tmp_path / "m.gguf", rf"llama\.(attention\.)?{key} is {value}; allowed are \d to \d+")


def test_a_number_of_positions_beyond_reason(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", context_length=2**32 - 1)
    refused(tmp_path / "m.gguf", r"llama\.context_length is 4294967295")


def test_a_file_without_blocks(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", block_count=0)
    refused(tmp_path / "m.gguf", r"llama\.block_count is 0; allowed are 1 to 1")


# --- files by hand ------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(of: int, length: int, members: bytes = b"") -> bytes:
    return struct.pack("<IQ", of, length) + members


def tensor(name: str, *shape: int, kind: int = 0, offset: int = 0, dimensions: int = 0) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", dimensions or len(shape)) + sizes + struct.pack(
        "<IQ", kind, offset
    )  # fmt: skip


LLAMA = pair("general.architecture", 8, text("llama"))


def file(
    *pairs: bytes,
    tensors: tuple[bytes, ...] = (),
    version: int = 3,
    counts: tuple[int, int] | None = None,
    magic: bytes = b"GGUF",
) -> bytes:
    numbers = counts or (len(tensors), len(pairs))
    head = magic + struct.pack("<IQQ", version, *numbers)
    return head + b"".join([*pairs, *tensors]) + bytes(64)


DAMAGED = {
    "another magic": (file(magic=b"GGML"), "starts with b'GGML'"),
    "big-endian": (file(version=0x03000000), "its version is 50331648"),
    "version 1": (file(LLAMA, version=1), "its version is 1"),
    "absurd tensors": (file(LLAMA, counts=(2**63, 1)), "(0 dimensions|truncated)"),
    "absurd metadata": (file(LLAMA, counts=(0, 2**63)), "'' twice"),
    "absurd key": (file(struct.pack("<Q", 2**62)), "truncated or damaged"),
    "absurd text": (file(pair("a", 8, struct.pack("<Q", 2**60))), "truncated or damaged"),
    "absurd numbers": (file(pair("a", 9, array(4, 2**61))), "truncated or damaged"),
    "absurd texts": (file(pair("a", 9, array(8, 2**40))), "has 1099511627776 members"),
    "empty arrays in number": (file(pair("a", 9, array(9, 2**40))), "1099511627776 members"),
    "nested arrays": (
        file(pair("a", 9, array(9, 1, array(9, 1, array(9, 1, array(9, 1)))))),
        "unknown type 9",
    ),
    "unknown type": (file(pair("a", 77, b"")), "unknown type 77"),
    "no UTF-8": (file(text("").replace(b"\0", b"\1", 1) + b"\xff"), "utf-8"),
    "one key twice": (file(LLAMA, LLAMA), "general.architecture' twice"),
    "no architecture": (file(), "no general.architecture"),
    "architecture is a number": (
        file(pair("general.architecture", 4, struct.pack("<I", 1))),
        "no general.architecture",
    ),
    "one tensor twice": (file(LLAMA, tensors=(tensor("a", 1), tensor("a", 1))), "'a' twice"),
    "no dimension": (file(LLAMA, tensors=(tensor("a"),)), "0 dimensions"),
    "many dimensions": (
        file(LLAMA, tensors=(tensor("a", 1, dimensions=2**31),)),
        "2147483648 dimensions",
    ),
    "no element": (file(LLAMA, tensors=(tensor("a", 0),)), "0 elements"),
    "absurd size": (file(LLAMA, tensors=(tensor("a", 2**40, 2**40),)), "is truncated"),
    "absurd offset": (file(LLAMA, tensors=(tensor("a", 1, offset=2**60),)), "is truncated"),
    "no whole block": (file(LLAMA, tensors=(tensor("a", 33, kind=2),)), "in blocks of 32"),
    "unknown kind": (file(LLAMA, tensors=(tensor("a", 1, kind=999),)), "unknown type 999"),
    "no tensors": (
        file(LLAMA, pair("llama.block_count", 4, struct.pack("<I", 1))),
        "it has no tensors",
    ),
    "negative count": (
        file(
            LLAMA,
            pair("llama.embedding_length", 5, struct.pack("<i", -1)),
            tensors=(tensor("a", 1),),
        ),
        "embedding_length is -1",
    ),
    "a text for a count": (
        file(LLAMA, pair("llama.block_count", 8, text("1")), tensors=(tensor("a", 1),)),
        "block_count is '1'",
    ),
    "one of several": (
        file(LLAMA, pair("split.count", 2, struct.pack("<H", 3)), tensors=(tensor("a", 1),)),
        "one of 3 parts",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file(tmp_path: Path, damage: str) -> None:
    data, reason = DAMAGED[damage]
    (tmp_path / "m.gguf").write_bytes(data)
    refused(tmp_path / "m.gguf", reason)
