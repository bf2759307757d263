import time

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


HIDDEN = r"""
Authorization:Basic x
Authorization:Basic SECRET
authorization: basic SECRET
"Authorization": "Basic SECRET"
'Authorization': 'Bearer SECRET'
{'Authorization': b'Basic SECRET'}
(b'Authorization', b'Basic SECRET')
[["authorization", "Basic SECRET"]]
\"Authorization\": \"Basic SECRET\"
Authorization: Token SECRET
Authorization: Token token=SECRET
Authorization: token SECRET failed
Authorization: Digest username="SECRET", realm="SECRET", nonce="SECRET", uri="/x", response="SECRET"
'Authorization': 'Digest username="SECRET", response="SECRET"'
Authorization: Digest username=SECRET,response=SECRET
Proxy-Authorization: Basic SECRET
Authorization=Bearer SECRET
Authorization: SECRETSECRET1
Authorization: AWS4-HMAC-SHA256 Credential=SECRET/x, SignedHeaders=SECRET, Signature=SECRET
Authorization: Custom SECRET12
X-API-Key: SECRET
x-api-key:SECRET
"X-API-Key": "SECRET"
api-key: SECRET
'api-key': 'SECRET'
X-Auth-Token: SECRET
x-goog-api-key: SECRET
X-Amz-Security-Token: SECRET
PRIVATE-TOKEN: SECRET
X-Vault-Token: SECRET
Ocp-Apim-Subscription-Key: SECRET
X-CSRF-Token: SECRET
api_key=SECRET12
api_key='SECRET'
"api_key": "SECRET"
apikey: SECRET123
X-Hub-Signature: SECRET
Cookie: sid=SECRET
Cookie: a=SECRET; b=SECRET
cookie: a="SECRET"; b=SECRET
Set-Cookie: sid=SECRET; Path=/; HttpOnly; token=SECRET
'Set-Cookie': 'sid=SECRET; Path=/'
"cookie": "SECRET"
https://host/v1?key=SECRET
https://host/v1?a=1&api_key=SECRET&b=2
https://host/b?sv=1&sig=SECRET
https://host/#access_token=SECRET
https://host/#state=1&access_token=SECRET
/v1/models?key=SECRET HTTP/1.1
https://h/?X-Amz-Signature=SECRET&X-Amz-Credential=SECRET
https://h/?a=1&amp;sig=SECRET
https://h/?token=SECRET
https://SECRET@host
https://SECRET@host/x.git
git+https://SECRET@host/x.git
http://SECRET@host
HTTPS://SECRET@host
redis://:SECRET@host
postgres://u:SECRET@host
ftp://a:SE@CRETSECRET@c
curl -H 'X-API-Key: SECRET' -H "Authorization: Bearer SECRET" https://x
send: b'POST /\r\nAuthorization: Basic SECRET\r\nAccept: x'
Basic dTpw
Basic dXNlcjpwYXNz
Basic dXNlcjpwYXNzMQ==
Bearer abc123def456
Bearer aBcDeFgHiJkLmN
"""
"""Texts in which SECRET, or all behind the first word, is a secret."""

SHOWN = """
Basic mathematics-123
Basic mathematics-123 and Basic arithmetic
Basic arithmetic1234
Basic skills
the basic idea2000 is
bearer of news
Bearer authentication is required
a cookie: sweet and round
Cookie: 2 cups of sugar
Authorization is required
Authorization: required
Authorization: check the permissions
config.toml: fast.reflection.api_key: unknown key; did you mean api_key_env?
fast.reflection.api_key_env=OPENAI_API_KEY
mail a@b.org? http://host/v1
ssh://git@github.com/x
https://host/v1?x=1&y=2
What is x?y=5
key: 5 and token: 6
monkey=banana1
?monkey=banana
the answer is: http://a/b @c
max_tokens_key: 5
api key: the name of
tokens_per_pass=4096
x-axis key: red
"""


@pytest.mark.parametrize("text", HIDDEN.strip().splitlines())
def test_headers_addresses_and_queries_lose_their_secrets(text: str) -> None:
    shown = redact(text)
    assert "***" in shown
    assert "SECRET" not in shown


@pytest.mark.parametrize("text", SHOWN.strip().splitlines())
def test_prose_and_names_of_keys_stay(text: str) -> None:
    assert redact(text) == text


def test_what_is_not_secret_stays_beside_it() -> None:
    text = "curl -H 'X-API-Key: abc' -H \"Authorization: Bearer def\" https://h/v1?key=g&x=1"
    shown = "curl -H 'X-API-Key: ***' -H \"Authorization: Bearer ***\" https://h/v1?key=***&x=1"
    assert redact(text) == shown


@pytest.mark.parametrize(
    "part",
    [
        "Basic ",
        "eyJ-",
        "x-",
        "x-a-",
        "Authorization: ",
        "api_key=",
        "api-key",
        'a=",',
        "; a=",
        "?a=",
        "&key",
        "://",
        "://a:",
        "https://a",
        "'Authorization': '",
        "sk-",
        "-----BEGIN",
        "A",
    ],
)
def test_a_long_text_is_read_in_linear_time(part: str) -> None:
    start = time.process_time()
    redact("Authorization: Digest " + part * (900_000 // len(part)))
    assert time.process_time() - start < 20  # measured: 3 at most; quadratic time would be minutes
