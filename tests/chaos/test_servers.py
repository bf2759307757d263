"""Whole runs whose reflection model is a server that misbehaves, on this machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fastslow.interruption import InterruptedRunError
from fastslow.run.jsonl import read_lines
from fastslow.training import RunResult, resume, train
from http_servers import running
from tiny_run import outcome, tiny_config, write_task

Reply = tuple[int, str]


class Server(ThreadingHTTPServer):
    """Gives some replies (status, body) in turn, then answers with ever new instructions."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = list(replies)
        self.asked = 0
        self.stalls = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def reply(self) -> Reply:
        if self.replies and self.replies[0] == STALLED:
            return self.replies.pop(0)
        self.asked += 1
        return self.replies.pop(0) if self.replies else chat(f"```\nWrite, {self.asked}.\n```")


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.server.reply()
        if status == SLOW:
            status = 200
            time.sleep(1.0)
        if status == STALLED[0]:
            os.kill(os.getpid(), signal.SIGTERM)
            self.server.stalls.wait(60)
            return
        try:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())
        except ConnectionError:
            pass  # the client did not wait

    def log_message(self, *_: Any) -> None:
        pass


SLOW = 0
STALLED = (-1, "the run is asked to stop while it waits")


def chat(text: str) -> Reply:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]})


def serving(*replies: Reply) -> AbstractContextManager[Server]:
    return running(Server(replies))


@pytest.fixture
def config(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tiny_config(
        tiny_model_dir, write_task(tmp_path), tmp_path, fast={"components": ["instructions"]}
    )


def asking(config: dict[str, Any], server: Server, **options: Any) -> dict[str, Any]:
    reflection = {"model": "m", "url": server.url, "retries": 0, **options}
    return {**config, "fast": {**config["fast"], "reflection": reflection}}


def failed(result: RunResult) -> list[int]:
    return [row["proposals/failed"] for row in result.metrics() if row["phase"] == "fast"]


def proposed(folder: Path) -> list[str]:
    rows = read_lines(folder / "contexts.jsonl")
    return [row["instructions"] for row in rows if row["origin"] == "reflection"]


@pytest.mark.parametrize(
    "bad",
    [
        (429, "slow down"),
        (503, ""),
        (200, "<html>"),
        (200, '{"choices": []}'),
        chat("I cannot help with that."),
        chat("```\n" + "x" * 9000 + "\n```"),
        chat("```\n\x00\x1b\n```"),
    ],
    ids=["429", "503", "html", "no choices", "refusal", "too long", "no text"],
)
def test_a_run_goes_on_without_what_it_could_not_have(
    config: dict[str, Any], bad: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(bad) as server:
        result = train(asking(config, server), ["steps=2"], console=False)
    assert failed(result) == [1]
    assert any("proposal" in message or "proposed" in message for message in caplog.messages)
    assert proposed(result.folder)[0] == "Write, 2."


def test_a_run_does_not_wait_for_a_slow_server(config: dict[str, Any]) -> None:
    with serving(*[(SLOW, "{}")] * 9) as server:
        result = train(asking(config, server, timeout=0.1), ["steps=2"], console=False)
    assert failed(result) == [2]
    assert not proposed(result.folder)


def test_a_run_goes_on_though_its_server_is_down(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as server:
        pass
    result = train(asking(config, server), console=False)
    assert failed(result) == [2, 2]  # then it rests until the next phase
    assert not proposed(result.folder)
    assert sum("could not be had" in message for message in caplog.messages) == 4
    assert not (result.folder / "reflections.jsonl").exists()


def test_a_resumed_run_takes_the_same_course_and_asks_nothing_twice(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the server never gives an answer twice."""
    with serving() as server:
        whole = train(asking(config, server), ["name=whole"], console=False)
        asked = server.asked
    with serving() as server:
        monkeypatch.setenv("DISTURB", "39 crash")  # in the second fast phase
        with pytest.raises(KeyboardInterrupt, match="broken off"):
            train(asking(config, server), console=False)
        before = server.asked
        folder = whole.folder.with_name("run")
        (saved,) = (folder / "checkpoints").iterdir()
        kept = json.loads((saved / "state.json").read_text())["answers_bytes"]
        assert kept < (folder / "reflections.jsonl").stat().st_size  # a phase came to nothing
        resume(folder, [f"fast.reflection.url={server.url}"], console=False)
        assert server.asked == asked
        assert before < asked
    assert outcome(folder) == outcome(whole.folder)
    lines = [list(read_lines(path / "reflections.jsonl")) for path in (folder, whole.folder)]
    assert lines[0] == lines[1]
    assert len(lines[0]) == asked


def test_a_run_that_waits_for_its_server_can_be_stopped(config: dict[str, Any]) -> None:
    with serving() as server:
        whole = train(asking(config, server), ["name=whole"], console=False)
    with serving(chat("```\nWrite, 1.\n```"), STALLED) as server:
        started = time.monotonic()
        with pytest.raises(InterruptedRunError, match=r"^stopped by SIGTERM: the run is saved"):
            train(asking(config, server, timeout=600.0), console=False)
        assert time.monotonic() - started < 250
        server.stalls.set()
        folder = whole.folder.with_name("run")
        resume(folder, console=False)
    assert outcome(folder) == outcome(whole.folder)
