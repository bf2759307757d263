from __future__ import annotations

import errno
import gc
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastslow.errors import InputError, RunError
from fastslow.sandbox import Jail, Limits, Outcome, Program, inside, jail, run_python


def outcome(code: str) -> str:
    """What a program says of an attempt: "done", or the error that stopped it."""
    attempt = "\n".join(f"    {line}" for line in code.splitlines())
    result = run_python(
        f"try:\n{attempt}\n    print('done')\nexcept BaseException as error:\n"
        "    print(type(error).__name__, getattr(error, 'errno', ''))"
    )
    assert result.reason is None
    return result.stdout.strip()


FORBIDDEN = f"PermissionError {errno.EPERM}"
HIDDEN = f"PermissionError {errno.EACCES}"


def test_a_program_reads_its_input_and_its_files_and_prints() -> None:
    result = run_python(
        "import helper, sys\nprint(helper.double(input()), open('data/x.txt').read())\n"
        "print('on the side', file=sys.stderr)",
        stdin="h\u00e9\n",
        files={"helper.py": "def double(x): return x + x", "data/x.txt": "\u2603"},
    )
    assert result == Outcome(0, "h\u00e9h\u00e9 \u2603\n", "on the side\n")


@pytest.mark.parametrize(
    ("code", "returncode", "error"),
    [
        ("1/0", 1, "ZeroDivisionError: division by zero"),
        ("def f(", 1, "SyntaxError: '(' was never closed"),
        ("x = '\ud800'", 1, "UnicodeEncodeError"),
        ("\0", 1, "null bytes"),
        ("import sys; sys.exit(7)", 7, ""),
        ("import os; os._exit(0)", 0, ""),
    ],
)
def test_how_a_program_ends(code: str, returncode: int, error: str) -> None:
    result = run_python(code)
    assert (result.returncode, result.reason) == (returncode, None)
    assert error in result.stderr
    assert "jail" not in result.stderr  # the traceback is the program's own


def test_a_program_runs_as_a_script_of_its_own() -> None:
    result = run_python(
        "import sys, os\nassert __name__ == '__main__'\nassert sys.modules['__main__'].__dict__ is "
        "globals()\nprint(sys.argv, sorted(k for k in globals() if not k.startswith('__')))"
    )
    assert result.stdout == "['main.py'] ['os', 'sys']\n"


def test_equal_programs_print_equal_texts() -> None:
    code = "print(set('abcdefghij'), hash('x'))"
    assert run_python(code).stdout == run_python(code).stdout


def test_nothing_of_the_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    assert "secret" not in run_python("import os; print(dict(os.environ))").stdout


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import multiprocessing as m; p = m.get_context('spawn').Process(); p.start()",
        "import socket; socket.socket()",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import os; os.kill(os.getppid(), 0)",
        "import os; os.kill(-1, 0)",
        "import os; os.kill(0, 0)",
        "import os; os.memfd_create('x')",
        "import os; os.chmod('main.py', 0)",
        "import os; os.utime('/usr')",
        "import os; os.setxattr('/usr', 'user.x', b'')",
        "import resource; resource.prlimit(1, resource.RLIMIT_CPU)",
        "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, 1)",
        "import fcntl; fcntl.ioctl(0, 0x40086602, b'1234')",
        "import os; os.sched_setaffinity(0, [0])",
        "import os; os.mkdir('x')",
        "import os; os.mknod('x')",
        "import os; os.symlink('/usr', 'x')",
        "import os; os.link('/usr/bin/env', 'x')",
    ],
)
def test_calls_that_reach_out_are_refused(code: str) -> None:
    assert outcome(code) == FORBIDDEN


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unshare", (0x10000000,)), ("mount", (b"/", b"/mnt", None, 4096, None)),
        ("ptrace", (16, 1, 0, 0)), ("chroot", (b"/tmp",)), ("prctl", (1, 0)),
        ("setuid", (1,)), ("shmget", (1, 4096, 0o1666)), ("inotify_init", ()),
    ],
)  # fmt: skip
def test_no_way_back_to_privileges(name: str, arguments: tuple[object, ...]) -> None:
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print(libc.{name}(*{arguments!r}), ctypes.get_errno())"
    )
    assert run_python(code).stdout == f"-1 {errno.EPERM}\n"


@pytest.mark.parametrize(
    "code",
    [
        "open({path!r})",
        "open({path!r}, 'a')",
        "open({path!r}, 'w')",
        "import os; os.truncate({path!r}, 0)",
        "import os; os.remove({path!r})",
        "import os; os.listdir({folder!r})",
        "import os; os.chdir({folder!r}); open('x', 'w')",
        "open('/proc/self/environ')",
        "open('/etc/passwd')",
        "open('/usr/x', 'w')",
        "open('/dev/shm/x', 'w')",
    ],
)
def test_no_other_file_can_be_reached(code: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("secret")
    assert outcome(code.format(path=str(path), folder=str(tmp_path))) == HIDDEN
    assert [file.read_text() for file in tmp_path.iterdir()] == ["secret"]


def test_a_file_does_not_move(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("secret")
    assert outcome(f"import os; os.rename({str(path)!r}, 'x')") in (
        f"OSError {errno.EXDEV}",
        HIDDEN,
    )
    assert path.exists()


def test_nobody_listens_to_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        assert outcome(f"import socket; socket.create_connection(('127.0.0.1', {port}))") == (
            FORBIDDEN
        )
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "code",
    [
        "open('x', 'w').write('1'); open('x', 'a').write('2'); assert open('x').read() == '12'",
        "import threading as t; a = t.Thread(target=print); a.start(); a.join()",
        "import asyncio; asyncio.run(asyncio.sleep(0))",
        "import numpy; assert (numpy.eye(9) @ numpy.eye(9)).sum() == 9",
        "import decimal, fractions, json, random, re, heapq, itertools, zoneinfo",
        "import os, signal; signal.signal(2, lambda *_: None); os.kill(os.getpid(), 2)",
    ],
)
def test_what_programs_do_every_day_is_allowed(code: str) -> None:
    assert outcome(code).endswith("done")


@pytest.mark.parametrize(
    ("code", "limits", "reason", "timed_out"),
    [
        ("import time; time.sleep(60)", Limits(seconds=0.4), "longer than 0.4 seconds", True),
        (
            "while True: pass",
            Limits(cpu_seconds=1),
            "longer than 1 seconds of processor time",
            True,
        ),
        ("print('x' * 10**7)", Limits(output_bytes=1000), "more than 1000 bytes of output", False),
        ("while True: print('x' * 10**6)", Limits(), "more than 1048576 bytes of output", False),
        ("import os; os.abort()", Limits(), "killed by SIGABRT", False),
        ("import ctypes; ctypes.string_at(0)", Limits(), "killed by SIGSEGV", False),
    ],
)
def test_limits(code: str, limits: Limits, reason: str, timed_out: bool) -> None:
    started = time.monotonic()
    result = run_python(code, limits=limits)
    assert reason in (result.reason or "")
    assert result.timed_out is timed_out
    assert len(result.stdout) <= limits.output_bytes
    assert time.monotonic() - started < 45  # the sleep takes 60


def test_files_move_and_go_where_the_kernel_bounds_their_space() -> None:
    if int(run_python("import os; s = os.statvfs('.'); print(s.f_blocks)").stdout) > 2**16:
        pytest.skip("this machine permits no file system of one's own, so files keep their names")
    for code in (
        "import os; open('x', 'w'); os.rename('x', 'y'); os.remove('y')",
        "import tempfile; tempfile.TemporaryFile().write(b'x')",
    ):
        assert outcome(code) == "done"


def test_memory_is_limited() -> None:
    code = "x = bytearray(300 * 2**20); print(len(x))"
    assert run_python(code).returncode == 0
    result = run_python(code, limits=Limits(memory_bytes=200 * 2**20))
    assert "MemoryError" in result.stderr


def test_an_output_in_parts_is_cut_at_the_limit() -> None:
    result = run_python("print('abc' * 1000)", limits=Limits(output_bytes=100))
    assert result.stdout == ("abc" * 34)[:100]


def test_limits_cannot_be_raised() -> None:
    code = "import resource as r; r.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY, r.RLIM_INFINITY))"
    assert outcome(code).startswith("ValueError")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptors = len(os.listdir("/proc/self/fd"))
    run_python("open('x', 'w')", files={"a/b/c": ""})
    run_python("import time; time.sleep(60)", limits=Limits(seconds=0.3))
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_one_jail_runs_many_programs_each_with_its_own_limits() -> None:
    with Jail(preload=["json", "no_such_module"]) as sandbox:
        assert sandbox.run(Program("import json; print(json.dumps([1]))")).stdout == "[1]\n"
        assert sandbox.run(Program("1/0")).returncode == 1
        stopped = sandbox.run(Program("while True: pass"), Limits(seconds=0.3))
        assert stopped.timed_out
        compiled = compile("print(__name__, input())", "x.py", "exec")
        assert sandbox.run(Program(compiled, stdin="in")).stdout == "__main__ in\n"
        with pytest.raises(ValueError, match="leads out"):
            sandbox.run(Program("", files={"/x": ""}))
        assert sandbox.run(Program("print(2)")).stdout == "2\n"
        sandbox.close()
        assert sandbox.run(Program("print(3)")).stdout == "3\n", "it starts anew"


def test_a_jail_whose_process_was_killed_says_so_and_starts_anew() -> None:
    with Jail() as sandbox:
        sandbox.run(Program("print(1)"))
        assert sandbox._process is not None
        sandbox._process.kill()
        with pytest.raises(RunError, match="the sandbox ended"):
            sandbox.run(Program("print(1)"))
        assert sandbox.run(Program("print(2)")).stdout == "2\n"


def test_a_jail_that_nobody_closes_ends_with_the_last_reference_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = Jail()
    sandbox.run(Program("print(1)"))
    copy = os.fork()
    if copy == 0:  # the copy in another process leaves the sandbox to its owner
        try:
            del sandbox
            gc.collect()
        finally:
            os._exit(0)
    os.waitpid(copy, 0)
    assert sandbox.run(Program("print(2)")).stdout == "2\n"
    process = sandbox._process
    assert process is not None
    del sandbox
    assert process.returncode is not None
    assert os.listdir(tmp_path) == []


def test_a_program_ends_with_the_warden() -> None:
    def is_alive(pid: str) -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(") ")[2][0] not in "ZX"

    with Jail() as sandbox, ThreadPoolExecutor(1) as pool:
        sandbox.run(Program("print(1)"))
        assert sandbox._process is not None
        warden = sandbox._process.pid
        run = pool.submit(sandbox.run, Program("import time; time.sleep(60)"), Limits(seconds=60))
        path = Path(f"/proc/{warden}/task/{warden}/children")
        while not (children := path.read_text().split()):
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(warden, 9)
        assert isinstance(run.exception(), RunError)
        deadline = time.monotonic() + 60
        while any(map(is_alive, children)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(map(is_alive, children))


def test_threads_are_counted() -> None:
    code = (
        "import threading as t\n"
        "for _ in range(9): t.Thread(target=t.Event().wait, daemon=True).start()"
    )
    assert run_python(code).returncode == 0
    assert "can't start new thread" in run_python(code, limits=Limits(threads=5)).stderr


def test_as_many_threads_as_are_allowed_find_room_for_their_stacks() -> None:
    code = (
        "import threading as t\n"
        "for _ in range(63): t.Thread(target=t.Event().wait, daemon=True).start()"
    )
    assert run_python(code).stderr == ""


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "", ".", "a/.."])
def test_files_lie_within_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="leads out of the program's folder"):
        run_python("", files={name: ""})


def test_what_a_program_writes_anywhere_is_not_taken_for_the_sandboxs_own_word() -> None:
    code = (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'no luck')\n"
        "    except OSError: pass\nos._exit(3)"
    )
    assert run_python(code).returncode == 3


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match=r"it needs Linux; found darwin.*Nothing was run"):
        run_python("print(1)")


def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Have jails run another inside, with ``new`` in the place of ``old``."""
    text = Path(inside.__file__).read_text(encoding="utf-8")
    assert old in text
    other = tmp_path / "inside.py"
    other.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(jail, "INSIDE", other)


def test_a_kernel_that_cannot_confine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Linux 6.2: the jail, asked for a Landlock that does not exist yet."""
    changed(tmp_path, monkeypatch, "LANDLOCK_ABI = 3", "LANDLOCK_ABI = 1000")
    ran = tmp_path / "ran"
    with pytest.raises(InputError, match=r"Landlock, version 1000 or newer .* found version \d"):
        run_python(f"open({str(ran)!r}, 'w')")
    assert not ran.exists()


def test_an_interpreter_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "INSIDE", Path("/nowhere/inside.py"))
    with pytest.raises(RunError, match=r"the sandbox ended.* No such file"):
        run_python("print(1)")


def test_next_to_no_memory_is_the_programs_end() -> None:
    result = run_python("print(1)", limits=Limits(memory_bytes=1000))
    assert (result.stdout, result.returncode == 0) == ("", False)


def test_a_processor_without_a_table_of_calls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(InputError, match="found riscv64"):
        run_python("print(1)")
