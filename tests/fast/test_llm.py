"""The reflection client against a real server on this machine that behaves in every bad way."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest

from fastslow.config import FastConfig, ReflectionConfig
from fastslow.errors import InputError, RunError
from fastslow.fast.base import Tools
from fastslow.fast.llm import make_reflector
from fastslow.fast.proposer import ProposalError
from fastslow.fast.registry import create
from fastslow.types import Context
from http_servers import running

KEY = "sk-very-secret-key"


def completion(text):
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


class Server(ThreadingHTTPServer):
    """Gives the replies (status, body) in turn, the last one for ever; keeps the requests."""

    def __init__(self, replies, delay, drip):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.requests = list(replies), []
        self.delay, self.drip = delay, drip

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        replies = self.server.replies
        status, text = replies.pop(0) if len(replies) > 1 else replies[0]
        time.sleep(self.server.delay)
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            size = 1 if self.server.drip else len(text) + 1
            for start in range(0, len(text), size):
                time.sleep(self.server.drip)
                self.wfile.write(text[start : start + size].encode())
        except ConnectionError:
            pass  # the client did not wait

    def log_message(self, *_):
        pass


def serving(*replies, delay=0.0, drip=0.0):
    return running(Server(replies, delay, drip))


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REFLECTION_KEY", KEY)


def reflector(url, waits=None, **options):
    config = ReflectionConfig(model="small", url=url, **options)
    return make_reflector(config, sleep=(waits if waits is not None else []).append)


def test_a_prompt_is_asked_and_answered():
    with serving(completion("an answer")) as server:
        ask = reflector(
            server.url, api_key_env="REFLECTION_KEY", temperature=0.3, max_tokens=77, timeout=5.0
        )
        assert ask("a prompt") == "an answer"
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": "a prompt"}],
        "temperature": 0.3,
        "max_tokens": 77,
    }
    assert server.requests == [("/v1/chat/completions", f"Bearer {KEY}", body)]


def test_a_key_meant_for_another_server_is_not_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(completion("yes")) as server:
        reflector(server.url + "/")("?")
    assert [key for _, key, _ in server.requests] == [None]


@pytest.mark.parametrize(
    "bad",
    [
        (500, "oops"),
        (429, "slow down"),
        (200, "<html>"),
        (200, '{"error": "x"}'),
        (200, "[]"),
        completion(None),
    ],
)
def test_a_flaky_server_is_asked_again(bad):
    waits = []
    with serving(bad, bad, completion("at last")) as server:
        assert reflector(server.url, waits, retries=2)("?") == "at last"
    assert waits == [1.0, 2.0]
    assert len(server.requests) == 3


def test_waits_double_up_to_half_a_minute():
    waits = []
    with serving((503, "")) as server, pytest.raises(ProposalError, match="after 8 tries"):
        reflector(server.url, waits, retries=7)("?")
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_final_and_names_model_address_and_tries(status):
    with serving((status, f"invalid key {KEY}")) as server:
        with pytest.raises(ProposalError) as caught:
            reflector(server.url, api_key_env="REFLECTION_KEY")("?")
        assert len(server.requests) == 1
    message = str(caught.value)
    assert f"small at {server.url} gave no answer after 1 try" in message
    assert str(status) in message


def test_nobody_is_followed_elsewhere():
    """The key would go there too."""
    with serving((302, "")) as server, pytest.raises(ProposalError, match="302 Found"):
        reflector(server.url, api_key_env="REFLECTION_KEY", retries=0)("?")


def test_a_slow_server_is_given_up():
    with serving(completion("late"), delay=1.0) as server:
        ask = reflector(server.url, timeout=0.1, retries=1)
        with pytest.raises(ProposalError, match=r"after 2 tries: (ReadTimeout|TimeoutError)"):
            ask("?")


def test_a_server_that_is_down_is_given_up():
    with serving(completion("")) as server:
        pass
    with pytest.raises(ProposalError, match="after 3 tries: ConnectError"):
        reflector(server.url)("?")


def test_no_secret_is_ever_shown(monkeypatch):
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", "another-secret")
    # The second one stands where the message is cut: not even its beginning may be left.
    body = f"\x1b[31m {KEY} {'x' * 66} another-secret see https://user:password@host/?token=hidden"
    with serving((200, body)) as server, pytest.raises(ProposalError) as caught:
        reflector(server.url, api_key_env="REFLECTION_KEY", retries=0)("?")
    message = str(caught.value)
    assert "no answer after 1 try: ValueError: expected a chat completion" in message
    for secret in (KEY, "another", "password", "hidden", "\x1b"):
        assert secret not in message


def test_what_a_python_function_raises_is_shown_without_addresses():
    def broken(prompt):
        raise ConnectionError("https://user:password@host/v1?token=hidden&x=1 refused")

    with pytest.raises(ProposalError, match=r"https://\*\*\*@host/v1\?\*\*\* refused"):
        make_reflector(ReflectionConfig(retries=0), reflect=broken)("?")


def test_a_key_is_in_no_answer_and_goes_to_no_server_in_a_prompt():
    """A server may echo its headers, and a verifier's error quote a key in its feedback."""
    with serving(completion(f"Say {KEY}.")) as server:
        ask = reflector(server.url, api_key_env="REFLECTION_KEY")
        assert ask(f"failed with {KEY}") == "Say ***."
    (request,) = server.requests
    assert request[2]["messages"] == [{"role": "user", "content": "failed with ***"}]


def test_a_reply_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr("fastslow.fast.llm.LARGEST_REPLY", 1000)
    with serving(completion("x" * 2000), completion("y")) as server:
        assert reflector(server.url, retries=1)("?") == "y"
    with serving(completion("x" * 2000)) as server:
        ask = reflector(server.url, retries=0)
        with pytest.raises(ProposalError, match="found more than 1000 bytes"):
            ask("?")


def test_a_reply_that_drips_is_given_up():
    with (
        serving(completion("slowly"), drip=0.05) as server,
        pytest.raises(ProposalError, match="TimeoutError: the reply did not end in time"),
    ):
        reflector(server.url, timeout=1.0, retries=0)("?")


@pytest.mark.skipif(find_spec("litellm") is None, reason="the extra is not installed")
def test_litellm_answers_for_names_of_providers(monkeypatch):
    with serving((500, f"bad {KEY}"), completion("through litellm")) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        config = ReflectionConfig(model="openai/small", api_key_env="REFLECTION_KEY", timeout=5.0)
        waits = []
        assert make_reflector(config, sleep=waits.append)("a prompt") == "through litellm"
    assert waits == [1.0]
    assert [key for _, key, _ in server.requests] == [f"Bearer {KEY}"] * 2
    with pytest.raises(InputError, match="'nobody', which is no litellm model"):
        make_reflector(ReflectionConfig(model="nobody"))


def test_without_litellm_its_names_are_an_input_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)  # as if it were not installed
    with pytest.raises(InputError, match="needs litellm"):
        make_reflector(ReflectionConfig(model="openai/small"))


def test_the_policy_can_reflect_and_its_failures_are_the_runs():
    config = ReflectionConfig(model="policy")
    assert make_reflector(config, ask_policy=str.upper)("prompt") == "PROMPT"

    def full_disk(prompt):
        raise RunError("full disk")

    with pytest.raises(RunError, match="full disk"):
        make_reflector(config, ask_policy=full_disk)("prompt")
    with pytest.raises(InputError, match="cannot be asked"):
        make_reflector(config)


def test_a_python_function_can_reflect():
    config = ReflectionConfig(model="mine", retries=1)
    assert make_reflector(config, reflect=str.upper)("prompt") == "PROMPT"
    for broken in (lambda prompt: 1 / 0, lambda prompt: None):
        with pytest.raises(ProposalError, match="the reflection function gave no answer after 2"):
            make_reflector(config, reflect=broken, sleep=lambda seconds: None)("prompt")


def test_a_key_that_is_not_set_is_an_input_error(monkeypatch):
    monkeypatch.delenv("REFLECTION_KEY")
    with pytest.raises(InputError, match="api_key_env names REFLECTION_KEY, which is not set"):
        reflector("http://127.0.0.1:1", api_key_env="REFLECTION_KEY")


def test_a_key_from_a_file_may_end_with_its_line_and_holds_no_other(monkeypatch):
    monkeypatch.setenv("REFLECTION_KEY", f"{KEY}\n")
    with serving((400, "")) as server, pytest.raises(ProposalError):
        reflector(server.url, api_key_env="REFLECTION_KEY")("?")
    assert server.requests[0][1] == f"Bearer {KEY}"
    monkeypatch.setenv("REFLECTION_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(InputError, match="whose value is no key") as caught:
        reflector(server.url, api_key_env="REFLECTION_KEY")
    assert KEY not in str(caught.value)


def test_a_phase_survives_a_dead_server(world, caplog):
    with serving(completion("")) as server:
        pass
    config = FastConfig(
        components=("instructions",),
        reflection=ReflectionConfig(model="small", url=server.url, retries=0),
    )
    optimizer = create(config, Tools(config, make_reflector(config.reflection)))
    evolution = optimizer.evolve(world(lambda _: 0.0).phase())
    assert evolution.population.contexts == (Context("Answer."),)
    assert evolution.failed_proposals == 2
    assert f"could not be had: small at {server.url} gave no answer after 1 try" in caplog.text


def test_the_factory_builds_what_the_configuration_names(world):
    config = FastConfig(
        population=2,
        components=("instructions", "demonstrations"),
        reflection=ReflectionConfig(model="policy"),
    )
    toy = world(lambda c: 0.1 + 0.4 * bool(c.demonstrations) + 0.4 * ("tags" in c.instructions))
    optimizer = create(config, Tools(config, lambda prompt: "```\nUse tags.\n```"))
    evolution = optimizer.evolve(toy.phase(anchors=24))
    assert {c.origin for c in evolution.candidates} >= {"seed", "reflection", "demonstrations"}
    assert len(evolution.population.candidates) == 2
    assert evolution.population.best.context.instructions == "Use tags."
    assert evolution.population.best.context.demonstrations
