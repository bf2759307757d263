"""The reflection model: a prompt in, an answer out, whatever stands behind it.

Never raises but ``ProposalError`` for a model that is down, slow or talks nonsense. A signal that
stops the run ends a request. The run's keys reach neither a message nor an answer, which may quote
them, nor a prompt.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from fastslow.config import ReflectionConfig
from fastslow.errors import FastslowError, InputError
from fastslow.fast.client import Client, ExchangeError
from fastslow.fast.proposer import ProposalError
from fastslow.interruption import waiting
from fastslow.redaction import redact, redact_addresses
from fastslow.text import one_line

log = logging.getLogger("fastslow.fast")

Ask = Callable[[str], str]
"""A prompt in, the text of the answer out."""

LONGEST_WAIT = 30.0
"""Seconds between two tries, at most: waits double from one second on."""

LARGEST_REPLY = 2**22
"""Raw bytes of a server's reply, at most, headers included. No instructions are as long."""

_WORTH_ANOTHER_TRY = {408, 409, 425, 429}
"""The statuses from 300 to 499 that say "later", not "never"."""

_MAX_SHOWN = 500
"""Characters of a message, at most."""


@dataclass(frozen=True)
class Reflector:
    """The reflection model of a run. It takes the run's keys out of a prompt and passes it on.

    Attributes:
        ask: answers a prompt that holds no key. A run that writes prompts and answers down does so
            around this, so that what is written is what was sent.
        key_names: environment variables that hold keys, beside those whose names tell.
    """

    ask: Ask
    key_names: tuple[str, ...] = ()

    def __call__(self, prompt: str) -> str:
        return self.ask(redact(prompt, *self.key_names))


def make_reflector(
    config: ReflectionConfig,
    ask_policy: Ask | None = None,
    reflect: Ask | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Reflector:
    """The reflection model of a configuration.

    Args:
        config: ``[fast.reflection]``. With ``url``, ``model`` is asked for at that
            OpenAI-compatible server; "policy" is the policy itself; else it is a litellm name.
        ask_policy: answers a prompt by the policy. What it raises is not caught.
        reflect: a Python function that takes the place of the model.
        sleep: waits between tries, in seconds.

    Raises:
        InputError: for a model or key that cannot be had. The reflector returned raises
            ``ProposalError`` if there is no answer after all tries.
    """
    return Reflector(_asker(config, ask_policy, reflect, sleep), _key_names(config))


def _asker(
    config: ReflectionConfig,
    ask_policy: Ask | None,
    reflect: Ask | None,
    sleep: Callable[[float], None],
) -> Ask:
    if reflect is not None:
        return _patient("the reflection function", reflect, config, sleep)
    if config.model is None:
        raise InputError(
            'fast.reflection.model is not set: give a litellm name, "policy" or "python"'
        )
    if config.model == "python":
        raise InputError(
            'fast.reflection.model is "python", a function that only Python can give: call '
            "fastslow.train or fastslow.resume with reflect=function"
        )
    if config.url is not None:
        return _patient(f"{config.model} at {config.url}", _server(config), config, sleep)
    if config.model == "policy":
        if ask_policy is None:
            raise InputError(
                'fast.reflection.model is "policy", but the policy of this run cannot be asked: '
                "name a litellm model instead"
            )
        return ask_policy
    return _patient(config.model, _litellm(config), config, sleep)


def _patient(
    name: str,
    ask: Callable[[str], object],
    config: ReflectionConfig,
    sleep: Callable[[float], None],
) -> Ask:
    """``ask`` with tries and exponential backoff; every failure ends as a ``ProposalError``."""

    def patient(prompt: str) -> str:
        tries = 0
        while True:
            try:
                with waiting():
                    answer = ask(prompt)
                if isinstance(answer, str):
                    return redact(answer, *_key_names(config))
                raise TypeError(f"expected a text as answer, found {type(answer).__name__}")
            except FastslowError:
                raise
            except Exception as error:
                tries += 1
                if tries > config.retries or _is_final(error):
                    count = f"{tries} {'try' if tries == 1 else 'tries'}"
                    message = f"{name} gave no answer after {count}: {_reason(error, config)}"
                    raise ProposalError(_fit_to_show(message, config)) from None
            with waiting():
                sleep(min(2.0 ** (tries - 1), LONGEST_WAIT))

    return patient


def _reason(error: Exception, config: ReflectionConfig) -> str:
    if not isinstance(error, ExchangeError):
        return f"{type(error).__name__}: {error}"
    if error.is_cut_off:
        return f"{error.words}: raise fast.reflection.max_tokens, which is {config.max_tokens}"
    return str(error)


def _is_final(error: Exception) -> bool:
    """Whether asking again is of no use: the server understood and refused, or sent the request
    elsewhere, or the answer takes more tokens than it may."""
    if not isinstance(error, ExchangeError):
        return False
    status = error.status or 0
    return error.is_cut_off or (300 <= status < 500 and status not in _WORTH_ANOTHER_TRY)


@dataclass(frozen=True)
class Parameters:
    """What a request says beside its messages. Some models refuse some of it.

    Attributes:
        max_tokens_key: what the limit on tokens is called, or None to leave it out.
        sends_temperature: whether the temperature is given.
    """

    max_tokens_key: str | None
    sends_temperature: bool

    @classmethod
    def of(cls, config: ReflectionConfig) -> Parameters:
        """What to begin with."""
        key = {"auto": "max_tokens", "none": None}.get(config.max_tokens_key, config.max_tokens_key)
        return cls(key, config.temperature != "default")

    def values(self, config: ReflectionConfig) -> dict[str, Any]:
        """By their names in a request."""
        return {
            **({"temperature": config.temperature} if self.sends_temperature else {}),
            **({self.max_tokens_key: config.max_tokens} if self.max_tokens_key else {}),
        }

    def without_refused(self, error: ExchangeError, config: ReflectionConfig) -> Parameters | None:
        """What to send instead, if the server names a parameter that it refuses; else None."""
        if error.status not in (400, 422):
            return None
        words = error.words.lower()
        names_limit = "max_tokens" in words or "max_completion_tokens" in words
        may_rename = config.max_tokens_key == "auto" and self.max_tokens_key == "max_tokens"
        if names_limit and may_rename:
            return replace(self, max_tokens_key="max_completion_tokens")
        if "temperature" in words and self.sends_temperature:
            return replace(self, sends_temperature=False)
        return None


def _adapting(
    ask: Callable[[dict[str, Any]], str], config: ReflectionConfig
) -> Callable[[str], str]:
    """Asks with the parameters that the server takes, and remembers which those are.

    Args:
        ask: sends a request of messages and parameters. Raises: ExchangeError.
        config: where the parameters come from.
    """
    accepted = Parameters.of(config)

    def adapting(prompt: str) -> str:
        nonlocal accepted
        parameters, messages = accepted, [{"role": "user", "content": prompt}]
        while True:
            request = {"model": config.model, "messages": messages, **parameters.values(config)}
            try:
                answer = ask(request)
            except ExchangeError as error:
                changed = parameters.without_refused(error, config)
                if changed is None:
                    raise
                sent = ", ".join(changed.values(config)) or "neither temperature nor max_tokens"
                refused = f"{config.model} refuses a parameter ({error}): asked with {sent} instead"
                log.warning("%s", _fit_to_show(refused, config))
                parameters = changed
            else:
                accepted = parameters
                return answer

    return adapting


def _server(config: ReflectionConfig) -> Callable[[str], str]:
    """An OpenAI-compatible server. Asked directly: litellm takes seconds to import."""
    url = f"{str(config.url).rstrip('/')}/chat/completions"
    key = _key(config)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    client = _started(Client())

    def ask(request: dict[str, Any]) -> str:
        job = {"url": url, "headers": headers, "body": request}
        return client.ask(job, config.timeout, LARGEST_REPLY)

    return _adapting(ask, config)


def _litellm(config: ReflectionConfig) -> Callable[[str], str]:
    """Any provider that litellm knows; keys come from the provider's own environment variables."""
    if find_spec("litellm") is None:
        raise InputError(
            f"fast.reflection.model is {config.model!r}, which needs litellm: "
            "pip install 'fastslow[reflection]'"
        )
    key = _key(config)
    client = _started(Client("litellm"))
    try:
        client.ask({"model": config.model}, 10.0, LARGEST_REPLY)
    except ExchangeError as error:
        if error.status is None:
            raise InputError(f"fast.reflection.model is {config.model!r}: {error}") from None
        raise InputError(
            f"fast.reflection.model is {config.model!r}, which is no litellm model. Allowed: "
            '"policy", a litellm name such as "openai/gpt-4o-mini", or any name together with url'
        ) from None

    def ask(request: dict[str, Any]) -> str:
        job = {"litellm": {**request, "api_key": key}}
        return client.ask(job, config.timeout, LARGEST_REPLY)

    return _adapting(ask, config)


def _started(client: Client) -> Client:
    """Raises: InputError."""
    try:
        client.start()
    except ExchangeError as error:
        raise InputError(f"fast.reflection: no process can be started to ask: {error}") from None
    return client


def _key(config: ReflectionConfig) -> str | None:
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise InputError(
            f"fast.reflection.api_key_env names {config.api_key_env}, which is not set: "
            "export it, or remove the key from the configuration"
        )
    if not (key.isascii() and key.isprintable()):  # no header can say it, and errors would spell it
        raise InputError(
            f"fast.reflection.api_key_env names {config.api_key_env}, whose value is no key: it "
            "holds line ends or other characters that keys do not have"
        )
    return key


def _key_names(config: ReflectionConfig) -> tuple[str, ...]:
    return (config.api_key_env,) if config.api_key_env else ()


def _fit_to_show(message: str, config: ReflectionConfig) -> str:
    """One line of at most ``_MAX_SHOWN`` characters, without keys, which servers like to quote."""
    # Redacted before it is cut, which could leave half of a key.
    return one_line(redact_addresses(redact(message, *_key_names(config))))[:_MAX_SHOWN]
