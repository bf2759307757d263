"""Print, per kind of pair, how many math-verify alone and this project's comparison get wrong.

    .venv/bin/python benchmarks/answers_table.py

Pairs are those beyond dispute in ``tests/cases/answers_cases.jsonl``; kinds in which neither errs
are summed in the last line.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

from math_verify import parse, verify

from fastslow.grading.equivalence import mismatch

CASES = Path(__file__).parents[1] / "tests" / "cases" / "answers_cases.jsonl"


def by_math_verify(answer: str, reference: str) -> bool:
    return bool(verify(parse(f"${reference}$"), parse(f"${answer}$")))


def main() -> None:
    logging.disable(logging.CRITICAL)
    total, theirs, ours = Counter[str](), Counter[str](), Counter[str]()
    for line in CASES.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        if pair["policy"]:
            continue
        kind, sides = pair["kind"], (pair["answer"], pair["reference"])
        total[kind] += 1
        theirs[kind] += by_math_verify(*sides) is not pair["right"]
        ours[kind] += (mismatch(*sides) is None) is not pair["right"]
    print(f"{'kind':40} {'pairs':>6} {'math-verify':>12} {'fastslow':>9}")
    for kind in sorted(total):
        if theirs[kind] or ours[kind]:
            print(f"{kind:40} {total[kind]:6} {theirs[kind]:12} {ours[kind]:9}")
    print(f"{'all':40} {total.total():6} {theirs.total():12} {ours.total():9}")


if __name__ == "__main__":
    main()
