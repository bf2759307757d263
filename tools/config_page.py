"""Writes docs/config.md from the tables of the configuration. Run by ``make docs``."""

from __future__ import annotations

from pathlib import Path

from fastslow.keys import keys, markdown

if __name__ == "__main__":
    page = Path(__file__).parents[1] / "docs" / "config.md"
    page.write_text(markdown(keys()), encoding="utf-8")
