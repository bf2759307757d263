"""Inputs about the reflection model that once failed, by their numbers, and more of their kinds."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import resource
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import fastslow
from fastslow.config import ReflectionConfig
from fastslow.errors import InputError
from fastslow.fast.leaks import Leaks
from fastslow.fast.llm import Reflector, make_reflector
from fastslow.fast.proposer import ProposalError
from fastslow.fast.reflection import read_answer
from fastslow.run.jsonl import read_lines
from fastslow.types import Context, Problem
from http_servers import RawServer, ok, raw
from tiny_run import tiny_config, write_task

needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="extra not installed")
KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def by_url(server: RawServer, **options: Any) -> Reflector:
    options = {"retries": 0, "timeout": 5.0, "api_key_env": "OPENAI_API_KEY", **options}
    config = ReflectionConfig(model="small", url=server.url, **options)
    return make_reflector(config, sleep=lambda seconds: None)


def chat(message: dict[str, Any], **choice: Any) -> bytes:
    return ok(json.dumps({"choices": [{"message": message, **choice}]}).encode())


def refusal(message: str, status: str = "400 Bad Request", **more: Any) -> bytes:
    return ok(json.dumps({"error": {"message": message, **more}}).encode(), status=status)


FINE = chat({"role": "assistant", "content": "fine"})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def forever(first: bytes, part: bytes) -> Iterable[bytes]:
    return itertools.chain([first], itertools.repeat(part))


ENDLESS = {
    "R4": (HEAD + b"X-A: ", b"a"),
    "R4-many-headers": (HEAD, b"X-A: a\r\n"),
    "R4-no-status": (b"", b"H"),
    "R5": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "R5-100": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "chunk-extension": (CHUNKED + b"1;", b"a"),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: a\r\n"),
    "silence": (b"", b""),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_server_that_drips_is_left_at_the_deadline(name: str) -> None:
    with raw(forever(*ENDLESS[name]), pause=0.05) as server:
        ask = by_url(server, timeout=0.5)
        started = time.monotonic()
        with pytest.raises(ProposalError, match=r"after 1 try: (TimeoutError|ReadTimeout)"):
            ask("?")
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("name", ["R4", "R4-many-headers", "body", "trailers"])
def test_a_server_that_pours_is_left_after_4_mib(name: str) -> None:
    first, part = ENDLESS[name]
    with (
        raw(forever(first.replace(b"1000000", b"9" * 12), part * 10_000)) as server,
        pytest.raises(ProposalError) as caught,
    ):
        by_url(server, timeout=30.0)("?")
    assert "Timeout" not in str(caught.value)


BOMB = gzip.compress(bytes(50 * 2**20))
COMPRESSED = {
    "R1": ok(BOMB, "Content-Encoding: gzip"),
    "R2": ok(gzip.compress(BOMB), "Content-Encoding: gzip, gzip"),
    "deflate": ok(BOMB, "Content-Encoding: deflate"),
    "br": ok(b"x", "Content-Encoding: br"),
    "zstd": ok(b"x", "Content-Encoding: zstd"),
    "upper case": ok(BOMB, "CONTENT-ENCODING: GZIP"),
    "two headers": ok(BOMB, "Content-Encoding: identity", "Content-Encoding: gzip"),
    "empty members": ok(gzip.compress(b"") * 1000, "Content-Encoding: x-gzip"),
    "an error": ok(BOMB, "Content-Encoding: gzip", status="500 Oops"),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_answers_are_refused(name: str) -> None:
    with raw(COMPRESSED[name]) as server:
        before = _peak()
        with pytest.raises(ProposalError, match="expected a plain reply, found one with Content-"):
            by_url(server)("?")
        assert _peak() - before < 8 * 2**20
    assert b"accept-encoding: identity" in server.requests[0].lower()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def litellm_at(server: RawServer, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Reflector:
    monkeypatch.setenv("OPENAI_API_BASE", server.url)
    config = ReflectionConfig(model="openai/small", **{"retries": 0, "timeout": 5.0, **options})
    return make_reflector(config, sleep=lambda seconds: None)


@needs_litellm
@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("R20", COMPRESSED["R2"]),
        ("R22", ok(b'{"a": "' + b"x" * 2**23 + b'"}')),
        ("R23", ok(b"", "Location: http://127.0.0.1:9/v1", status="307 Temporary Redirect")),
        ("drip", forever(*ENDLESS["R4"])),
    ],
)
def test_litellm_is_held_to_the_same(
    name: str, reply: bytes | Iterable[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = {
        "R20": "expected a plain reply",
        "R22": "more than 4194304 bytes",
        "R23": "307 Temporary Redirect: redirects are not followed",
        "drip": "TimeoutError: the reply did not end in time",
    }[name]
    # The first exchange imports more of litellm, which takes seconds on a busy machine.
    with raw(reply, pause=0.01) as server:
        timeout = 6.0 if name == "drip" else 120.0
        ask, before = litellm_at(server, monkeypatch, timeout=timeout), _peak()
        with pytest.raises(ProposalError, match=reason):
            ask("?")
        assert _peak() - before < 8 * 2**20
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_no_redirect_is_followed(status: str) -> None:
    with (
        raw(FINE) as other,
        raw(ok(b"", f"Location: {other.url}", status=status)) as server,
        pytest.raises(ProposalError, match=f"{status[:3]} .*redirects are not followed"),
    ):
        by_url(server, retries=3)("?")
    assert len(server.requests) == 1
    assert not other.requests


LIMIT = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead."
)
WARMTH = (
    "Unsupported value: 'temperature' does not support 0.7 with this model. "
    "Only the default (1) value is supported."
)
RAISE = "raise fast.reflection.max_tokens, which is 2048"


class Picky:
    """Replies of a server that refuses parameters, one after the other."""

    F085 = (LIMIT,)
    F086 = (WARMTH,)
    both = (LIMIT, WARMTH)
    otherwise = (WARMTH, LIMIT)
    terse = ("Unknown field max_tokens",)


@pytest.mark.parametrize("name", ["F085", "F086", "both", "otherwise", "terse"])
def test_a_refused_parameter_is_left_out_and_remembered(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    words = getattr(Picky, name)
    with raw(*map(refusal, words), FINE) as server:
        ask = by_url(server, temperature=0.7)
        assert [ask("?"), ask("?")] == ["fine", "fine"]
    assert len(server.requests) == len(words) + 2
    last = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests[-2:]]
    for body in last:
        assert ("temperature" in body) == (WARMTH not in words)
        assert "max_tokens" in body or "max_completion_tokens" in body
        if name != "F086":
            assert "max_tokens" not in body
    assert len([m for m in caplog.messages if "refuses a parameter" in m]) == len(words)
    assert words[0][:60] in caplog.text


def test_a_parameter_is_known_by_the_field_that_names_it() -> None:
    with raw(refusal("Not supported", param="temperature"), FINE) as server:
        assert by_url(server)("?") == "fine"


def test_parameters_can_be_left_out_by_configuration() -> None:
    with raw(FINE) as server:
        by_url(server, temperature="default", max_tokens_key="none")("?")
        by_url(server, max_tokens_key="max_completion_tokens", max_tokens=7)("?")
    first, second = (json.loads(r.partition(b"\r\n\r\n")[2]) for r in server.requests)
    assert set(first) == {"model", "messages"}
    assert second["max_completion_tokens"] == 7


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "You have no credit left"}}', "402 .*: You have no credit left"),
        (b'{"error": "no such model"}', "no such model"),
        (b'{"message": "too warm"}', "too warm"),
        (b'{"detail": [{"loc": ["body"], "msg": "bad"}]}', "bad"),
        (b"plain words", "plain words"),
        (
            b'{"error": {"message": "key sk-very-secret-key is bad\\u001b[2J"}}',
            r"key \*\*\* is bad",
        ),
        (b"", "402"),
        (b"[" * 100_000, "402"),
    ],
)
def test_the_servers_own_words_are_shown(body: bytes, words: str) -> None:
    with (
        raw(ok(body, status="402 Payment Required")) as server,
        pytest.raises(ProposalError, match=words) as caught,
    ):
        by_url(server)("?")
    assert KEY not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "developer.mozilla.org" not in str(caught.value)
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "fine"}], "fine"),
        ([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"text": "fine"}], "fine"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        (["a", {"type": "output_text", "text": "b"}, {"type": "image_url"}, None, 3], "ab"),
        ("fine", "fine"),
    ],
    ids=["F087", "thinking", "two", "mixed", "text"],
)  # fmt: skip
def test_content_in_parts_is_read(content: Any, text: str) -> None:
    with raw(chat({"content": content})) as server:
        assert by_url(server)("?") == text


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (chat({"content": None, "reasoning_content": "hm"}), "holds reasoning and no content"),
        (chat({"content": None, "reasoning": "hm"}), "holds reasoning and no content"),
        (chat({"content": "", "reasoning_content": "hm"}, finish_reason="length"), RAISE),
        (chat({"content": "```\nab"}, finish_reason="length"), RAISE),
        (chat({"content": None, "refusal": "I cannot"}), "refused to answer: I cannot"),
        (chat({"content": None}), "has no content"),
        (chat({"content": []}), "has no content"),
        (chat({}), "has no content"),
        (chat({"content": {"a": 1}}), "expected a chat completion"),
        (ok(b'{"choices": [{"message": null}]}'), "expected a chat completion"),
        (ok(b'{"choices": [[]]}'), "expected a chat completion"),
        (ok(b'{"error": {"message": "overloaded"}}'), "overloaded"),
        (ok(b"null"), "expected a chat completion"),
        (ok(b"\xff\xfe"), "expected a chat completion"),
        (ok(b"[" * 2_000_000), "expected a chat completion"),
    ],
    ids=[
        "F088",
        "reasoning",
        "F089",
        "F089-content",
        "refusal",
        "null",
        "none",
        "missing",
        "object",
        "no message",
        "list",
        "error",
        "json null",
        "bytes",
        "deep",
    ],
)
def test_an_answer_without_content_says_what_it_holds(reply: bytes, reason: str) -> None:
    with raw(reply) as server, pytest.raises(ProposalError, match=reason):
        by_url(server)("?")


@pytest.mark.parametrize(
    ("answer", "instructions"),
    [
        (
            "````\nBe good.\n````\nFor example the model should answer:\n"
            "```\n<answer>5</answer>\n```",
            "Be good.",
        ),
        ("```\nBe good. Example:\n```\nprint(1)\n```\nDone.\n```", ""),
        ("````\nBe good.\n````\nThis differs from the old:\n````\nold\n````", ""),
        ("```\nold\n```\nBecomes:\n````\nBe good.\n````", "Be good."),
        ("````markdown\nBe good.\n```\nx\n```\n````", "Be good.\n```\nx\n```"),
    ],
    ids=["F090", "F091", "F092", "old-first", "nested"],
)  # fmt: skip
def test_which_block_is_meant(answer: str, instructions: str) -> None:
    assert read_answer(answer) == instructions


COUNTRIES = [
    Problem(f"c{n}", f"What is the capital of country number {n}?", f"City{n}") for n in range(40)
]
LEAKS = {
    "verbatim": "What is the capital of country number 7? City7",
    "case": "WHAT IS THE CAPITAL OF COUNTRY NUMBER 7? City7",
    "comma": "What is the capital, of country number 7? City7",
    "look-alike": "What is the c\u0430pital of country number 7? City7",
    "look-alikes": "Wh\u0430t is th\u0435 \u0441\u0430pit\u0430l \u043ef country number 7?",
    "zwnj": "What is the cap\u200cital of country number 7? City7",
    "no mark": "What is the capital of country number 7 City7",
    "hyphens": "What-is-the-capital-of-country-number-7: City7",
    "spelled": "W-h-a-t i-s t-h-e c-a-p-i-t-a-l o-f c-o-u-n-t-r-y n-u-m-b-e-r 7",
    "spaced": "W h a t  i s  t h e  c a p i t a l  o f  c o u n t r y  n u m b e r  7",
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in "Whatisthecapitalofcountrynumber") + " 7",
    "accents": "Wh\u00e1t \u00eds the c\u00e0pital of country n\u00famber 7?",
    "table": "country 0 = City0; country 1 = City1; country 2 = City2",
    "one row": "Country 7: City7.",
    "arrows": "7 -> City7",
    "markdown": "| 7 | City7 |\n| 8 | City8 |",
    "turned round": "City7: country 7",
    "words": "the capital is City7 for 7: City7",
    "underscores": "What_is_the_capital_of_country_number_7",
    "bold": "**What** **is** **the** **capital** **of** **country** **number** **7**",
}


@pytest.mark.parametrize("name", LEAKS)
def test_t5_instructions_that_give_an_anchor_away_are_found(name: str) -> None:
    assert Leaks(COUNTRIES).given_away_by(Context(f"Answer well. {LEAKS[name]}"))


@pytest.mark.parametrize(
    "honest",
    [
        "Answer the question. Give the final answer between <answer> and </answer>.",
        "You are asked for the capital of a country by its number. Name the city, nothing else.",
        "1. Read the number of the country.\n2. Recall its capital.\n3. Write it as: City.",
        "What is the capital of country number N? Look N up, and answer with one word.",
        "There are 40 countries. If you do not know number 7, guess. A city has one name.",
    ],
)
def test_honest_instructions_are_not_refused(honest: str) -> None:
    assert not Leaks(COUNTRIES).given_away_by(Context(honest))


SUMS = [Problem(f"s{a}{b}", f"What is {a} plus {b}?", a + b) for a in range(2, 9) for b in (11, 12)]


def test_short_references_are_no_evidence_but_a_table_of_them_is() -> None:
    leaks = Leaks(SUMS)
    assert not leaks.given_away_by(Context("Answers lie between 13 and 20. Say 13, or 14, or 15."))
    table = Context("2 plus 11: 13\n3 plus 12: 15\n5 plus 11: 16\n8 plus 12: 20")
    assert {"s211", "s312", "s511", "s812"} <= set(leaks.given_away_by(table))


def test_a_long_answer_that_is_quoted_is_found() -> None:
    proofs = [
        Problem(
            f"p{n}", f"Prove statement {n}.", {"proof": f"{word} follows from {word} twice over"}
        )
        for n, word in enumerate(["compactness", "continuity", "convexity", "coherence", "choice"])
    ]
    found = Leaks(proofs).given_away_by(
        Context("Say: Convexity follows, from convexity, twice over.")
    )
    assert set(found) == {"p2"}


def reflecting(tmp_path: Path, model: Path, server: RawServer, **options: Any) -> dict[str, Any]:
    reflection = {"model": "m", "url": server.url, "retries": 0, **options}
    fast = {"components": ["instructions"], "reflection": reflection}
    return tiny_config(model, write_task(tmp_path), tmp_path, fast=fast, steps=2)


def test_k3_what_is_written_down_is_what_was_sent(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in a completion's feedback: here, in the seed context."""
    with raw(chat({"content": f"````\nWrite well, {KEY}.\n````"})) as server:
        config = reflecting(tmp_path, tiny_model_dir, server)
        monkeypatch.delenv("OPENAI_API_KEY")
        config["context"] = {"instructions": f"Write. {KEY}"}
        parsed = fastslow.config.parse(config)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setattr("fastslow.config.secrets.secrets", dict)
        folder = fastslow.train(parsed, console=False).folder
    rows = list(read_lines(folder / "reflections.jsonl"))
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests]
    assert rows
    assert [row["prompt"] for row in rows] == [b["messages"][0]["content"] for b in bodies]
    assert "Write. ***" in rows[0]["prompt"]
    assert KEY not in (folder / "reflections.jsonl").read_text()


@pytest.mark.parametrize("as_file", [True, False])
def test_k16_a_configuration_sends_no_variable_of_yours(
    as_file: bool, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "AWS-SECRET-0123456789")
    with raw(FINE) as server:
        config: Any = reflecting(
            tmp_path, tiny_model_dir, server, api_key_env="AWS_SECRET_ACCESS_KEY"
        )
        if as_file:
            from fastslow.run.toml import to_toml

            path = tmp_path / "theirs.toml"
            path.write_text(to_toml(fastslow.config.parse(config)))
            config = path
        with pytest.raises(InputError, match="api_key_env: names AWS_SECRET_ACCESS_KEY") as error:
            fastslow.train(config, console=False)
        assert "--set fast.reflection.api_key_env=AWS_SECRET_ACCESS_KEY" in str(error.value)
        assert not server.requests
        allowed = ["fast.reflection.api_key_env=AWS_SECRET_ACCESS_KEY"]
        folder = fastslow.train(config, allowed, console=False).folder
        asked = len(server.requests)
        assert asked
        with pytest.raises(InputError, match="api_key_env: names AWS_SECRET_ACCESS_KEY"):
            fastslow.resume(folder, ["steps=4"], console=False)
        assert len(server.requests) == asked
        fastslow.resume(folder, ["steps=4", *allowed], console=False)


def test_no_process_is_left_behind() -> None:
    with raw(FINE) as server:
        ask = by_url(server)
        ask("?")
        client = ask.ask.__closure__  # keeps it alive until here
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        before = len(children.read_text().split())
        del ask, client
    assert len(children.read_text().split()) <= before
