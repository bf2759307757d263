"""Attacks on the sandbox, each by a program in it.

A case prints what came of its attempts. ``REFUSED`` are system calls by number, with arguments
that would do the harm; the others are programs, each with a pattern of what it must print.
Programs about files run on a file system of bounded size and, where there is none, on a folder in
which files keep their names.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastslow.sandbox import Jail, Limits, Program, inside, jail
from fastslow.tasks.codeio import CodeIO, CodeIOOptions
from fastslow.tasks.programs import Call, Returned, outcomes

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the sandbox needs Linux"
)

MIB = 2**20
COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)

PRELUDE = """
import array, ctypes, errno, fcntl, gc, mmap, os, resource, signal, socket, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = libc.mmap.restype = ctypes.c_long
def call(name, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(name), *words) if isinstance(name, int) else (
        getattr(libc, name)(*words))
    return result if result != -1 else errno.errorcode[ctypes.get_errno()]
def attempt(action):
    try:
        return 'done' if action() is None else 'done'
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except BaseException as error:
        return type(error).__name__
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Jail]:
    """One jail for all cases: none may spoil it for the next."""
    with Jail() as made:
        yield made


@pytest.fixture(params=["bounded", "named"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Jail]:
    """A jail with a file system in memory for each program, and one where that is not allowed."""
    if request.param == "named":
        text = Path(inside.__file__).read_text(encoding="utf-8")
        other = tmp_path / "inside.py"
        # No such flag: the kernel answers as where user namespaces are turned off.
        other.write_text(text.replace("CLONE_NEWUSER = 0x20000, 0x1", "CLONE_NEWUSER = 0x20000, 1"))
        assert other.read_text() != text
        monkeypatch.setattr(jail, "INSIDE", other)
    with Jail() as made:
        inner = made.run(Program("import os; s = os.statvfs('.'); print(s.f_blocks * s.f_frsize)"))
        is_bounded = int(inner.stdout) <= 2**25
        if is_bounded is not (request.param == "bounded"):
            pytest.skip("this machine permits no file system of one's own")
        yield made


def said(sandbox: Jail, code: str) -> str:
    result = sandbox.run(Program(PRELUDE + code))
    assert result.reason is None, result
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# -- Calls that are refused, whatever they are asked ----------------------------------------------

REFUSED: dict[str, tuple[int | None, int | None, str]] = {
    # sockets
    "socket-inet": (41, 198, "2, 1, 0"), "socket-datagram": (41, 198, "1, 2, 0"),
    "socket-netlink": (41, 198, "16, 3, 0"), "socket-packet": (41, 198, "17, 3, 0"),
    "socket-vsock": (41, 198, "40, 1, 0"), "S06": (53, 199, "1, 2, 0, b'12345678'"),
    "pair-seqpacket": (53, 199, "1, 5, 0, b'12345678'"),
    "pair-datagram-flags": (53, 199, "1, 0x80802, 0, b'12345678'"),
    "pair-inet": (53, 199, "2, 1, 0, b'12345678'"), "bind": (49, 200, "0, b'xx', 2"),
    "connect": (42, 203, "0, b'xx', 2"), "listen": (50, 201, "0, 1"),
    "accept": (43, 202, "0, None, None"), "accept4": (288, 242, "0, None, None, 0"),
    "S08": (46, 211, "0, b'x' * 64, 0"), "sendmmsg": (307, 269, "0, b'x' * 64, 1, 0"),
    "recvmsg": (47, 212, "0, b'x' * 64, 0"), "recvmmsg": (299, 243, "0, b'x' * 64, 1, 0, None"),
    "sendto-an-address": (44, 206, "0, b'x', 1, 0, b'xx', 2"),
    "larger-buffers": (54, 208, "0, 1, 7, b'1234', 4"),
    # space, and ways to files that have no name
    "D4": (285, 47, "0, 1, 0, 300 << 20"), "memfd": (319, 279, "b'x', 0"),
    "memfd-secret": (447, 447, "0"), "tmpfile": (257, 56, "-100, b'.', 0o20200002, 0o600"),
    "link": (265, 37, "-100, b'a', -100, b'b', 0"), "symlink": (266, 36, "b'/', -100, b'b'"),
    "mkdir": (258, 34, "-100, b'd', 0o700"), "mknod": (259, 33, "-100, b'f', 0o10600, 0"),
    "splice": (275, 76, "0, None, 1, None, 9, 0"), "tee": (276, 77, "0, 1, 9, 0"),
    "vmsplice": (278, 75, "0, None, 0, 0"), "L14": (72, 25, "0, 1031, 1 << 20"),
    "io_setup": (206, 0, "1, b'12345678'"), "io_uring": (425, 425, "8, b'x' * 120"),
    "io_uring-enter": (426, 426, "0, 1, 0, 0, None, 0"), "quotactl": (179, 60, "0, None, 0, None"),
    "mount": (165, 40, "b'none', b'.', b'tmpfs', 0, None"), "umount": (166, 39, "b'/', 2"),
    "open_tree": (428, 428, "-100, b'/', 1"), "fsopen": (430, 430, "b'tmpfs', 0"),
    "open_by_handle": (304, 265, "-100, b'x' * 64, 0"), "chroot": (161, 51, "b'/'"),
    "pivot_root": (155, 41, "b'.', b'.'"), "swapon": (167, 224, "b'/x', 0"),
    # files that others own
    "chmod": (268, 53, "-100, b'/usr', 0"), "fchmod": (91, 52, "0, 0o777"),
    "chown": (260, 54, "-100, b'/usr', 0, 0, 0"), "utimens": (280, 88, "-100, b'/usr', None, 0"),
    "setxattr": (188, 5, "b'/usr', b'user.x', b'x', 1, 0"),
    "getxattr": (191, 8, "b'/usr', b'user.x', None, 0"), "flock": (73, 32, "0, 2"),
    "ioctl-set-flags": (16, 29, "0, 0x40086602, b'12345678'"),
    "ioctl-clone": (16, 29, "0, 0x40049409, 0"), "terminal-input": (16, 29, "0, 0x5412, b'x'"),
    "inotify": (294, 26, "0"), "fanotify": (300, 262, "0, 0"), "lease": (72, 25, "0, 1024, 1"),
    "notify": (72, 25, "0, 1026, 1"), "owner": (72, 25, "0, 8, 1"),
    # memory that no limit counts, or that belongs to all
    "shared-memory": (9, 222, "0, 1 << 20, 3, 0x21, -1, 0"),
    "shared-memory-validated": (9, 222, "0, 1 << 20, 3, 0x23, -1, 0"),
    "huge-pages": (9, 222, "0, 1 << 21, 3, 0x40022, -1, 0"), "shmget": (29, 194, "1, 4096, 0o1666"),
    "semget": (64, 190, "1, 1, 0o1666"), "msgget": (68, 186, "1, 0o1666"),
    "mq_open": (240, 180, "b'x', 0o102, 0o600, None"), "mlock": (149, 228, "0, 4096"),
    "userfaultfd": (323, 282, "0"), "remap": (216, 234, "0, 4096, 0, 0, 0"),
    "keyring": (248, 217, "b'user', b'k', b'v', 1, -3"),
    # processes
    "clone-process": (56, 220, "17, 0, 0, 0, 0"), "fork": (57, None, ""), "vfork": (58, None, ""),
    "clone-own-descriptors": (56, 220, "0x3d0b00, 0, 0, 0, 0"),
    "clone-user-namespace": (56, 220, "0x10000011, 0, 0, 0, 0"),
    "execve": (59, 221, "b'/bin/true', None, None"),
    "execveat": (322, 281, "-100, b'/bin/true', None, None, 0"), "unshare": (272, 97, "0x10000000"),
    "setns": (308, 268, "0, 0"), "ptrace": (101, 117, "16, 1, 0, 0"),
    "process_vm_readv": (310, 270, "os.getppid(), None, 0, None, 0, 0"),
    "process_vm_writev": (311, 271, "os.getppid(), None, 0, None, 0, 0"),
    "pidfd_open": (434, 434, "os.getppid(), 0"), "pidfd_getfd": (438, 438, "0, 0, 0"),
    "pidfd_send_signal": (424, 424, "0, 9, None, 0"), "kcmp": (312, 272, "1, 1, 0, 0, 0"),
    "kill-warden": (62, 129, "os.getppid(), 9"), "kill-all": (62, 129, "-1, 0"),
    "kill-group": (62, 129, "0, 0"), "tgkill": (234, 131, "os.getppid(), os.getppid(), 9"),
    "tkill": (200, 130, "os.getppid(), 9"),
    "sigqueue": (129, 138, "os.getppid(), 9, b'x' * 128"), "setsid": (112, 157, ""),
    "setpgid": (109, 154, "0, 0"), "setpriority": (141, 140, "0, 0, 0"),
    "setaffinity": (203, 122, "0, 8, b'12345678'"), "setscheduler": (144, 119, "0, 0, b'1234'"),
    "prlimit": (302, 261, "os.getppid(), 7, None, None"), "personality": (135, 92, "0x40000"),
    "die-with-parent-not": (157, 167, "1, 0, 0, 0, 0"), "dumpable": (157, 167, "4, 0, 0, 0, 0"),
    "seccomp-again": (317, 277, "1, 0, None"), "prctl-seccomp": (157, 167, "22, 1, 0, 0, 0"),
    "second-descriptors": (436, 436, "3, 9, 2"), "timer_create": (222, 107, "0, None, None"),
    "bpf": (321, 280, "0, None, 0"), "perf": (298, 241, "None, 0, -1, -1, 0"),
    "syslog": (103, 116, "3, None, 0"), "modify_ldt": (154, None, "0, None, 0"),
    "iopl": (172, None, "3"), "reboot": (169, 142, "0, 0, 0, None"), "setuid": (105, 146, "1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_call_is_refused(name: str, shared: Jail) -> None:
    number, arguments = REFUSED[name][COLUMN], REFUSED[name][2]
    if number is None:
        pytest.skip("no such call on this processor")
    assert said(shared, f"print(call({', '.join([str(number), arguments])}))") == "EPERM"


@pytest.mark.parametrize("number", [435, 437, 449, 451, 460, 470, 999])
def test_a_call_that_the_table_does_not_know_seems_absent(number: int, shared: Jail) -> None:
    assert said(shared, f"print(call({number}, 0, 0, 0, 0))") == "ENOSYS"


# -- Programs ------------------------------------------------------------------------------------

PROGRAMS: dict[str, tuple[str, str]] = {
    "S06-python": (
        "print(attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)))", "EPERM"),
    "S06-path": (
        "a, b = socket.socketpair()\nprint(attempt(lambda: a.sendto(b'out', '@SOCKET@')),"
        "attempt(lambda: a.connect('@SOCKET@')))", "EPERM EPERM"),
    "S07": (
        "a, b = socket.socketpair()\n"
        "print(*[attempt(lambda: a.bind(n)) for n in ('\\0from_sandbox', 'own', '')],"
        "attempt(lambda: a.connect('\\0x')), attempt(a.listen), attempt(a.accept))",
        "(EPERM ?){6}"),
    "S08-python": (
        "a, b = socket.socketpair()\nprint(attempt(lambda: a.sendmsg([b'fd'], [(1, 1, "
        "array.array('i', [0]))], 0, '@SOCKET@')), attempt(lambda: a.sendmsg([b'x'])))",
        "EPERM EPERM"),
    "pair-in-use": (
        "a, b = socket.socketpair()\na.sendall(b'x')\nprint(b.recv(9), a.getsockname() == '')",
        "b'x' True"),
    "L1": (
        "threading.stack_size(32768); go = threading.Event(); n = 0\ntry:\n"
        "    while n < 200: threading.Thread(target=go.wait, daemon=True).start(); n += 1\n"
        "except RuntimeError: pass\nprint(n); go.set()", "63"),
    "threads-ended-count-no-more": (
        "for _ in range(300):\n    t = threading.Thread(target=int); t.start(); t.join()\n"
        "print('ok')", "ok"),
    "threads-start-threads": (
        "seen = set()\ndef f():\n    try:\n        while True:\n"
        "            threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "    except RuntimeError: pass\n"
        "for _ in range(20): attempt(threading.Thread(target=f, daemon=True).start)\n"
        "time.sleep(0.3)\nprint(threading.active_count() <= 70)", "True"),
    "memory-shared-python": ("print(attempt(lambda: mmap.mmap(-1, 1 << 20)))", "EPERM"),
    "memory-private": (
        "m = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "m[:2] = b'ok'\nprint(m[:2])", "b'ok'"),
    "memory-file": ("open('x', 'wb').write(b'ok' * 4096)\nf = open('x', 'r+b')\n"
                    "print(mmap.mmap(f.fileno(), 0)[:2])", "b'ok'"),
    "outputs-grow": (
        "os.ftruncate(1, 1 << 20); print(attempt(lambda: os.ftruncate(1, 1 << 40)))\n"
        "sys.stdout.flush(); os.ftruncate(1, 0); os.lseek(1, 0, 0); print('ok')", "ok"),
    "descriptors": ("fs = []\nprint(attempt(lambda: [fs.append(os.dup(0)) for _ in range(99)]),"
                    "len(fs))", "EMFILE 61"),
    "real-time-signals-queue": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [40])\nprint(attempt(lambda: "
        "[os.kill(os.getpid(), 40) for _ in range(99)]))", "done|EAGAIN"),
    "parent-memory": (
        "p = f'/proc/{os.getppid()}/'\nprint(*[attempt(lambda: open(p + n, 'rb')) for n in "
        "('mem', 'environ', 'maps', 'cmdline')], attempt(lambda: os.listdir(p + 'fd')),"
        "attempt(lambda: os.readlink(p + 'cwd')))",
        "EACCES EACCES EACCES EACCES (EACCES|EPERM) (EACCES|EPERM)"),
    "own-memory-file": ("print(attempt(lambda: open('/proc/self/mem', 'r+b')),"
                        "attempt(lambda: open('/proc/self/oom_score_adj', 'w')))", "EACCES EACCES"),
    "other-programs-files": (
        "print(attempt(lambda: os.listdir('..')), attempt(lambda: os.listdir('/tmp')),"
        "attempt(lambda: open('../x', 'w')))", "EACCES EACCES EACCES"),
    "limits-up": (
        "print(*[attempt(lambda: resource.setrlimit(r, (resource.RLIM_INFINITY,) * 2)) for r in "
        "(resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, "
        "resource.RLIMIT_NOFILE)])", "(ValueError ?){4}"),
    "no-descriptor-of-others": ("print(sorted(d for d in range(1024) if not attempt("
                                "lambda: os.fstat(d)) == 'EBADF'))", re.escape("[0, 1, 2]")),
    "wardens-objects": (
        "found = [o for o in gc.get_objects() if type(o) is type(socket._socket.socketpair()[0])]\n"
        "print({attempt(lambda: o.send(b'confined')) for o in found if o.fileno() >= 0} <= "
        "{'EBADF', 'EPIPE'})", "True"),
    "N1": ("print(bool(os.listdir('/usr')), attempt(lambda: os.listdir('/etc')),"
           "attempt(lambda: os.listdir('/home')), attempt(lambda: os.listdir('/')))",
           "True EACCES EACCES EACCES"),
    "asyncio": (
        "import asyncio\nasync def main():\n    loop = asyncio.get_running_loop()\n"
        "    a = await asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)))\n"
        "    return a, await asyncio.to_thread(len, 'four')\nprint(asyncio.run(main()))",
        re.escape("([0, 1, 2], 4)")),
    "pools": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as p: print(sum(p.map(len, ['a'] * 9)))", "9"),
    "signals-of-its-own": (
        "signal.signal(10, lambda *_: print('one')); os.kill(os.getpid(), 10)\n"
        "signal.signal(14, lambda *_: print('two')); signal.setitimer(0, 0.01); signal.pause()\n"
        "signal.pthread_kill(threading.get_ident(), 10)", "one\ntwo\none"),
    "sqlite": ("import sqlite3\nc = sqlite3.connect(':memory:')\n"
               "print(c.execute('select 6 * 7').fetchone())", re.escape("(42,)")),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_program_says(name: str, shared: Jail, tmp_path: Path) -> None:
    code, pattern = PROGRAMS[name]
    # The path of a socket is at most 107 bytes long, so it is named from the folder it lies in.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outside:
        here = os.open(".", os.O_RDONLY)
        os.chdir(tmp_path)
        try:
            outside.bind("s")
        finally:
            os.fchdir(here)
            os.close(here)
        outside.setblocking(False)
        found = said(shared, code.replace("@SOCKET@", str(tmp_path / "s")))
        with pytest.raises(BlockingIOError):
            outside.recv(99)
    assert re.fullmatch(pattern, found), found


NAMELESS = {
    "D1": "for n in range(50): hold(n, lambda f: f.write(b'x' * 2**20))",
    "D3": "hold(0, lambda f: call('fallocate', f.fileno(), 1, 0, 300 << 20) == 0 or 1 / 0)",
    "mapped": (
        "def f(file):\n    file.truncate(2**20)\n    m = mmap.mmap(file.fileno(), 2**20)\n"
        "    maps.append(m); m[:] = b'x' * 2**20\nmaps = []\n"
        "for n in range(20): hold(n, f)"
    ),
    "replaced": (
        "for n in range(50):\n    f = open('a', 'wb', buffering=0); held.append(f)\n"
        "    open('b', 'wb').close(); count(lambda: os.rename('b', 'a'), f)"
    ),
    "tmpfile-python": (
        "import tempfile\nfor n in range(50):\n    try: f = tempfile.TemporaryFile()\n"
        "    except OSError: break\n    held.append(f); count(int, f)"
    ),
}
HOLD = """
held, total = [], 0
def count(forget, f):
    global total
    try:
        forget()
        f.write(b'x' * 2**20); f.flush()
        total += 2**20
    except OSError: pass
def hold(n, fill):
    global total
    try:
        f = open(str(n), 'w+b', buffering=0); held.append(f)
        os.unlink(str(n))
        fill(f)
        total += 2**20
    except (OSError, ValueError, ZeroDivisionError): pass
"""


@pytest.mark.parametrize("name", NAMELESS)
def test_space_without_a_name_is_bounded(name: str, folder: Jail) -> None:
    # Pages that cannot be had end the program with SIGBUS, so that case says nothing.
    program = Program(f"{PRELUDE}{HOLD}{NAMELESS[name]}\nprint(total)")
    result = folder.run(program, Limits(file_bytes=MIB))
    assert int(result.stdout or 0) <= MIB, result
    assert result.reason in (None, "it was killed by SIGBUS"), result


def test_files_that_keep_their_names_are_bounded_too(folder: Jail) -> None:
    code = (
        "import time\nn = 0\ntry:\n    while n < 60: open(str(n), 'w').write('x' * 2**20); n += 1\n"
        "except OSError: print(n)\nelse: time.sleep(9)"
    )
    result = folder.run(Program(code), Limits(file_bytes=4 * MIB))
    assert result.reason == "its files grew beyond 4194304 bytes" or int(result.stdout) <= 4
    code = "n = 0\ntry:\n    while n < 5000: open(str(n), 'w'); n += 1\nexcept OSError: print(n)"
    result = folder.run(Program(code))
    assert result.reason == "it made more than 1000 files" or int(result.stdout) <= 1000


def test_a_program_that_may_write_nothing_writes_nothing(folder: Jail) -> None:
    code = (
        f"{PRELUDE}print(attempt(lambda: open('x', 'w')), open('given').read(),"
        "attempt(lambda: open('given', 'a')), attempt(lambda: os.remove('given')))"
    )
    result = folder.run(Program(code, files={"given": "text"}), Limits(file_bytes=0))
    assert result.stdout == "EACCES text EACCES EACCES\n"


def test_files_that_are_given_take_no_space_from_those_that_are_written(folder: Jail) -> None:
    files = {f"in/{n}": "x" * 5000 for n in range(40)}
    code = "open('y', 'w').write('y' * 65536); print(len(open('in/39').read()))"
    assert folder.run(Program(code, files=files), Limits(file_bytes=65536)).stdout == "5000\n"


def test_one_program_leaves_nothing_to_the_next(folder: Jail) -> None:
    first = (
        "import builtins, json, sys\nopen('left', 'w').write('x')\n"
        "builtins.print = json.dumps = None\nsys.path.insert(0, '/nowhere')"
    )
    folder.run(Program(first))
    found = folder.run(
        Program("import os, sys, json; print(os.listdir(), '/nowhere' in sys.path, json.dumps(1))")
    )
    assert found.stdout == "[] False 1\n"


ENDS = {
    "sleeps": ("time.sleep(99)", "longer than 1 seconds"),
    "stops-itself": ("os.kill(os.getpid(), signal.SIGSTOP)", "longer than 1 seconds"),
    "waits-for-a-lock": ("l = threading.Lock(); l.acquire(); l.acquire()", "longer than 1 seconds"),
    "ignores-every-signal": (
        "[attempt(lambda: signal.signal(n, signal.SIG_IGN)) for n in range(1, 64)]\n"
        "time.sleep(99)", "longer than 1 seconds"),
    "holds-on-at-the-end": ("import atexit; atexit.register(time.sleep, 99)", "longer than 1 sec"),
    "thread-stays": ("threading.Thread(target=time.sleep, args=(99,)).start()", "longer than 1 s"),
    "kernel-keeps-it-busy": (
        "while True:\n    os.stat('.')", "longer than 1 seconds"),
    "other-architecture": (
        "m = mmap.mmap(-1, 4096, flags=0x22, prot=7)\n"
        "m[:8] = b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'\n"  # getpid by the calls of i386
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
        "SIGSYS|SIGSEGV|SIGILL"),
    "endless-output": ("while True: print('x' * 10**5)", "more than 1048576 bytes of output"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_how_a_program_is_ended(name: str, shared: Jail) -> None:
    code, reason = ENDS[name]
    result = shared.run(Program(PRELUDE + code), Limits(seconds=1, cpu_seconds=5))
    assert re.search(reason, result.reason or ""), result
    assert shared.run(Program("print('still here')")).stdout == "still here\n"


def test_processor_time_is_up_whatever_handles_the_signal(shared: Jail) -> None:
    code = f"{PRELUDE}signal.signal(signal.SIGXCPU, lambda *_: None)\nwhile True: pass"
    result = shared.run(Program(code), Limits(seconds=60, cpu_seconds=1))
    assert (result.returncode, result.reason) == (-9, "it was killed by SIGKILL")


def test_nothing_of_a_program_is_left_when_its_sandbox_ends(shared: Jail) -> None:
    before = children()
    with Jail() as other:
        other.run(Program("import time; time.sleep(99)"), Limits(seconds=0.3))
        other.run(Program("print(1)"))
    assert children() == before


def children() -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
        except (OSError, ValueError):
            continue
    return sorted(found)


# -- Programs that share a warden, and programs beside one another -------------------------------

WRITES_NOTHING = Limits(file_bytes=0, threads=1)

OTHERS = {
    "signals": (
        "print(*[attempt(lambda: os.kill(p, s)) for p in others for s in (0, 9, 19)])",
        "(EPERM ?){6}"),
    "signals-to-threads": (
        "print(*[call(234 if x86 else 131, p, p, 9) for p in others],"
        "*[call(200 if x86 else 130, p, 9) for p in others])", "(EPERM ?){4}"),
    "memory": ("print(*[attempt(lambda: open(f'/proc/{p}/mem', m)) for p in others "
               "for m in ('rb', 'r+b')])", "(EACCES ?){4}"),
    "ptrace": ("print(*[call(101 if x86 else 117, r, p, 0, 0) for p in others "
               "for r in (16, 0x4206)])", "(EPERM ?){4}"),
    "process_vm": ("print(*[call(n, p, None, 0, None, 0, 0) for p in others for n in "
                   "((310, 311) if x86 else (270, 271))])", "(EPERM ?){4}"),
    "pidfd": ("print(*[call(434, p, 0) for p in others])", "(EPERM ?){2}"),
    "limits": ("print(*[attempt(lambda: resource.prlimit(p, resource.RLIMIT_CPU, (1, 1))) "
               "for p in others])", "(EPERM|PermissionError) (EPERM|PermissionError)"),
    "descriptors": ("print(*[attempt(lambda: os.listdir(f'/proc/{p}/fd')) for p in others])",
                    "((EACCES|EPERM) ?){2}"),
    "folders": ("print(*[attempt(lambda: os.listdir(f'/proc/{p}/cwd/')) for p in others])",
                "((EACCES|EPERM) ?){2}"),
    "scheduling": ("print(*[call(203 if x86 else 122, p, 8, b'12345678') for p in others])",
                   "(EPERM ?){2}"),
    "shared-memory": ("print(call(29 if x86 else 194, 1, 4096, 0o1666), attempt(lambda: "
                      "open('/dev/shm/x', 'w')), attempt(lambda: mmap.mmap(-1, 4096)))",
                      "EPERM EACCES EPERM"),
}  # fmt: skip
"""What a program tries on its warden and on a program that runs at the same time."""


@pytest.fixture(scope="module")
def sibling() -> Iterator[tuple[int, int]]:
    """The numbers of a program that runs meanwhile, and of the warden that it was forked from."""
    with Jail() as other, ThreadPoolExecutor(1) as pool:
        other.run(Program(""))
        assert other._process is not None
        warden = other._process.pid
        limits = Limits(seconds=300, file_bytes=0)
        run = pool.submit(other.run, Program("import time; time.sleep(300)"), limits)
        path = Path(f"/proc/{warden}/task/{warden}/children")
        while not (found := path.read_text().split()):
            time.sleep(0.01)
        yield int(found[0]), warden
        assert not run.done(), "it was ended from elsewhere"
        os.kill(int(found[0]), 9)
        assert run.result().reason == "it was killed by SIGKILL"


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("limits", [Limits(), WRITES_NOTHING], ids=["writes", "writes-nothing"])
def test_a_program_reaches_no_other(
    name: str, limits: Limits, shared: Jail, sibling: tuple[int, int]
) -> None:
    code, pattern = OTHERS[name]
    for others in (f"({sibling[0]}, {sibling[1]})", f"({sibling[0]}, os.getppid())"):
        text = f"{PRELUDE}x86 = os.uname().machine == 'x86_64'\nothers = {others}\n{code}"
        result = shared.run(Program(text), limits)
        assert re.fullmatch(pattern, result.stdout.strip()), result


NOTHING_OF_ITS_OWN = {
    "no-descriptor-of-others": (PROGRAMS["no-descriptor-of-others"][0], re.escape("[0, 1, 2]")),
    "wardens-objects": PROGRAMS["wardens-objects"],
    "folder": (
        "print(os.listdir(), *[attempt(f) for f in (lambda: open('x', 'w'), lambda: os.mkdir('x'),"
        "lambda: os.remove('x'), lambda: os.rename('x', 'y'), lambda: os.listdir('..'))])",
        re.escape("[] EACCES EPERM ENOENT ENOENT EACCES")),
    "threads": (
        "print(attempt(threading.Thread(target=time.sleep, args=(99,)).start), "
        "call(56 if os.uname().machine == 'x86_64' else 220, 0x3d0f00, 0, 0, 0, 0))",
        "RuntimeError EPERM"),
    "fork-bomb": ("print({attempt(os.fork) for _ in range(999)})", re.escape("{'EPERM'}")),
    "the-parent-is-its-warden-still": ("print(os.getppid() == warden)", "True"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING_OF_ITS_OWN)
def test_a_program_without_a_folder_and_threads(name: str, shared: Jail) -> None:
    shared.run(Program(""))
    assert shared._process is not None
    code, pattern = NOTHING_OF_ITS_OWN[name]
    text = f"{PRELUDE}warden = {shared._process.pid}\n{code}"
    for _ in range(2):  # what the first left behind, the second would find
        result = shared.run(Program(text), WRITES_NOTHING)
        assert re.fullmatch(pattern, result.stdout.strip()), result


def test_the_callers_modules_are_as_new_for_every_program() -> None:
    with Jail(modules={"own": "import json\nstate = [0]\n"}) as sandbox:
        for _ in range(2):
            result = sandbox.run(
                Program(
                    "import own, json, sys\nprint(own.state, json.dumps(1), sys.path[-1] != 'x')\n"
                    "own.state[0] += 1; json.dumps = None; sys.path.append('x')"
                ),
                WRITES_NOTHING,
            )
            assert result.stdout == "[0] 1 True\n"


# -- Programs of different authors ---------------------------------------------------------------

HONEST = Call("def main_solution(n):\n    return n * 7", "main_solution", {"n": 6})
RIGHT = Returned({"n": 6}, 42)

HOSTILE_ROWS = {
    "CIO-P2": (
        "    import sys\n    m = sys.modules['program_runner']; o = m._call\n"
        "    def f(j, s):\n        r = o(j, s)\n"
        "        if 'SELF' not in j['code']: r['output'] = 666\n        return r\n"
        "    if not getattr(m, 'd', 0): m._call = f; m.d = 1\n    return 1  # SELF"
    ),
    "CIO-P1": (
        "    import sys\n    m = sys.modules['program_runner']\n"
        "    m._line = lambda *_: '{\"arguments\": {\"n\": 6}, \"output\": 666}'\n    return 1"
    ),
    "writes-all-lines": (
        "    import os\n    os.write(1, b'{\"arguments\": {\"n\": 6}, \"output\": 666}\\n' * 64)\n"
        "    os._exit(0)"
    ),
    "turns-builtins": (
        "    import builtins, json, random, ast\n    json.dumps = lambda *_, **__: '666'\n"
        "    builtins.dict = builtins.compile = builtins.exec = ast.parse = None\n    return 1"
    ),
    "writes-to-all-descriptors": (
        "    import os\n    for d in range(3, 99):\n"
        "        try: os.write(d, b'{\"output\": 666}')\n"
        "        except OSError: pass\n    return 1"
    ),
    "turns-the-stored-code": (
        "    import sys\n    m = sys.modules['program_runner']\n"
        "    m._compiled = lambda *_: compile('def main_solution(n): return 666', 'x', 'exec')\n"
        "    return 1"
    ),
    "takes-all-descriptors-and-waits": (
        "    import os\n    for _ in range(99):\n        try: os.dup(0)\n"
        "        except OSError: break\n    while True: pass"
    ),
    "forks": (
        "    import os\n    while True:\n        try: os.fork()\n"
        "        except OSError: return 1"
    ),
    "kills-the-parent": (
        "    import os\n    try: os.kill(os.getppid(), 9)\n    except OSError: pass\n"
        "    os.abort()"
    ),
    "leaves-a-module": "    open('json.py', 'w').write('1/0')\n    return 1",
    "stays-in-a-thread": (
        "    import _thread, time\n    _thread.start_new_thread(time.sleep, (99,))\n    return 1"
    ),
    "scribbles-in-memory": (
        "    import ctypes\n    for a in range(id(int) - 4096, id(int) + 4096, 8):\n"
        "        ctypes.c_long.from_address(a).value = 666\n    return 1"
    ),
}  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSLOW_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", HOSTILE_ROWS)
def test_a_hostile_row_says_nothing_of_honest_ones(name: str) -> None:
    hostile = [
        Call(f"def main_solution(n):\n{HOSTILE_ROWS[name]}{mark}", "main_solution", {"n": 6})
        for mark in ("", "\n# the second")
    ]
    found = list(outcomes([HONEST, *hostile, HONEST, hostile[0], HONEST]))
    assert [found[0], found[3], found[5]] == [RIGHT] * 3
    assert list(outcomes([HONEST, *hostile, HONEST, hostile[0], HONEST])) == found  # of the cache


@pytest.mark.usefixtures("cache")
def test_the_references_of_a_data_set_with_hostile_rows(tmp_path: Path) -> None:
    def row(body: str) -> str:
        return json.dumps(
            {"problem_description": "Stones.", "io_requirements": "Takes n.",
             "refcode": f"def main_solution(n):\n{body}", "funcname": "main_solution",
             "ios": [{"input": {"n": 6}, "output": None}]}
        ).replace(', "output": null', ', "output": 42')  # fmt: skip

    honest = [row(f"    return 42  # {n}") for n in range(3)]
    hostile = [row(body) for body in HOSTILE_ROWS.values()]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*honest, *hostile]), encoding="utf-8")
    task = CodeIO(CodeIOOptions(source=str(path), train=2, validation=1, test=0))
    problems = [*task.problems("train"), *task.problems("validation")]
    assert [problem.reference for problem in problems] == [42] * 3
