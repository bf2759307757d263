"""The tables of ``words.toml``: characters, commands, rules of notation, units and other words."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

WORDS: dict[str, Any] = tomllib.loads(
    files("fastslow.grading").joinpath("words.toml").read_text(encoding="utf-8")
)
