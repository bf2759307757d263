"""The process that asks reflection servers. Its own parent is ``client.Client``.

A server can drip, pour, compress or redirect without end, and so can whatever library talks to it.
Here every byte that any Python library reads from a socket is counted, and every read waits until
the deadline at most. What escapes that, a look-up of a name for instance, is ended from outside.

Jobs come as lines of JSON on standard input, and replies go as lines of JSON to standard output::

    {"timeout": seconds, "limit": bytes, "url": ..., "headers": ..., "body": ...}   a server
    {"timeout": seconds, "limit": bytes, "litellm": arguments of litellm.completion}
    {"timeout": seconds, "limit": bytes, "model": a name that litellm knows or not}

    {"text": the answer}
    {"error": the kind, "words": what was said, "status": of HTTP or null, "cut_off": bool}
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from fastslow.fast.completions import NoAnswerError, error_words, read_completion

GRACE = 0.5
"""Seconds after the deadline in which this process says itself that it has passed."""

MAX_WORDS = 2**16
"""Characters of an error that are passed on."""

_MEMORY = 2**30
"""Bytes of address space. litellm takes a fifth of it."""


class StatusError(Exception):
    """A server's reply that is no success.

    Attributes:
        status_code: of HTTP.
    """

    def __init__(self, status_code: int, words: str) -> None:
        super().__init__(words)
        self.status_code = status_code


class Guard:
    """Bounds one exchange at a time: a deadline for every read, and a limit on all bytes read.

    Attributes:
        broken: why the exchange was ended, if it was. Libraries wrap what is raised in them.
        received: bytes read so far.
    """

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self.received = 0
        self._deadline = self._limit = float("inf")

    def begin(self, timeout: float, limit: int) -> None:
        self.broken, self.received = None, 0
        self._deadline, self._limit = time.monotonic() + timeout, limit

    @property
    def is_late(self) -> bool:
        return time.monotonic() >= self._deadline

    def fail(self, error: Exception) -> Exception:
        """``error``, to be raised, noted as what ended the exchange."""
        self.broken = error
        return error

    def install(self) -> None:
        """From now on, watch every socket of this process, plain or TLS, and every httpx client."""
        for kind in (socket.socket, ssl.SSLSocket):
            for name in ("recv", "recv_into"):
                setattr(kind, name, self._watched(getattr(kind, name)))
        self._watch_httpx()

    def _watched(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def watched(sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
            left, patience = self._deadline - time.monotonic(), sock.gettimeout()
            if left <= 0:
                raise TimeoutError("the reply did not end in time")
            if left < float("inf") and (patience is None or patience > left):
                sock.settimeout(left)
            found = read(sock, *args, **kwargs)
            self.received += found if isinstance(found, int) else len(found)
            if self.received > self._limit:
                message = f"expected a chat completion, found more than {self._limit} bytes"
                raise self.fail(ValueError(message))
            return found

        return watched

    def _watch_httpx(self) -> None:
        """Refuse compressed answers, whose size nobody knows, and redirects: the prompt and the key
        are for the address that was asked."""
        # httpx imports its own command, with click, pygments and rich, wherever it can.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
        import httpx

        def prepare(request: httpx.Request) -> None:
            request.headers["Accept-Encoding"] = "identity"

        def check(response: httpx.Response) -> None:
            if response.is_redirect:
                where = response.headers.get("Location", "")
                message = f"redirects are not followed; this one leads to {where}"
                raise self.fail(StatusError(response.status_code, message))
            encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                message = f"expected a plain reply, found one with Content-Encoding: {encoding}"
                raise self.fail(ValueError(message))

        ask, ask_async = (
            httpx.HTTPTransport.handle_request,
            (httpx.AsyncHTTPTransport.handle_async_request),
        )

        def watched(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            prepare(request)
            response = ask(transport, request)
            check(response)
            return response

        async def watched_async(
            transport: httpx.AsyncHTTPTransport, request: httpx.Request
        ) -> httpx.Response:
            prepare(request)
            response = await ask_async(transport, request)
            check(response)
            return response

        setattr(httpx.HTTPTransport, "handle_request", watched)  # noqa: B010  (mypy)
        setattr(httpx.AsyncHTTPTransport, "handle_async_request", watched_async)  # noqa: B010


def answer(job: dict[str, Any], guard: Guard) -> dict[str, Any]:
    """The reply to a job; whatever goes wrong is a reply, too."""
    try:
        if "url" in job:
            return {"text": _ask_server(job)}
        if "litellm" in job:
            return {"text": _ask_litellm(job)}
        return {"text": _provider(job["model"])}
    except Exception as error:
        return _failure(error, guard)


def _failure(error: Exception, guard: Guard) -> dict[str, Any]:
    if guard.broken is not None:
        error = guard.broken
    elif guard.is_late and guard.received:
        error = TimeoutError("the reply did not end in time")
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    words = " ".join(str(error).split())[:MAX_WORDS]
    kind = type(error).__name__
    if isinstance(error, StatusError):
        kind = f"{status} {http.client.responses.get(error.status_code, '')}".strip()
    cut_off = isinstance(error, NoAnswerError) and error.is_cut_off
    return {"error": kind, "words": words, "status": status, "cut_off": cut_off}


def _ask_server(job: dict[str, Any]) -> str:
    import httpx

    with (
        httpx.Client(timeout=job["timeout"], follow_redirects=False) as client,
        client.stream("POST", job["url"], json=job["body"], headers=job["headers"]) as reply,
    ):
        content = b"".join(reply.iter_raw())
    if not reply.is_success:
        words = error_words(content.decode("utf-8", "replace"))
        raise StatusError(reply.status_code, words)
    try:
        completion = json.loads(content)
    except (ValueError, RecursionError):
        found = " ".join(content.decode("utf-8", "replace").split())
        raise ValueError(f"expected a chat completion, found {found!r}") from None
    return read_completion(completion)


def _ask_litellm(job: dict[str, Any]) -> str:
    litellm = _litellm()
    reply = litellm.completion(
        **job["litellm"], timeout=job["timeout"], max_retries=0, num_retries=0, drop_params=True
    )
    return read_completion(reply.model_dump())


def _provider(model: str) -> str:
    """Raises: litellm's error for a name that it does not know."""
    return str(_litellm().get_llm_provider(model)[1])


def _litellm() -> Any:
    # Read by litellm when it is imported: keeps the import from fetching a price list.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    return litellm


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except (ImportError, OSError, ValueError):
        pass  # a system that cannot tell: the limit on bytes holds


def main() -> None:
    """Answer jobs until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    uses_litellm = "litellm" in sys.argv[1:]
    _limit_memory()
    guard = Guard()
    guard.install()
    if uses_litellm:
        _litellm()

    def tell(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()

    tell({"text": "ready"})
    for line in sys.stdin.buffer:
        job = json.loads(line)
        # Ends this process if nobody is left to do it.
        signal.setitimer(signal.ITIMER_REAL, job["timeout"] + 2 * GRACE)
        guard.begin(job["timeout"], job["limit"])
        reply = answer(job, guard)
        signal.setitimer(signal.ITIMER_REAL, 0)
        tell(reply)


if __name__ == "__main__":
    main()
