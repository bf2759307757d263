from __future__ import annotations

import copy
from typing import Any

import pytest

from fastslow import config as configuration
from fastslow.errors import InputError
from fastslow.run.changes import MAY_CHANGE, refuse_changes

SINGLE: dict[str, Any] = {"model": "m", "steps": 8, "task": {"name": "star_graph", "d": 2}}
STAGED: dict[str, Any] = {
    "model": "m",
    "stages": [
        {"steps": 4, "task": {"name": "star_graph"}},
        {"steps": 4, "mix": [{"task": {"name": "star_graph", "d": 3}, "weight": 1.0}]},
    ],
}


def refused(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    try:
        refuse_changes(configuration.parse(before), configuration.parse(after), "config.toml")
    except InputError as error:
        return str(error).splitlines()
    return []


def changed(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(data)
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    table: Any = data
    for part in path:
        table = table[part] if isinstance(part, int) else table.setdefault(part, {})
    table[last] = value
    return data


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 9),
        ("name", "other"),
        ("log.folder", "elsewhere"),
        ("log.keep", 7),
        ("log.checkpoint_every", 1),
        ("slow.max_skipped", 9),
        ("slow.mismatch_error", float("inf")),
        ("slow.tokens_per_pass", 128),
        ("policy.device", "cpu"),
        ("policy.kv_memory", 1.0),
        ("fast.reflection.timeout", 3.0),
    ],
)
def test_some_keys_may_change(key: str, value: Any) -> None:
    assert not refused(SINGLE, changed(SINGLE, key, value))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("steps", 7, "steps: the run was trained with 8; found 7"),
        ("seed", 1, "seed: the run was trained with 0; found 1"),
        ("model", "n", "model: the run was trained with 'm'; found 'n'"),
        ("method", "rl", "method: the run was trained with 'fst'; found 'rl'"),
        ("task.d", 3, "task.d: the run was trained with 2; found 3"),
        ("task.l", 3, "task.l: the run was trained with nothing; found 3"),
        ("slow.betas", [0.8, 0.999], "slow.betas.0: the run was trained with 0.9; found 0.8"),
        ("fast.reflection.model", "n", "fast.reflection.model: the run was trained with nothing"),
        ("policy.dtype", "bfloat16", "policy.dtype: the run was trained with 'float32'"),
        ("eval.problems", 65, "eval.problems: the run was trained with 64; found 65"),
        ("slow.lora", {"rank": 2}, "slow.lora.rank: the run was trained with nothing; found 2"),
    ],
)
def test_all_others_are_named(key: str, value: Any, told: str) -> None:
    lines = refused(SINGLE, changed(SINGLE, key, value))
    assert any(line.startswith(f"config.toml: {told}") for line in lines)
    assert all(free in lines[-1] for free in ("steps (to more)", *MAY_CHANGE))


@pytest.mark.parametrize(
    ("key", "value", "may"),
    [
        ("stages.1.steps", 5, True),
        ("stages.1.steps", 3, False),
        ("stages.0.steps", 5, False),
        ("stages.1.mix.0.weight", 2.0, False),
        ("stages.1.mix.0.task.d", 2, False),
    ],
)
def test_the_last_stage_alone_may_become_longer(key: str, value: Any, may: bool) -> None:
    lines = refused(STAGED, changed(STAGED, key, value))
    assert (not lines) == may
    assert may or lines[0].startswith(f"config.toml: {key}: the run was trained")


def test_stages_are_neither_added_nor_removed() -> None:
    longer = {**STAGED, "stages": [*STAGED["stages"], {"steps": 1, "task": {"name": "star_graph"}}]}
    for before, after in ((STAGED, longer), (longer, STAGED), (SINGLE, STAGED), (STAGED, SINGLE)):
        assert refused(before, after)


def test_every_key_that_may_change_is_one() -> None:
    """A key that was renamed must not stay in the list under its old name."""
    for key in MAY_CHANGE:
        model: Any = configuration.RunConfig
        for part in key.split("."):
            assert part in model.model_fields
            model = model.model_fields[part].annotation
