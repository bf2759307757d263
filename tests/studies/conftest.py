"""Evidence made of runs that were written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from study_setups import BASE, STAGES, setup_of

from fastslow.run.record import Row, read_run
from fastslow.studies.study import Evidence


@pytest.fixture
def evidence(write_run: Callable[..., Any]) -> Callable[..., Evidence[Any]]:
    """Evidence of the study ``name``, from metrics by (role, seed).

    The method of a role is the last word in it that names one, as in "rl -> fast".
    """

    def make(
        name: str,
        metrics: Mapping[tuple[str, int], Sequence[Row]],
        evaluated: Sequence[Row] = (),
        **settings: Any,
    ) -> Evidence[Any]:
        changes = STAGES if name == "continual" else {}
        runs = {}
        for (role, seed), rows in metrics.items():
            methods = [w for w in role.split() if w in ("rl", "fst", "fast", "distill")]
            method = methods[-1] if methods else "fst"
            folder = write_run(
                f"{role} {seed}", rows, approach=method, **{**BASE, **changes, "seed": seed}
            )
            runs[role, seed] = read_run(folder)
        return Evidence(setup_of(name, **settings), runs, evaluated)

    return make
