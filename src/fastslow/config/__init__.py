"""The configuration of a run: pydantic models, read from TOML.

Every key that is not known is an error that suggests the nearest known one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastslow.lazy import lazy_names

if TYPE_CHECKING:
    from fastslow.config.base import Nats, NonNegative, Positive, Section, Seed, Size, SizeOrNone
    from fastslow.config.explain import shown, unknown_key, validate
    from fastslow.config.learners import (
        DemonstrationsConfig,
        FastConfig,
        LoraConfig,
        ReflectionConfig,
        SlowConfig,
    )
    from fastslow.config.overrides import apply_override, parse_value, split_override
    from fastslow.config.reading import load, parse, read_toml
    from fastslow.config.schema import (
        DEFAULT_INSTRUCTIONS,
        ContextConfig,
        DemonstrationConfig,
        EvalConfig,
        LogConfig,
        Method,
        PolicyConfig,
        RunConfig,
        ShareConfig,
        StageConfig,
        TaskConfig,
    )
    from fastslow.config.secrets import PROVIDER_KEYS, refuse_other_keys
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "fastslow.config.base": [
                "Nats",
                "NonNegative",
                "Positive",
                "Section",
                "Seed",
                "Size",
                "SizeOrNone",
            ],
            "fastslow.config.explain": ["shown", "unknown_key", "validate"],
            "fastslow.config.learners": [
                "DemonstrationsConfig",
                "FastConfig",
                "LoraConfig",
                "ReflectionConfig",
                "SlowConfig",
            ],
            "fastslow.config.overrides": ["apply_override", "parse_value", "split_override"],
            "fastslow.config.reading": ["load", "parse", "read_toml"],
            "fastslow.config.schema": [
                "DEFAULT_INSTRUCTIONS",
                "ContextConfig",
                "DemonstrationConfig",
                "EvalConfig",
                "LogConfig",
                "Method",
                "PolicyConfig",
                "RunConfig",
                "ShareConfig",
                "StageConfig",
                "TaskConfig",
            ],
            "fastslow.config.secrets": ["PROVIDER_KEYS", "refuse_other_keys"],
        },
    )

__all__ = [
    "DEFAULT_INSTRUCTIONS",
    "PROVIDER_KEYS",
    "ContextConfig",
    "DemonstrationConfig",
    "DemonstrationsConfig",
    "EvalConfig",
    "FastConfig",
    "LogConfig",
    "LoraConfig",
    "Method",
    "Nats",
    "NonNegative",
    "PolicyConfig",
    "Positive",
    "ReflectionConfig",
    "RunConfig",
    "Section",
    "Seed",
    "ShareConfig",
    "Size",
    "SizeOrNone",
    "SlowConfig",
    "StageConfig",
    "TaskConfig",
    "apply_override",
    "load",
    "parse",
    "parse_value",
    "read_toml",
    "refuse_other_keys",
    "shown",
    "split_override",
    "unknown_key",
    "validate",
]
