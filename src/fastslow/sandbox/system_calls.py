"""Which system calls a program in the jail may make, as filters that seccomp reads.

The filter is an allow-list: a call that is not named here is refused, so one that a later kernel
adds is refused too. Numbers are those of ``asm/unistd_64.h`` (x86-64) and of
``asm-generic/unistd.h`` (aarch64).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

MACHINES = {"x86_64": 0, "aarch64": 1}
"""The columns of the tables below."""
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

Numbers = tuple[int | None, int | None]
"""The number of a call on x86-64 and on aarch64; None where there is no such call."""

ALLOWED: dict[str, Numbers] = {
    # Files: Landlock decides which ones. Nothing that changes owners, modes, times, attributes or
    # links (Landlock does not guard those), or reserves space (`fallocate`), or locks whole files.
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70),
    "preadv2": (327, 286), "pwritev2": (328, 287), "lseek": (8, 62), "sendfile": (40, 71),
    "copy_file_range": (326, 285), "creat": (85, None), "close": (3, 57), "stat": (4, None),
    "fstat": (5, 80), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78),
    "getdents": (78, None), "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49),
    "fchdir": (81, 50), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "unlink": (87, None), "unlinkat": (263, 35), "truncate": (76, 45), "ftruncate": (77, 46),
    "fsync": (74, 82), "fdatasync": (75, 83), "fadvise64": (221, 223), "dup": (32, 23),
    "dup2": (33, None), "dup3": (292, 24), "umask": (95, 166),
    # Memory: RLIMIT_AS counts it.
    "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233),
    "msync": (26, 227), "mincore": (27, 232), "brk": (12, 214),
    # Pipes, waiting, and pairs of connected sockets: what asyncio needs.
    "select": (23, None), "pselect6": (270, 72), "poll": (7, None), "ppoll": (271, 73),
    "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd": (284, None),
    "eventfd2": (290, 19), "pipe": (22, None), "pipe2": (293, 59), "recvfrom": (45, 207),
    "shutdown": (48, 210), "getsockname": (51, 204), "getpeername": (52, 205),
    "getsockopt": (55, 209),
    # Threads and the end.
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293),
    "set_tid_address": (218, 96), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "getpriority": (140, 141), "exit": (60, 93), "exit_group": (231, 94), "wait4": (61, 260),
    "waitid": (247, 95),
    # Signals and timers of its own.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigsuspend": (130, 133), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "pause": (34, None),
    "alarm": (37, None), "getitimer": (36, 102), "setitimer": (38, 103),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    # What a process is told of itself and of the machine.
    "times": (100, 153), "getrusage": (98, 165), "getpid": (39, 172), "gettid": (186, 178),
    "getppid": (110, 173), "getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158),
    "getrlimit": (97, 163), "setrlimit": (160, 164), "uname": (63, 160), "sysinfo": (99, 179),
    "getrandom": (318, 278), "getcpu": (309, 168),
}  # fmt: skip

BY_ARGUMENT: dict[str, Numbers] = {
    "open": (2, None), "openat": (257, 56), "mmap": (9, 222), "fcntl": (72, 25),
    "ioctl": (16, 29), "clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131),
    "prctl": (157, 167), "prlimit64": (302, 261), "socketpair": (53, 199), "sendto": (44, 206),
    "close_range": (436, 436),
}  # fmt: skip
"""Calls that are allowed in some forms only; ``_forms`` says which."""

ABSENT: dict[str, Numbers] = {
    "clone3": (435, 435), "openat2": (437, 437), "epoll_pwait2": (441, 441),
    "futex_waitv": (449, 449),
}  # fmt: skip
"""Calls that seem not to exist, so that the C library falls back on an older one. A filter cannot
see what they are asked, since that lies in memory and not in registers."""
NEWEST = 450
"""The last number in the headers. Calls beyond it seem not to exist either."""

SECCOMP: Numbers = (317, 277)
"""The call that installs a filter; made from outside the tables, before the filter holds."""

# Classic BPF: operation codes and answers.
LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, KILL, ASK = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in the data that a filter sees
OWN_PID = 0xFFFFFFFF
"""A constant that stands for the number of the process, which is known only inside."""

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, constant."""

Range = tuple[int, list[Instruction]]
"""The first number of a range of calls, and what answers all of them."""

_REFUSED: Instruction = (ANSWER, 0, 0, REFUSE | errno.EPERM)
_ALLOWED: Instruction = (ANSWER, 0, 0, ALLOW)
_MISSING: Instruction = (ANSWER, 0, 0, REFUSE | errno.ENOSYS)


def allow_list(machine: str, *, has_threads: bool = True) -> list[Instruction]:
    """The filter of a program in the jail.

    Args:
        machine: a key of ``MACHINES``.
        has_threads: whether the program may start threads.
    """
    column = MACHINES[machine]
    forms = {name: _forms(name) for name in BY_ARGUMENT}
    if not has_threads:
        forms["clone"] = [_REFUSED]
    answers = {
        **{BY_ARGUMENT[name][column]: body for name, body in forms.items()},
        **{both[column]: [_ALLOWED] for both in ALLOWED.values()},
        **{both[column]: [_MISSING] for both in ABSENT.values()},
    }
    ranges: list[Range] = []
    for number in range(NEWEST + 1):
        answer = answers.get(number, [_REFUSED])
        if not ranges or ranges[-1][1] != answer:
            ranges.append((number, answer))
    # Beyond the newest call is x86-64's second table too, which is that of x32.
    return [*_of_this_machine(machine), *_search([*ranges, (NEWEST + 1, [_MISSING])])]


def _search(ranges: Sequence[Range]) -> list[Instruction]:
    """Find the range of a number by halving.

    The kernel tries every number when a filter is installed, and every program installs one.
    """
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    assert len(below) < 256, "a jump is a byte"
    return [(IF_AT_LEAST, len(below), 0, ranges[middle][0]), *below, *above]


def ask_before_threads(machine: str) -> list[Instruction]:
    """A filter under which each new thread waits for the word of a process outside."""
    number = BY_ARGUMENT["clone"][MACHINES[machine]]
    assert number is not None
    return [
        *_of_this_machine(machine),
        (IF_EQUAL, 0, 1, number),
        (ANSWER, 0, 0, ASK),
        _ALLOWED,
    ]


def packed(program: Sequence[Instruction]) -> bytes:
    """A filter as the kernel reads it, 8 bytes an instruction."""
    return b"".join(
        operation.to_bytes(2, "little") + bytes((true, false)) + constant.to_bytes(4, "little")
        for operation, true, false, constant in program
    )


def _of_this_machine(machine: str) -> list[Instruction]:
    """Kill what makes calls of another architecture; leave the call's number to be looked at."""
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (ANSWER, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]


def _forms(name: str) -> list[Instruction]:
    """What is allowed of a call in ``BY_ARGUMENT``."""
    match name:
        case "open":
            return _without(1, _O_TMPFILE)
        case "openat":
            return _without(2, _O_TMPFILE)
        case "mmap":
            # Shared anonymous memory outlives the part of it that is unmapped, so RLIMIT_AS does
            # not bound it. Huge pages are a store of the whole machine.
            return [
                _low(3),
                (IF_ANY_BIT, 0, 1, _MAP_HUGETLB),
                _REFUSED,
                (IF_ANY_BIT, 0, 2, _MAP_ANONYMOUS),
                (IF_ANY_BIT, 0, 1, _MAP_SHARED),
                _REFUSED,
                _ALLOWED,
            ]
        case "fcntl":
            return _only(1, _FCNTL)
        case "ioctl":
            return _only(1, _IOCTL)
        case "clone":
            # Exactly the flags of a thread. Without CLONE_FILES it would have descriptors of its
            # own, without CLONE_THREAD it would be another process.
            return _only(0, _THREAD)
        case "kill" | "tgkill":
            return _only(0, [OWN_PID])
        case "prlimit64":
            return _only(0, [0, OWN_PID])
        case "prctl":
            return _only(0, [15, 16])  # the thread's name
        case "socketpair":
            # Of two datagram sockets each can send to any path. Two streams are joined for good.
            return [
                _low(0),
                (IF_EQUAL, 1, 0, _AF_UNIX),
                _REFUSED,
                _low(1),
                (IF_ANY_BIT, 0, 1, 0xF & ~_SOCK_STREAM),
                _REFUSED,
                (IF_ANY_BIT, 1, 0, _SOCK_STREAM),
                _REFUSED,
                _ALLOWED,
            ]
        case "sendto":  # to the other end of a pair, so without an address
            return [
                _low(4),
                (IF_EQUAL, 1, 0, 0),
                _REFUSED,
                _high(4),
                (IF_EQUAL, 1, 0, 0),
                _REFUSED,
                _ALLOWED,
            ]
        case "close_range":  # CLOSE_RANGE_CLOEXEC; another flag makes a second descriptor table
            return _only(2, [0, 4])
    raise AssertionError(name)


_O_TMPFILE = 0x400000  # the bit that it does not share with O_DIRECTORY
_MAP_SHARED, _MAP_ANONYMOUS, _MAP_HUGETLB = 0x01, 0x20, 0x40000
_AF_UNIX, _SOCK_STREAM = 1, 1
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, record locks and those of open files,
# F_DUPFD_CLOEXEC, F_GETPIPE_SZ. Not F_SETOWN, F_SETSIG, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ.
_FCNTL = [0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032]
# TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Others change the attributes
# of a file that is open for reading only.
_IOCTL = [0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451]
_THREAD = [0x3D0F00, 0x7D0F00]  # of glibc and of musl


def _only(index: int, values: Sequence[int]) -> list[Instruction]:
    """Allow the call if an argument is one of ``values``."""
    tests = [(IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [_low(index), *tests, _REFUSED, _ALLOWED]


def _without(index: int, bits: int) -> list[Instruction]:
    """Allow the call if an argument has none of ``bits``."""
    return [_low(index), (IF_ANY_BIT, 0, 1, bits), _REFUSED, _ALLOWED]


def _low(index: int) -> Instruction:
    """Load the low half of an argument: both architectures are little-endian.

    It is all of the argument where the kernel takes it as a 32-bit number, and all the bits that
    mean anything in the flags of ``mmap`` and ``clone``.
    """
    return (LOAD, 0, 0, ARGUMENTS + 8 * index)


def _high(index: int) -> Instruction:
    return (LOAD, 0, 0, ARGUMENTS + 8 * index + 4)
