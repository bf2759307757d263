"""Looks the pinned packages up among the known vulnerabilities, with pip-audit.

    .venv/bin/python tools/audit.py [REQUIREMENTS]

pip-audit and what it needs come into an environment of their own, which is thrown away. Where the
package index or the service that knows the vulnerabilities does not answer, nothing was audited: it
says so, and does not fail. It fails (exit code 1) if a newer version of a package would mend one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

PINNED = Path(__file__).parents[1] / "constraints.txt"
PATIENCE = 60.0
"""Seconds that the installation, and then the audit, may take."""


def main(requirements: Path) -> int:
    """Audit, tell of it, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="fastslow-audit-") as folder:
        report = ask(Path(folder), requirements)
    if isinstance(report, str):
        print(f"audit: nothing was audited: {report}")
        return 0
    found = vulnerabilities(report)
    unknown = [package for package in report["dependencies"] if "skip_reason" in package]
    print(
        f"audit: {len(report['dependencies']) - len(unknown)} packages looked up, "
        f"{len(unknown)} unknown to the service, {len(found)} known vulnerabilities"
    )
    for line, _ in found:
        print(f"  {line}")
    return int(any(mended for _, mended in found))


def ask(folder: Path, requirements: Path) -> dict[str, Any] | str:
    """pip-audit's report, or why there is none. Uses ``folder`` for its environment."""
    python = folder / "bin" / "python"
    venv.create(folder, with_pip=True)
    install = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    tried = _run([*install, "--retries", "1", "--timeout", "15", "pip-audit>=2.7"])
    if tried.returncode:
        return f"pip-audit could not be installed: {_last_line(tried.stderr)}"
    # Pinned completely, so there is nothing to resolve and nothing is downloaded or built.
    audit = [python, "-m", "pip_audit", "--no-deps", "--disable-pip", "--requirement", requirements]
    tried = _run([*audit, "--format", "json", "--progress-spinner", "off", "--timeout", "15"])
    try:
        report: dict[str, Any] = json.loads(tried.stdout)
    except ValueError:
        return f"the service did not answer: {_last_line(tried.stderr)}"
    return report


def vulnerabilities(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """A line for each vulnerability in pip-audit's report, and whether a newer version mends it."""
    found = []
    for package in report["dependencies"]:
        for known in package.get("vulns", ()):
            mended = ", ".join(known["fix_versions"])
            ending = f"mended in {mended}" if mended else "not mended yet"
            found.append(
                (f"{package['name']} {package['version']}: {known['id']}, {ending}", bool(mended))
            )
    return found


def _run(command: list[Any]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {PATIENCE:g} s")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PINNED))
