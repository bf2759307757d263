"""Backends by the name that ``[policy] backend`` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastslow.plugins import Registry
from fastslow.policy.backend import BackendOpener

BACKENDS: Registry[BackendOpener] = Registry(
    "policy.backend",
    group="fastslow.backends",
    built_in={"local": "fastslow.policy.local.opening"},
)

Opener = TypeVar("Opener", bound="type[BackendOpener]")


def backend(name: str) -> Callable[[Opener], Opener]:
    """Make a class available as ``[policy] backend``."""

    def decorate(opener: Opener) -> Opener:
        BACKENDS.add(name, opener)
        return opener

    return decorate
