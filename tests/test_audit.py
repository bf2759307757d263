"""What the audit of the pinned packages says of what pip-audit found, or could not find."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def audit() -> ModuleType:
    path = Path(__file__).parents[1] / "tools" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, **known: list[str]) -> dict[str, Any]:
    vulns = [{"id": id, "fix_versions": fixes} for id, fixes in known.items()]
    return {"name": name, "version": "1.0", "vulns": vulns}


@pytest.mark.parametrize(
    ("report", "code", "said"),
    [
        ("no index", 0, ["nothing was audited: no index"]),
        ({"dependencies": [package("a")]}, 0, ["1 packages looked up, 0 unknown", "0 known"]),
        (
            {"dependencies": [package("a", X1=["1.1", "2.0"]), {"name": "b", "skip_reason": "?"}]},
            1,
            ["1 packages looked up, 1 unknown", "1 known", "a 1.0: X1, mended in 1.1, 2.0"],
        ),
        ({"dependencies": [package("a", X1=[])]}, 0, ["1 known", "a 1.0: X1, not mended yet"]),
    ],
)
def test_it_fails_only_over_what_can_be_mended(
    report: Any,
    code: int,
    said: list[str],
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "ask", lambda *_: report)
    assert audit.main(audit.PINNED) == code
    shown = capsys.readouterr().out
    assert all(part in shown for part in said)
