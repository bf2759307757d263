"""Run folders and data that somebody handed on, and what of them reaches the terminal."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastslow.config import parse
from fastslow.errors import InputError
from fastslow.redaction import is_secret_name, redact, secrets
from fastslow.report.edits import words_between
from fastslow.report.rollouts import sample_rollouts
from fastslow.run import rollouts
from fastslow.run.folder import RunFolder
from fastslow.run.record import read_run
from fastslow.tasks.sources import read_rows
from fastslow.terminal import Guarded, message
from fastslow.trust import remember, require_trust

Make = Callable[..., Any]

CONFIG = {"model": "m", "steps": 2, "task": {"name": "star_graph"}, "log": {"tensorboard": False}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    RunFolder.create(tmp_path / "run", parse(CONFIG)).close()
    return tmp_path / "run"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("lock", id="A4"),
        pytest.param("reflections.jsonl", id="A6b"),
        "metrics.jsonl",
        "contexts.jsonl",
        ".config.toml.partial",
        "checkpoints/step_000001",
        "rollouts/a.parquet",
    ],
)
def test_a_link_in_a_run_is_refused_before_the_lock(run: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim)
    before = sorted(os.listdir(run))
    with pytest.raises(InputError, match="is a link"):
        RunFolder.open(run)
    assert victim.read_text() == "precious"
    assert sorted(os.listdir(run)) == before


@pytest.mark.parametrize("name", [pytest.param("rollouts", id="A5"), "checkpoints", "events"])
def test_a_link_to_a_folder_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine.parquet").touch()
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(victim)
    with pytest.raises(InputError, match="is a link"):
        RunFolder.open(run)
    assert os.listdir(victim) == ["mine.parquet"]


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "config.toml"])
def test_a_named_pipe_in_a_run_is_refused(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(InputError, match="is a named pipe"):
        RunFolder.open(run)


def test_the_run_itself_may_be_reached_by_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    RunFolder.open(tmp_path / "link").close()


def test_a_hard_link_is_not_written_in_place(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"step": 1}\n')
    for name in ("metrics.jsonl", "lock"):
        (run / name).unlink()
        (run / name).hardlink_to(tmp_path / "other")
    with RunFolder.open(run) as folder:
        folder.rewind(None)
    assert (tmp_path / "other").read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("[1]", "expected a JSON object"),
        ('{"step": 1}', "the key 'cycle' is missing"),
        ('{"step": "1", "cycle": 0, "phase": "slow"}', "'step'"),
        (f'{{"step": {10**30}, "cycle": 0, "phase": "slow"}}', "'step'"),
        ('{"step": 1, "step": 1, "cycle": 0, "phase": "slow"}', "twice"),
        ('{"step": 1, "cycle": 0, "phase": "slow", "loss": NaN}', "no number in JSON"),
        ('{"step": 1, "cycle": 0, "phase": "slow", "loss": [1]}', "loss"),
        ('{"step": 1, "cycle": 0, "phase": "slow", "loss": null}', "loss"),
        ('{"step": 1, "cycle": 0, "phase": "slow", "tokens/sampled": "NaN"}', "tokens/sampled"),
        ('{"step": 1, "cycle": 0, "phase": "eval"}', "task"),
        ('{"step": 1, "cycle": 0, "phase": "slow", "time": 1e18}', "'time'"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "digits"),
        ("\xff", "utf-8"),
    ],
)
def test_a_row_that_no_run_writes_is_named(write_run: Make, row: str, words: str) -> None:
    path = write_run()
    (path / "metrics.jsonl").write_bytes(row.encode("latin-1") + b"\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 1: ") as found:
        read_run(path)
    assert words in str(found.value)


@pytest.mark.parametrize("rows", [pytest.param(5_000_000, id="A12")])
def test_rollouts_without_end_are_not_read(write_run: Make, slow: Make, rows: int) -> None:
    path = write_run("run", [slow(1)])
    schema = rollouts._schema()
    one = schema.empty_table().to_pydict()
    table = pa.table(
        {field.name: pa.nulls(rows, field.type) for field in schema if field.name in one},
        schema=schema,
    )
    (path / "rollouts").mkdir()
    pq.write_table(table, path / "rollouts" / "slow_000001.parquet")
    began = time.process_time()
    with pytest.raises(InputError, match="5,000,000 rollouts"):
        sample_rollouts([read_run(path)])
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", [pytest.param("pipe", id="Z"), "device"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_data_come_from_regular_files(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError):
        read_rows(str(path), [])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"task": {"name": "/elsewhere/evil.py:E"}}, id="A1b"),
        {"task": {"name": "some.module:E"}},
        {"task": {"name": "verifiers", "environment": "gsm8k"}},
        {"policy": {"trust_remote_code": True}},
        {"fast": {"reflection": {"model": "m", "url": "http://127.0.0.1:1"}}},
        {"fast": {"reflection": {"model": "openai/gpt", "api_key_env": "OPENAI_API_KEY"}}},
    ],
)
def test_a_run_from_elsewhere_asks_for_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setenv("FASTSLOW_STATE", str(tmp_path / "state"))
    config = parse({**CONFIG, **changes})
    RunFolder.create(tmp_path / "run", config).close()
    with pytest.raises(InputError, match="--trust"):
        require_trust(tmp_path / "run", trust=False)
    assert not require_trust(tmp_path / "run", trust=True)
    remember(config)  # as train does with a configuration of one's own
    assert require_trust(tmp_path / "run", trust=False)


def test_a_run_of_built_in_parts_asks_for_nothing(run: Path) -> None:
    assert require_trust(run, trust=False)


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastslow.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("case", [pytest.param("data", id="J5"), "configuration"])
def test_names_in_data_cannot_steer_the_terminal(tmp_path: Path, case: str) -> None:
    evil = "q\nfastslow: all is well\x1b]0;OWNED\x07\x1b[2J"
    (tmp_path / "d.jsonl").write_text(json.dumps({evil: 1}) + "\n")
    text = 'model = "m"\nsteps = 1\n[task]\nname = "jsonl"\npath = "d.jsonl"\n'
    if case == "configuration":
        text = f"{json.dumps(evil)} = 1\n{text}"
    (tmp_path / "c.toml").write_text(text.replace('"d.jsonl"', json.dumps(f"{tmp_path}/d.jsonl")))
    done = command("train", tmp_path / "c.toml")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr
    assert not any(line.startswith("fastslow: all") for line in done.stderr.splitlines())


@pytest.mark.parametrize("case", [pytest.param("K11", id="K11")])
def test_a_traceback_does_not_show_a_key(tmp_path: Path, case: str) -> None:
    (tmp_path / "t.py").write_text(
        "import os\nfrom fastslow.tasks import Task\n"
        "class T(Task):\n    def __init__(self):\n"
        "        raise RuntimeError(os.environ['JUDGE_API_KEY'])\n"
        "    def problems(self, split): return []\n"
        "    def grade(self, problem, completion): return None\n"
    )
    (tmp_path / "c.toml").write_text(
        f'model = "m"\nsteps = 1\n[task]\nname = "{tmp_path}/t.py:T"\n'
    )
    done = command("train", tmp_path / "c.toml", JUDGE_API_KEY="correct-horse-battery")
    assert done.returncode == 1
    assert "correct-horse-battery" not in done.stderr + done.stdout
    assert "RuntimeError: ***" in done.stderr


def test_what_is_printed_is_spelled_out_and_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASS", "correct-horse")
    behind = io.StringIO()
    print("\x1b[2J correct-horse \u202e\x9b\rx", file=Guarded(behind))  # type: ignore[type-var]
    assert behind.getvalue() == "⟨U+001B⟩[2J *** ⟨U+202E⟩⟨U+009B⟩⟨U+000D⟩x\n"
    assert message("a\nfastslow: b") == "fastslow: a\n  fastslow: b"


SECRET = """API_KEYS TOKENS SECRETS KEYS OPENAI_API_KEY1 GITHUB_PAT GH_AUTH DB_PASS MYSQL_PWD
SSH_PASSPHRASE COOKIE BEARER AUTHORIZATION SLACK_WEBHOOK_URL SENTRY_DSN JWT SIGNING_CERT
PRIVATE_PEM STRIPE_SK HF_PAT PASSWORD1 apiKey dbPassword"""
PLAIN = """PATH COMPAT TOKENIZERS_PARALLELISM KEYBOARD MONKEY AUTHOR PASSENGER PWD OLDPWD HOTKEYS
SSH_ASKPASS GIT_AUTHOR_NAME COMPASS DISK TASK"""


@pytest.mark.parametrize("case", [pytest.param("K13", id="K13")])
def test_secrets_are_known_by_their_names(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(is_secret_name, SECRET.split()))
    assert not any(map(is_secret_name, PLAIN.split()))
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p%40ssword-long@h/db")
    monkeypatch.setenv("MAX_TOKENS", "100000000")
    assert "MAX_TOKENS" not in secrets()
    assert redact("p@ssword-long, u:p at ftp://a:b@c") == "***, u:p at ftp://***@c"
    assert redact("sk-0123456789abcdef0 and sk-learn-extensions-all") == (
        "*** and sk-learn-extensions-all"
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sk-0123456789abcdef0": 1}, id="K15"),
        {"fast": {"reflection": {"api_key_env": ["correct-horse"]}}},
        {"fast": {"reflection": {"timeout": "correct-horse"}}},
        {"fast": {"reflection": "correct-horse"}},
        {"fast": {"reflection": {"api_key_env": "AKIAABCDEFGHIJKLMNOP"}}},
    ],
)
def test_a_configuration_error_does_not_repeat_a_secret(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError) as found:
        parse({**CONFIG, **changes})
    for secret in ("correct-horse", "0123456789abcdef0", "AKIAABCDEFGHIJKLMNOP"):
        assert secret not in str(found.value)


COIN = ["".join("ab"[n * n % 7 % 2] + " " for n in range(s, s + 4000)) for s in (0, 3)]


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(COIN, id="H3"),
        ["".join(f"{who}{n} k " for n in range(3000)) for who in "uv"],
        ["".join(f"{who}{n}\nk\n" for n in range(3000)) for who in "uv"],
    ],
)
def test_a_diff_of_repeated_words_ends(texts: list[str]) -> None:
    began = time.process_time()
    pieces = words_between(*texts)
    assert time.process_time() - began < 10  # measured: less than 0.2
    assert "".join(p.text for p in pieces if p.change != "added") == texts[0]
    assert "".join(p.text for p in pieces if p.change != "removed") == texts[1]


@pytest.mark.parametrize("case", [pytest.param("#%", id="H2")])
def test_an_odd_fragment_is_no_error(case: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    import fastslow.report

    script = (Path(str(fastslow.report.__path__[0])) / "templates/report.js").read_text()
    part = script[script.index("function fragment") : script.index("// A link to a context opens")]
    code = f"globalThis.location = {{hash: {json.dumps(case)}}};{part};console.log(fragment())"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, check=True)
    assert done.stdout == "%\n"
