"""The inside of the sandbox: a script that confines its own process, then runs a program in it.

``tasks.sandbox`` starts it with nothing but the standard library in reach; it never runs in a
process of the project's own. Three mechanisms of Linux, none of which needs a privilege, bind the
process for good, and the program cannot take them back: Landlock decides which files it may reach,
a seccomp filter which calls it may make, resource limits how much it may use. A process that may
not start another one is its own whole tree, so to kill it is to kill everything.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import sys

# Every import costs each program that runs in the sandbox: typing alone more than the confinement.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)

SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
PATH_BENEATH = 1
LANDLOCK_ABI = 3  # Linux 6.2: before it, files outside could be cut to nothing

# Landlock's rights to files, by their bit.
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, TRUNCATE = (
    1 << bit for bit in (1, 2, 3, 5, 8, 14)
)
READ = READ_FILE | READ_DIR
# No right to make folders or links: what a program leaves behind is flat and easily removed.
OWN = READ | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE

# System calls refused whatever their arguments: (x86-64, aarch64), None where there is none. What
# only a privileged process may do is not among them: this one has no privilege, and no way to one.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other programs, and namespaces, in which this one would be privileged
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "unshare": (272, 97),
    # the network, and other ways to talk to processes
    "socket": (41, 198), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # processes of the same user
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    # owners, modes, times and attributes of files, which Landlock does not guard
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466), "file_setattr": (469, 469),
    # memory that no limit counts, and views of the machine
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "userfaultfd": (323, 282),
    "bpf": (321, 280), "perf_event_open": (298, 241), "syslog": (103, 116),
    "fanotify_init": (300, 262), "inotify_init": (253, None), "inotify_init1": (294, 26),
}  # fmt: skip
COLUMN = {"x86_64": 0, "aarch64": 1}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Classic BPF, which seccomp reads: operation codes and answers.
LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE = 0, 4  # offsets in what the filter is shown; arguments follow at 16

Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, constant


class UnconfinedError(Exception):
    """A mechanism is missing on this machine: the program must not run."""


def confine(job: dict[str, Any]) -> None:
    """Bind this process for good. Raises: UnconfinedError."""
    call("prctl", PR_SET_PDEATHSIG, SIGKILL)
    limit(job["limits"])
    drop_capabilities()
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    restrict_files(job["folder"], job["readable"])
    refuse_calls(filter_program(os.uname().machine, os.getpid()))


def limit(limits: dict[str, int]) -> None:
    """Resource limits, never above those that already hold.

    The hard limit is one more than the soft one, since the signal that tells of the processor's
    time being up is only sent below the hard one.
    """
    for name, wanted in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        highest = sys.maxsize if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(which, (min(wanted, highest), min(wanted + 1, highest)))


def drop_capabilities() -> None:
    """Give up what root may do. The files that root owns are left to Landlock."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


def restrict_files(folder: str, readable: Sequence[str]) -> None:
    """Landlock: ``folder`` for reading and writing, ``readable`` for reading, nothing else."""
    abi = LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi < LANDLOCK_ABI:
        found = f"version {abi}" if abi > 0 else "none"
        raise UnconfinedError(
            f"Landlock, version {LANDLOCK_ABI} or newer (Linux 6.2, and `landlock` among the "
            f"kernel's lsm=); found {found}"
        )
    files = (1 << (16 if abi >= 5 else 15)) - 1
    network = 3 if abi >= 4 else 0  # TCP: bind and connect
    scopes = 3 if abi >= 6 else 0  # abstract sockets and signals
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = (ctypes.c_uint64 * 3)(files, network, scopes)
    rules = call("syscall", CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    devices = {"/dev/null": READ_FILE | WRITE_FILE, "/dev/urandom": READ_FILE}
    for path, rights in [(folder, OWN), *((path, READ) for path in readable), *devices.items()]:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every system has every one of them
        if not os.path.isdir(path):
            rights &= READ_FILE | WRITE_FILE  # more than a file can have is an error
        rule = rights.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        call("syscall", ADD_RULE, rules, PATH_BENEATH, rule, 0)
        os.close(place)
    call("syscall", RESTRICT_SELF, rules, 0)
    os.close(rules)


def filter_program(machine: str, pid: int) -> list[Instruction]:
    """The seccomp filter of a machine for the process ``pid``. Raises: UnconfinedError."""
    if machine not in COLUMN:
        raise UnconfinedError(f"a processor that is one of {', '.join(COLUMN)}; found {machine}")
    column = COLUMN[machine]
    refuse = answer(REFUSE | errno.EPERM)
    numbers = {
        name: {"x86_64": x86_64, "aarch64": aarch64}[machine]
        for name, x86_64, aarch64 in [
            ("clone", 56, 220), ("clone3", 435, 435), ("kill", 62, 129), ("tgkill", 234, 131),
            ("prlimit64", 302, 261), ("prctl", 157, 167), ("fcntl", 72, 25), ("ioctl", 16, 29),
        ]
    }  # fmt: skip
    by_argument = {
        # A thread is no new process. Of clone3 a filter cannot see the flags; the C library
        # falls back on clone where it seems not to exist.
        "clone": [load_argument(0), (IF_ANY_BIT, 1, 0, 0x00010000), refuse, answer(ALLOW)],
        "clone3": [answer(REFUSE | errno.ENOSYS)],
        "kill": only_if(0, [pid]),
        "tgkill": only_if(0, [pid]),
        "prlimit64": only_if(0, [0, pid]),
        "prctl": [*unless(0, PR_SET_PDEATHSIG), answer(ALLOW)],
        # F_SETOWN, F_SETSIG, F_SETOWN_EX would have a file send signals to another process,
        # F_SETLEASE keep others from opening it.
        "fcntl": [
            *(part for command in (8, 10, 15, 1024) for part in unless(1, command)),
            answer(ALLOW),
        ],
        # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what files are asked daily.
        # Others change the flags of a file that is open for reading only.
        "ioctl": only_if(1, [0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451]),
    }
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        answer(KILL),
        (LOAD, 0, 0, NUMBER),
        (IF_AT_LEAST, 0, 1, 0x40000000),  # x86-64's second table of calls, x32
        refuse,
        *(
            instruction
            for call_numbers in REFUSED.values()
            if (number := call_numbers[column]) is not None
            for instruction in ((IF_EQUAL, 0, 1, number), refuse)
        ),
        *(
            instruction
            for name, body in by_argument.items()
            for instruction in ((IF_EQUAL, 0, len(body), numbers[name]), *body)
        ),
        answer(ALLOW),
    ]


def answer(value: int) -> Instruction:
    return (ANSWER, 0, 0, value)


def load_argument(index: int) -> Instruction:
    """Load the low half of an argument: both architectures are little-endian."""
    return (LOAD, 0, 0, 16 + 8 * index)


def only_if(index: int, values: Sequence[int]) -> list[Instruction]:
    """Allow the call if an argument is one of ``values``, refuse it otherwise."""
    tests = [(IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [load_argument(index), *tests, answer(REFUSE | errno.EPERM), answer(ALLOW)]


def unless(index: int, value: int) -> Iterator[Instruction]:
    """Refuse the call if an argument is ``value``, else go on."""
    yield load_argument(index)
    yield (IF_EQUAL, 0, 1, value)
    yield answer(REFUSE | errno.EPERM)


def refuse_calls(program: Sequence[Instruction]) -> None:
    """Install a seccomp filter on this process."""
    packed = b"".join(
        operation.to_bytes(2, "little") + bytes((true, false)) + constant.to_bytes(4, "little")
        for operation, true, false, constant in program
    )
    code = ctypes.create_string_buffer(packed, len(packed))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    whole = Filter(len(program), ctypes.addressof(code))
    call("prctl", PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0)


def call(name: str, *arguments: Any) -> int:
    """A function of the C library that returns -1 where it fails. Raises: UnconfinedError."""
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(getattr(LIBC, name)(*words))
    if result < 0:
        reason = os.strerror(ctypes.get_errno())
        raise UnconfinedError(f"the call {name}({arguments[0]}, ...), which fails: {reason}")
    return result


def become(code: str, folders: Sequence[str]) -> None:
    """Run a program in this process as Python would run a script of its own."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    sys.path[:0] = [os.getcwd()]
    sys.path += folders
    sys.argv = ["main.py"]
    # The frames of this function and its callers are none of the program's.
    show = sys.excepthook
    sys.excepthook = lambda kind, error, trace: show(kind, error.with_traceback(_own(trace)), None)
    exec(compile(code, "main.py", "exec", dont_inherit=True), vars(module))


def _own(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def main() -> None:
    """Read the job, confine this process, tell whether that went well, become the program.

    The arguments are two file descriptors: the job's, and one to tell on, which is closed before
    the program begins, so that it cannot tell anything.
    """
    job_file, status = int(sys.argv[1]), int(sys.argv[2])
    with open(job_file, "rb") as file:
        job = marshal.load(file)
    try:
        confine(job)
    except UnconfinedError as missing:
        os.write(status, f"no {missing}".encode())
        sys.exit(1)
    os.write(status, b"confined")
    os.close(status)
    become(job["code"], job["packages"])


if __name__ == "__main__":
    main()
