"""Backends by the name that ``[policy] backend`` gives."""

from __future__ import annotations

from fastslow.plugins import Registry
from fastslow.policy.backend import BackendOpener

BACKENDS: Registry[BackendOpener] = Registry(
    "policy.backend",
    group="fastslow.backends",
    built_in={"local": "fastslow.policy.local.opening"},
)

backend = BACKENDS.register
"""``@backend("NAME")`` makes a class available as ``[policy] backend``."""
