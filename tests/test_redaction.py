import pytest

from fastslow.redaction import redact, redact_addresses, secrets


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in secrets():
        monkeypatch.delenv(name)
    for name, value in {
        "OPENAI_API_KEY": " sk-0123456789\n",
        "HF_TOKEN": "hf_abcdefgh",
        "hf_token_read": "hf_abcdefgh-and-more",
        "DB_PASSWORD": "short",
        "MAX_TOKENS": "100000000",
        "TOKENIZERS_PARALLELISM": "falsefalse",
        "PLAIN": "plain-value",
    }.items():
        monkeypatch.setenv(name, value)


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    assert set(secrets()) == {"OPENAI_API_KEY", "HF_TOKEN", "hf_token_read"}
    assert set(secrets("PLAIN", "NOT_SET")) - set(secrets()) == {"PLAIN"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bearer sk-0123456789.", "Bearer ***."),
        ("sk-0123456789sk-0123456789", "******"),
        ("hf_abcdefgh-and-more", "***"),  # not one secret in it and the rest of the other
        ("100000000 falsefalse plain-value short", "100000000 falsefalse plain-value short"),
    ],
)
def test_their_values_are_replaced(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_further_variables_can_be_named() -> None:
    assert redact("plain-value", "PLAIN") == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://user:pass@host:80/v1", "at http://***@host:80/v1"),
        ("'https://host/v1?key=abc&x=1' failed", "'https://host/v1?***' failed"),
        ("mail a@b.org? http://host/v1", "mail a@b.org? http://host/v1"),
        ("http://" * 300_000, "http://" * 300_000),  # in no time
    ],
)
def test_addresses_lose_what_may_be_secret(text: str, shown: str) -> None:
    assert redact_addresses(text) == shown
