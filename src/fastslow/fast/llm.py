"""The client of the reflection model: a prompt in, an answer out, whatever stands behind it.

Never raises but ``ProposalError`` for a model that is down, slow or talks nonsense. A signal that
stops the run breaks off a request. The run's keys reach neither a message nor an answer, which may
quote them, nor a prompt.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastslow.config import ReflectionConfig
from fastslow.errors import FastslowError, InputError
from fastslow.fast.proposer import ProposalError
from fastslow.interruption import waiting
from fastslow.redaction import redact, redact_addresses

if TYPE_CHECKING:
    import httpx

Ask = Callable[[str], str]
"""A prompt in, the text of the answer out."""

LONGEST_WAIT = 30.0
"""Seconds between two tries, at most: waits double from one second on."""

LARGEST_REPLY = 2**22
"""Bytes of a server's reply, at most. No instructions are as long."""

_WORTH_ANOTHER_TRY = {408, 409, 425, 429}
"""The statuses from 400 to 499 that say "later", not "never"."""


def make_reflector(
    config: ReflectionConfig,
    ask_policy: Ask | None = None,
    reflect: Ask | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Ask:
    """The reflection model of a configuration.

    Args:
        config: ``[fast.reflection]``. With ``url``, ``model`` is asked for at that
            OpenAI-compatible server; "policy" is the policy itself; else it is a litellm name.
        ask_policy: answers a prompt by the policy. What it raises is not caught.
        reflect: a Python function that takes the place of the model.
        sleep: waits between tries, in seconds.

    Raises:
        InputError: for a model or key that cannot be had. The function returned raises
            ``ProposalError`` if there is no answer after all tries.
    """
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
        prompt, tries = _without_keys(prompt, config), 0
        while True:
            try:
                with waiting():
                    answer = ask(prompt)
                if isinstance(answer, str):
                    return _without_keys(answer, config)
                raise TypeError(f"expected a text as answer, found {type(answer).__name__}")
            except FastslowError:
                raise
            except Exception as error:
                tries += 1
                if tries > config.retries or _is_final(error):
                    count = f"{tries} {'try' if tries == 1 else 'tries'}"
                    reason = f"{type(error).__name__}: {error}"
                    message = f"{name} gave no answer after {count}: {reason}"
                    raise ProposalError(_fit_to_show(message, config)) from None
            with waiting():
                sleep(min(2.0 ** (tries - 1), LONGEST_WAIT))

    return patient


def _is_final(error: Exception) -> bool:
    """Whether the server understood and refused, so that asking again is of no use."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in _WORTH_ANOTHER_TRY


def _server(config: ReflectionConfig) -> Callable[[str], object]:
    """An OpenAI-compatible server. Asked directly: litellm takes seconds to import."""
    import httpx

    url = f"{str(config.url).rstrip('/')}/chat/completions"
    key = _key(config)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def ask(prompt: str) -> object:
        body = {
            "model": config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
        }
        started = time.monotonic()
        with httpx.stream("POST", url, json=body, headers=headers, timeout=config.timeout) as reply:
            reply.raise_for_status()
            content = _read(reply, started + config.timeout)
        try:
            return json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            # Without its secrets before it is cut, which could leave half of one.
            found = _fit_to_show(content.decode("utf-8", "replace"), config)[:100]
            raise ValueError(f"expected a chat completion, found {found!r}") from None

    return ask


def _read(reply: httpx.Response, deadline: float) -> bytes:
    """The body of a reply. A server that drips or pours without end is left."""
    content = bytearray()
    for chunk in reply.iter_bytes():
        content += chunk
        if len(content) > LARGEST_REPLY:
            raise ValueError(f"expected a chat completion, found more than {LARGEST_REPLY} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the reply did not end in time")
    return bytes(content)


def _litellm(config: ReflectionConfig) -> Callable[[str], object]:
    """Any provider that litellm knows; keys come from the provider's own environment variables."""
    # Read by litellm when it is imported: keeps the import from fetching a price list.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError:
        raise InputError(
            f"fast.reflection.model is {config.model!r}, which needs litellm: "
            "pip install 'fastslow[reflection]'"
        ) from None
    litellm.suppress_debug_info = True  # its advice would go to standard output
    key = _key(config)
    try:
        litellm.get_llm_provider(config.model)
    except litellm.exceptions.BadRequestError:
        raise InputError(
            f"fast.reflection.model is {config.model!r}, which is no litellm model. Allowed: "
            '"policy", a litellm name such as "openai/gpt-4o-mini", or any name together with url'
        ) from None

    def ask(prompt: str) -> object:
        reply = litellm.completion(
            model=config.model,
            messages=[{"role": "user", "content": prompt}],
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            timeout=config.timeout,
            api_key=key,
            max_retries=0,
            drop_params=True,
        )
        return reply.choices[0].message.content

    return ask


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


def _without_keys(text: str, config: ReflectionConfig) -> str:
    return redact(text, *([config.api_key_env] if config.api_key_env else []))


def _fit_to_show(message: str, config: ReflectionConfig) -> str:
    """One line of at most 500 characters. Servers like to quote the key they refuse."""
    return " ".join(redact_addresses(_without_keys(message, config)).split())[:500]
