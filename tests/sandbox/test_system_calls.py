from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from fastslow.sandbox import system_calls as calls

EPERM, ENOSYS = calls.REFUSE | errno.EPERM, calls.REFUSE | errno.ENOSYS
TABLES = {**calls.ALLOWED, **calls.BY_ARGUMENT, **calls.ABSENT}
PID = 77


def verdict(program: list[calls.Instruction], data: dict[int, int]) -> int:
    """What a seccomp filter answers, by running it as the kernel does."""
    accumulator = place = 0
    while True:
        operation, true, false, constant = program[place]
        constant = PID if constant == calls.OWN_PID else constant
        place += 1
        match operation:
            case calls.LOAD:
                accumulator = data.get(constant, 0)
            case calls.ANSWER:
                return constant
            case calls.IF_EQUAL:
                place += true if accumulator == constant else false
            case calls.IF_AT_LEAST:
                place += true if accumulator >= constant else false
            case calls.IF_ANY_BIT:
                place += true if accumulator & constant else false
            case _:
                raise AssertionError(operation)


def answer(machine: str, name: str | int, *arguments: int, arch: int | None = None) -> int:
    number = TABLES[name][calls.MACHINES[machine]] if isinstance(name, str) else name
    assert number is not None
    data = {calls.NUMBER: number, calls.ARCHITECTURE: arch or calls.AUDIT_ARCH[machine]}
    for index, value in enumerate(arguments):
        data[calls.ARGUMENTS + 8 * index] = value & 0xFFFFFFFF
        data[calls.ARGUMENTS + 8 * index + 4] = value >> 32
    return verdict(calls.allow_list(machine), data)


machines = pytest.mark.parametrize("machine", calls.MACHINES)


@machines
def test_only_what_the_tables_name_is_allowed(machine: str) -> None:
    column = calls.MACHINES[machine]
    allowed = {both[column] for both in calls.ALLOWED.values()}
    by_argument = {both[column] for both in calls.BY_ARGUMENT.values()}
    absent = {both[column] for both in calls.ABSENT.values()}
    for number in {*range(1000), 0x40000000, 0x40000001, 0xFFFFFFFF} - by_argument:
        expected = (
            calls.ALLOW
            if number in allowed
            else ENOSYS
            if number in absent or number > calls.NEWEST
            else EPERM
        )
        assert answer(machine, number) == expected, number


@machines
def test_calls_of_another_architecture_end_the_program(machine: str) -> None:
    assert answer(machine, "read", arch=0x40000003) == calls.KILL


@machines
@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("openat", [(0, 0, 0o101), (0, 0, 0o200000)], [(0, 0, 0o20200002), (0, 0, 0o20000000)]),
        ("mmap", [(0, 9, 3, 0x22), (0, 9, 3, 0x01), (0, 9, 3, 0x4022)],
         [(0, 9, 3, 0x21), (0, 9, 3, 0x23), (0, 9, 3, 0x40022), (0, 9, 3, 0x40001)]),
        ("fcntl", [(5, 1), (5, 4), (5, 6), (5, 1030)],
         [(5, 8), (5, 10), (5, 15), (5, 1024), (5, 1026), (5, 1031), (5, 1033)]),
        ("ioctl", [(0, 0x5401), (0, 0x5421)], [(0, 0x40086602), (0, 0x40049409), (0, 0x5412)]),
        ("clone", [(0x3D0F00,), (0x7D0F00,)],
         [(17,), (0x3D0B00,), (0x3C0F00,), (0x10000000,), (0x4111,), (0x13D0F00,)]),
        ("kill", [(PID, 9)], [(1, 0), (0, 9), (2**32 - 1, 9), (PID + 1, 9)]),
        ("tgkill", [(PID, 9, 6)], [(1, 1, 9)]),
        ("prctl", [(15,), (16,)], [(1, 0), (4, 0), (22, 1), (22, 2), (35, 1), (38, 0)]),
        ("prlimit64", [(0, 7), (PID, 7)], [(1, 7), (PID - 1, 7)]),
        ("socketpair", [(1, 1), (1, 0x80801)],
         [(1, 2), (1, 5), (1, 3), (1, 0x80802), (2, 1), (16, 1), (1, 0)]),
        ("sendto", [(5, 1, 1, 0, 0, 0)], [(5, 1, 1, 0, 99, 9), (5, 1, 1, 0, 2**40, 9)]),
        ("close_range", [(3, 99, 0), (3, 99, 4)], [(3, 99, 2), (3, 99, 6)]),
    ],
)  # fmt: skip
def test_forms_of_calls(
    machine: str, name: str, allowed: list[tuple[int, ...]], refused: list[tuple[int, ...]]
) -> None:
    assert {answer(machine, name, *arguments) for arguments in allowed} == {calls.ALLOW}
    assert {answer(machine, name, *arguments) for arguments in refused} == {EPERM}


def test_the_flags_of_open_stand_in_another_place() -> None:
    assert answer("x86_64", "open", 0, 0o101) == calls.ALLOW
    assert answer("x86_64", "open", 0, 0o20200002) == EPERM


@machines
def test_threads_wait_for_a_word_from_outside_and_nothing_else_does(machine: str) -> None:
    program = calls.ask_before_threads(machine)
    data = {calls.ARCHITECTURE: calls.AUDIT_ARCH[machine]}
    clone = calls.BY_ARGUMENT["clone"][calls.MACHINES[machine]] or 0
    assert verdict(program, {**data, calls.NUMBER: clone}) == calls.ASK
    assert verdict(program, {**data, calls.NUMBER: clone + 1}) == calls.ALLOW


@machines
def test_the_process_number_is_the_only_place_that_is_filled_in(machine: str) -> None:
    packed = calls.packed(calls.allow_list(machine))
    assert packed.count(b"\xff" * 4) == 3  # kill, tgkill, prlimit64
    assert len(packed) == 8 * len(calls.allow_list(machine)) < 8 * 4096


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@machines
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    text = HEADERS[machine].read_text(encoding="utf-8")
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text))
    numbers.setdefault("newfstatat", numbers.get("fstatat", ""))
    for name, both in {**TABLES, "seccomp": calls.SECCOMP}.items():
        number = both[calls.MACHINES[machine]]
        assert number is None or numbers[name] == str(number), name
