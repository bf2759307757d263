"""The inside of the jail: a script that runs each program in a confined child of its process.

``sandbox.jail`` starts it, with nothing but the standard library in reach, and sends it jobs. This
process, the warden, runs no line of a program. It prepares once all that programs have in common:
modules, and the rules for files. Then it forks one child for each program, watches it, and reports
how it ended. A child confines itself for good before it becomes the program: Landlock decides which
files it may reach, a seccomp filter which calls it may make, resource limits how much it may use. A
child may not start a process, so it is its own whole tree, and to kill it is to kill everything.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import gc
import marshal
import os
import resource
import select
import sys
import time

# Every import costs each start of the jail: typing alone more than confining a program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any

# What the children use of ctypes is looked up here, once.
LIBC = ctypes.CDLL(None, use_errno=True)
_ = LIBC.prctl, LIBC.capset, LIBC.syscall
OWN_CAPABILITIES = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
NO_CAPABILITIES = (ctypes.c_uint32 * 6)()

SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_NOSUID, MS_NODEV = 2, 4

# Landlock: the numbers of its calls are the same on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PATH_BENEATH = 1
LANDLOCK_ABI = 3  # Linux 6.2: before it, files outside could be cut to nothing
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG, TRUNCATE = (
    1 << bit for bit in (1, 2, 3, 5, 8, 14)
)
READ = READ_FILE | READ_DIR
WRITE = WRITE_FILE | MAKE_REG | TRUNCATE  # no right to make folders or links

# Requests of a seccomp filter to the warden: sizes and codes of <linux/seccomp.h>.
SET_FILTER, NEW_LISTENER = 1, 8
RECEIVE, RECEIVE_SIZE, SEND = 0xC0502100, 80, 0xC0182101
CONTINUE = 1
OWN_PID = b"\xff" * 4

TICK = 0.05
"""Seconds between two looks at a folder that the kernel does not bound."""
WORD = 8192
"""Bytes of a message, at most."""


class UnconfinedError(Exception):
    """A mechanism is missing on this machine: the program must not run."""


# -- The warden ----------------------------------------------------------------------------------


def serve(channel: _socket.socket) -> tuple[_socket.socket, int, list[int]]:
    """Fork a child for each job that comes, and report how it ended.

    Returns in the children only, with the socket on which the child reports that it is confined,
    the job's descriptor, and those of its standard input, output and error. It knows nothing of
    what another job holds.
    """
    warden = os.getpid()
    while True:
        bounds, (job, *streams) = receive(channel)
        hear, tell = _socket.socketpair()
        child = os.fork()
        if child == 0:
            call("prctl", PR_SET_PDEATHSIG, SIGKILL)
            if os.getppid() != warden:
                os._exit(1)  # the warden died before the line above
            hear.close()
            channel.close()
            return tell, job, streams
        tell.close()
        for descriptor in (job, *streams):
            os.close(descriptor)
        channel.send(marshal.dumps(watch(child, hear, channel, marshal.loads(bounds))))


def receive(channel: _socket.socket) -> tuple[bytes, list[int]]:
    """A message and the descriptors in it. Ends the warden where nobody is at the other end."""
    data, sent, _, _ = channel.recvmsg(WORD, _socket.CMSG_SPACE(4 * 4))
    if not data:
        os._exit(0)
    return data, descriptors(sent)


def descriptors(sent: Sequence[tuple[int, int, bytes]]) -> list[int]:
    packed = b"".join(data for _, _, data in sent)
    return [
        int.from_bytes(packed[place : place + 4], sys.byteorder)
        for place in range(0, len(packed), 4)
    ]


def watch(
    child: int, hear: _socket.socket, channel: _socket.socket, bounds: dict[str, Any]
) -> tuple[str, int, str | None, bool]:
    """Wait for the end of a child, or stop it.

    Returns:
        what it said before the program began ("confined", or "no " and what is missing); its exit
        code, or minus a signal's number; which limit it exceeded, if it was stopped; and whether
        that was its time.
    """
    said, listener, reason, timed_out = b"", -1, None, False
    end = os.pidfd_open(child)
    now = time.monotonic()
    deadline = now + bounds["seconds"]
    look = now + TICK if bounds["folder"] else deadline
    poll = select.poll()
    poll.register(end, select.POLLIN)
    if bounds["threads"] > 1:  # else it says nothing that cannot wait for its end
        poll.register(hear, select.POLLIN)
    poll.register(channel, 0)  # its hang-up: nobody waits for this child any more
    while reason is None:
        ready = dict(poll.poll(1000 * max(min(look, deadline) - now, 0)))
        now = time.monotonic()
        if channel.fileno() in ready:
            os.kill(child, SIGKILL)
            os._exit(0)
        if hear.fileno() in ready:
            data, sent, _, _ = hear.recvmsg(WORD, _socket.CMSG_SPACE(4))
            said += data
            for listener in descriptors(sent):
                poll.register(listener, select.POLLIN)
            if not data:
                poll.unregister(hear)
        if ready.get(listener, 0) & select.POLLIN:
            answer(listener, child, bounds["threads"])
        elif listener in ready:
            poll.unregister(listener)  # the last thread has ended
        if end in ready:
            break
        if now >= look and bounds["folder"]:
            look, reason = now + TICK, excess(bounds)
        if now >= deadline:
            reason, timed_out = f"it took longer than {bounds['seconds']:g} seconds", True
    os.kill(child, SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    while data := hear.recv(WORD):  # a short program may have ended before this was read
        said += data
    hear.close()
    for descriptor in (end, listener):
        if descriptor >= 0:
            os.close(descriptor)
    if reason is None and bounds["folder"]:
        reason = excess(bounds)
    return said.decode(), code, reason, timed_out


def answer(listener: int, child: int, most: int) -> None:
    """Let a child start one more thread, or not."""
    request = bytearray(RECEIVE_SIZE)
    try:
        fcntl.ioctl(listener, RECEIVE, request)
        may = len(os.listdir(f"/proc/{child}/task")) < most
        refusal, flags = (0, CONTINUE) if may else (-errno.EAGAIN, 0)
        reply = request[:8] + bytes(8) + refusal.to_bytes(4, sys.byteorder, signed=True)
        fcntl.ioctl(listener, SEND, bytes(reply + flags.to_bytes(4, sys.byteorder)))
    except OSError:
        pass  # the child died meanwhile


def excess(bounds: dict[str, Any]) -> str | None:
    """Which limit the files of a program exceed, in a folder that the kernel does not bound."""
    size = 0
    names = [
        os.path.join(parent, name)
        for parent, _, files in os.walk(bounds["folder"])
        for name in files
    ]
    if len(names) > bounds["most_files"]:
        return f"it made more than {bounds['most_files']} files"
    for path in names:
        try:
            size += os.stat(path, follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    if size > bounds["folder_bytes"]:
        return f"its files grew beyond {bounds['file_bytes']} bytes"
    return None


# -- The child -----------------------------------------------------------------------------------


def confine(tell: _socket.socket, setup: dict[str, Any], job: dict[str, Any]) -> None:
    """Bind this process for good. Raises: UnconfinedError."""
    prefer_as_victim()
    rules = setup["rules"]
    if job["folder"]:
        is_bounded = mount_folder(job)
        lay(job["files"], job["folder"])
        rights = READ
        if job["file_bytes"]:
            # A file without a name takes up space that nobody outside can see. Where the kernel
            # does not bound the folder, its files keep their names.
            rights |= WRITE | REMOVE_FILE if is_bounded else WRITE
        rules = file_rules(setup["readable"], job["folder"], rights)
    drop_capabilities()
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("syscall", RESTRICT_SELF, rules, 0)
    has_threads = job["threads"] > 1
    if has_threads:
        listener = install(setup["ask_before_threads"], setup["seccomp"])
        packed = listener.to_bytes(4, sys.byteorder)
        tell.sendmsg([b" "], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
    install(setup["allow_list" if has_threads else "allow_list_without_threads"], None)
    limit(job["limits"])


def prefer_as_victim() -> None:
    """Where memory runs out, the kernel ends the program and not the warden or the run."""
    try:
        place = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(place, b"1000")
        os.close(place)
    except OSError:
        pass  # a bound on harm that the limits allow, and none of the walls


def mount_folder(job: dict[str, Any]) -> bool:
    """Put a file system in memory, of bounded size, over the folder. Returns whether that works.

    It is there for this process only and ends with it. It takes a user namespace, which not every
    machine or container permits.
    """
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        return False
    try:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:
        return False
    options = f"size={job['folder_bytes']},nr_inodes={job['inodes']},mode=700".encode()
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    return not LIBC.mount(b"tmpfs", os.fsencode(job["folder"]), b"tmpfs", flags, options)


def lay(files: Mapping[str, str], folder: str) -> None:
    """Write the files that the program is given, and go where they are."""
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    os.chdir(folder)
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), folder))


def drop_capabilities() -> None:
    """Give up what root may do. The files that root owns are left to Landlock."""
    call("capset", OWN_CAPABILITIES, NO_CAPABILITIES)


def file_rules(readable: Sequence[str], folder: str, rights: int) -> int:
    """Rules of Landlock: ``rights`` to ``folder``, reading of ``readable``, nothing else.

    Returns:
        Their descriptor. They hold for no process yet.

    Raises: UnconfinedError.
    """
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
    places = [(folder, rights), *((path, READ) for path in readable), *devices.items()]
    for path, granted in places:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every system has every one of them
        if not os.path.isdir(path):
            granted &= READ_FILE | WRITE_FILE  # more than a file can have is an error
        rule = granted.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        call("syscall", ADD_RULE, rules, PATH_BENEATH, rule, 0)
        os.close(place)
    return rules


class Filter(ctypes.Structure):
    """A filter of seccomp: its number of instructions, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def install(program: bytes, asking: int | None) -> int:
    """Install a seccomp filter on this process.

    Args:
        program: its instructions, in which ``OWN_PID`` stands for the number of this process.
        asking: the number of the call ``seccomp``, for a filter that asks the warden.

    Returns:
        The descriptor on which the warden is asked; 0 for a filter that asks nobody.
    """
    code = program.replace(OWN_PID, os.getpid().to_bytes(4, sys.byteorder))
    whole = Filter(len(code) // 8, code)
    if asking is None:
        return call("prctl", PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0)
    return call("syscall", asking, SET_FILTER, NEW_LISTENER, ctypes.byref(whole))


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


def call(name: str, *arguments: Any) -> int:
    """A function of the C library that returns -1 where it fails. Raises: UnconfinedError."""
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(getattr(LIBC, name)(*words))
    if result < 0:
        reason = os.strerror(ctypes.get_errno())
        raise UnconfinedError(f"the call {name}({arguments[0]}, ...), which fails: {reason}")
    return result


def become(code: Any) -> None:
    """Run a program in this process as Python would run a script of its own."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    sys.path[:0] = [os.getcwd()]
    sys.argv = ["main.py"]
    # The frames of this function and its callers are none of the program's.
    show = sys.excepthook
    sys.excepthook = lambda kind, error, trace: show(kind, error.with_traceback(_own(trace)), None)
    if isinstance(code, str):
        code = compile(code, "main.py", "exec", dont_inherit=True)
    exec(code, vars(module))


def _own(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def main() -> None:
    """Be the warden; in each child confine the process, say whether that went well, and become
    the program.

    The arguments are two descriptors: a file that says how every program is confined, and the
    socket on which jobs come. A child has neither, nor any other descriptor of the warden's, when
    its program begins.
    """
    setup, channel = load(int(sys.argv[1])), _socket.socket(fileno=int(sys.argv[2]))
    sys.path += setup["packages"]
    try:
        prepare(setup)
    except UnconfinedError as missing:
        receive(channel)
        channel.send(marshal.dumps((f"no {missing}", 1, None, False)))
        os._exit(1)
    gc.freeze()  # what the children share is not copied to be looked through
    tell, job_file, streams = serve(channel)
    job = load(job_file)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    try:
        confine(tell, setup, job)
    except UnconfinedError as missing:
        os.write(tell.fileno(), f"no {missing}".encode())
        os._exit(1)
    os.write(tell.fileno(), b"confined")
    tell.detach()
    os.closerange(3, 1024)
    become(job["code"])


def prepare(setup: dict[str, Any]) -> None:
    """Do once what would be the same in every child. Raises: UnconfinedError."""
    for name in setup["preload"]:
        try:
            __import__(name)
        except Exception:
            continue  # then the program that wants it fails by itself
    for name, text in setup["modules"].items():
        sys.modules[name] = module = type(sys)(name)
        exec(compile(text, f"{name}.py", "exec", dont_inherit=True), vars(module))
    # The warden's own folder is empty. A program that is given no other may only read it.
    setup["rules"] = file_rules(setup["readable"], os.getcwd(), READ)


def load(descriptor: int) -> Any:
    """What a file in memory holds."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return marshal.loads(content)


if __name__ == "__main__":
    main()
