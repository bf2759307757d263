"""A key goes to the reflection server, and nowhere else, whatever is done to get it written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fastslow
from fastslow.config import RunConfig, parse
from fastslow.errors import InputError
from fastslow.report.outputs import write_output
from fastslow.run.folder import RunFolder
from fastslow.run.jsonl import read_lines
from fastslow.run.record import read_run
from fastslow.run.rollouts import read_rollouts
from http_servers import running
from tiny_run import tiny_config, write_task

SECRET = "correct-horse-battery-staple"


class Echo(BaseHTTPRequestHandler):
    """Answers with the key that it was sent: refusing it, in vain, and as new instructions."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Authorization"]
        answers: list[tuple[int, str]] = self.server.answers  # type: ignore[attr-defined]
        status, body = answers[self.server.asked % len(answers)]  # type: ignore[attr-defined]
        self.server.asked += 1  # type: ignore[attr-defined]
        self.send_response(status, key)
        self.end_headers()
        self.wfile.write(body.replace("KEY", key).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    answer = {"choices": [{"message": {"content": "```\nWrite. KEY\n```"}}]}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.answers = [(200, json.dumps(answer)), (401, "bad KEY"), (200, "KEY")]  # type: ignore[attr-defined]
    server.asked = 0  # type: ignore[attr-defined]
    with running(server):
        yield server


def everything_in(run: Path) -> str:
    """All that a run's folder holds, as text; what is compressed, decompressed."""
    files = [path for path in run.rglob("*") if path.is_file()]
    return "\n".join(
        [
            *(path.read_bytes().decode("utf-8", "replace") for path in files),
            str(read_rollouts(run).to_pylist()),
        ]
    )


def test_a_key_that_a_server_echoes_is_nowhere_in_the_run(
    server: ThreadingHTTPServer,
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REFLECTION_ACCESS", SECRET)  # a name that does not tell what it holds
    caplog.set_level(logging.DEBUG, logger="fastslow")  # others tell of warnings, as by default
    config = tiny_config(
        tiny_model_dir,
        write_task(tmp_path),
        tmp_path,
        fast={
            "components": ["instructions"],
            "proposals": 6,
            "reflection": {
                "model": "echo",
                "url": f"http://127.0.0.1:{server.server_port}/v1",
                "api_key_env": "REFLECTION_ACCESS",
                "retries": 0,
            },
        },
    )
    run = fastslow.train(config, ["fast.reflection.api_key_env=REFLECTION_ACCESS"]).folder
    write_output([read_run(run)], tmp_path / "report.html")

    contexts = [row["instructions"] for row in read_lines(run / "contexts.jsonl")]
    assert "Write. Bearer ***" in contexts, "the answers did come to something"
    assert "401" in caplog.text, "the refusals were told of"
    assert "expected a chat completion" in caplog.text
    shown = capsys.readouterr()
    assert "could not be had" in shown.out
    for place in (everything_in(run), caplog.text, shown.out, shown.err):
        assert SECRET not in place
    assert SECRET not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        (f"fast.reflection.url=https://me:{SECRET}@host/v1", "a password in an address"),
        (f"fast.reflection.url=https://host/v1?key={SECRET}", "or of a password in an address"),
        (f"fast.reflection.url={SECRET}", "begins with http"),
        (f"fast.reflection.api_key_env={SECRET}", "the name of an environment variable"),
        ("fast.reflection.api_key_env=gsk_MixedCase0123", "the name of an environment variable"),
        (f"fast.reflection.api_key={SECRET}", "did you mean 'api_key_env'"),
    ],
)
def test_a_secret_in_a_configuration_is_refused_and_not_repeated(
    override: str, reason: str, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, "jsonl", tmp_path, fast={"reflection": {"model": "x"}})
    with pytest.raises(InputError, match=reason) as error:
        parse(config, [override])
    assert str(error.value).startswith("config: fast.reflection.")
    assert SECRET not in str(error.value)
    assert "gsk_" not in str(error.value)


def test_an_expanded_variable_in_a_configuration_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell leaves it: --set task.args.key=$JUDGE_KEY."""
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    config = tiny_config(tmp_path, "own", tmp_path, task={"args": [{"key": f"Bearer {SECRET}"}]})
    with pytest.raises(
        InputError, match=r"config: task.args.0.key: .* variable JUDGE_KEY"
    ) as error:
        parse(config)
    assert SECRET not in str(error.value)
    monkeypatch.delenv("JUDGE_KEY")
    assert isinstance(parse(config), RunConfig)  # what the environment does not call so may stand


def test_the_command_and_the_display_show_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastslow import cli
    from fastslow.run.console import Console

    monkeypatch.setenv("HUB_TOKEN", SECRET)
    monkeypatch.setattr("sys.argv", ["fastslow", "compare", str(tmp_path / SECRET)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "***" in capsys.readouterr().err

    monkeypatch.delenv("HUB_TOKEN")
    config = parse(tiny_config(tmp_path, "own", tmp_path))
    monkeypatch.setenv("HUB_TOKEN", SECRET)
    with Console(config):
        logging.getLogger("fastslow.models").warning("refused: %s", SECRET)
    assert "refused: ***" in capsys.readouterr().out


def test_the_copied_configuration_names_the_variable_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLECTION_KEY", SECRET)
    reflection = {"model": "x", "url": "http://host/v1", "api_key_env": "REFLECTION_KEY"}
    config = parse(tiny_config(tmp_path, "own", tmp_path, fast={"reflection": reflection}))
    with RunFolder.create(tmp_path / "run", config):
        copy = (tmp_path / "run" / "config.toml").read_text()
    assert 'api_key_env = "REFLECTION_KEY"' in copy
    assert SECRET not in copy
