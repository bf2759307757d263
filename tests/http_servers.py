"""Servers on this machine, as long as a test lasts."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import HTTPServer
from typing import TypeVar

Server = TypeVar("Server", bound=HTTPServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server at work; it is closed, and all of its answers are given, at the end."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def raw(*replies: bytes | Iterable[bytes], pause: float = 0.0) -> Iterator[RawServer]:
    """A server that reads one request a connection and then sends what it is told, byte by byte as
    it stands: a reply in parts with ``pause`` seconds between them, without end if it has none. The
    last reply is given for ever."""
    server = RawServer(replies, pause)
    with running(server):
        try:
            yield server
        finally:
            server.over.set()


class RawServer(socketserver.ThreadingTCPServer, HTTPServer):
    """Attributes: requests: what was asked, each as bytes; over: that nobody waits any longer."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, replies: Sequence[bytes | Iterable[bytes]], pause: float) -> None:
        socketserver.ThreadingTCPServer.__init__(self, ("127.0.0.1", 0), _RawHandler)
        self.replies, self.pause = list(replies), pause
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self.server_port = self.server_address[1]

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _RawHandler(socketserver.StreamRequestHandler):
    server: RawServer

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (line := self.rfile.readline()):
                return
            head += line
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        self.server.requests.append(head + self.rfile.read(length))
        replies = self.server.replies
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        with suppress(OSError):  # the client did not wait
            for part in [reply] if isinstance(reply, bytes) else reply:
                self.wfile.write(part)
                if self.server.over.wait(self.server.pause):
                    return


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole reply."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
