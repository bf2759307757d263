"""Secrets stay out of configurations, which are copied into the folders of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastslow.config.overrides import apply_override
from fastslow.config.schema import RunConfig
from fastslow.errors import InputError
from fastslow.redaction import by_form, redact, secrets

_PROVIDERS = (
    "AI21", "ANTHROPIC", "AZURE", "AZURE_AI", "AZURE_OPENAI", "CEREBRAS", "CLARIFAI",
    "CODESTRAL", "COHERE", "DASHSCOPE", "DATABRICKS", "DEEPINFRA", "DEEPSEEK", "FIREWORKS",
    "FIREWORKS_AI", "GEMINI", "GOOGLE", "GROQ", "HOSTED_VLLM", "HUGGINGFACE", "LITELLM",
    "LITELLM_PROXY", "MINIMAX", "MISTRAL", "MOONSHOT", "NEBIUS", "NOVITA", "NVIDIA",
    "NVIDIA_NIM", "OPENAI", "OPENROUTER", "PERPLEXITY", "PERPLEXITYAI", "REPLICATE",
    "SAMBANOVA", "TOGETHER", "TOGETHERAI", "TOGETHER_AI", "VLLM", "VOLCENGINE", "VOYAGE",
    "WATSONX", "XAI", "ZAI",
)  # fmt: skip

PROVIDER_KEYS = frozenset({"HF_TOKEN", *(f"{name}_API_KEY" for name in _PROVIDERS)})
"""Environment variables that hold keys of providers of language models, and nothing else."""


def refuse_other_keys(config: RunConfig, overrides: Iterable[str], source: str) -> None:
    """See that a configuration sends no secret of yours to the server that it names.

    ``fast.reflection.api_key_env`` may name a variable of ``PROVIDER_KEYS``, or one that an
    override names as well. Raises: InputError.
    """
    name = config.fast.reflection.api_key_env
    given: dict[str, Any] = {}
    for override in overrides:
        if override.partition("=")[0].strip() == "fast.reflection.api_key_env":
            apply_override(given, override)
    named = given["fast"]["reflection"]["api_key_env"] if given else None
    if name is not None and name != named and name not in PROVIDER_KEYS:
        raise InputError(
            f"{source}: fast.reflection.api_key_env: names {name}, whose value would be sent to "
            "the reflection server. It is not one of the variables that only hold a key for such "
            "a server (OPENAI_API_KEY, ANTHROPIC_API_KEY and the like). If that is what you want, "
            f"say so: --set fast.reflection.api_key_env={name}"
        )


def refuse_secrets(data: Any, source: str) -> None:
    """Raises: InputError, if a text in ``data`` holds a secret of the environment, as it does after
    a shell has expanded one in an override."""
    known = secrets()
    for key, text in _texts(data):
        if by_form(text) != text:
            raise InputError(
                f"{source}: {by_form(key)}: holds what has the form of a key or of a password in "
                "an address, and the configuration is copied into the run's folder: have what "
                "needs it read an environment variable, or give the name of one where that is "
                "asked for (api_key_env)"
            )
        for name, secret in known.items():
            if secret in text:
                raise InputError(
                    f"{source}: {redact(key)}: holds the value of the environment variable {name}, "
                    "and the configuration is copied into the run's folder: have what needs it "
                    "read the variable, or give its name where that is asked for (api_key_env)"
                )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested tables and lists, names of keys too, with its key."""
    if isinstance(value, str):
        yield key, value
    parts = value.items() if isinstance(value, dict) else ()
    for part, _ in parts:
        yield f"{key}.{part}" if key else str(part), str(part)
    for part, item in enumerate(value) if isinstance(value, list) else parts:
        yield from _texts(item, f"{key}.{part}" if key else str(part))
