from __future__ import annotations

import datetime
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fastslow import config as configuration
from fastslow.config import RunConfig, TaskConfig
from fastslow.errors import InputError
from fastslow.run.toml import to_toml

TASK = {"name": "chain_sum"}
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
options = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words.filter(lambda w: w != "name"), inner, max_size=3)
    ),
    max_leaves=6,
)


def read_back(text: str, folder: Path) -> RunConfig:
    path = folder / "config.toml"
    path.write_bytes(text.encode("utf-8"))
    return configuration.load(path)


@given(
    instructions=words,
    turns=st.lists(st.fixed_dictionaries({"question": words, "answer": words}), max_size=2),
    task_options=st.dictionaries(st.from_regex(r"option_[a-z]{1,5}", fullmatch=True), options),
    lr=st.floats(0, 1, exclude_min=True),
    every=st.integers(1, 9),
    name=st.none() | words,
    lora=st.none() | st.fixed_dictionaries({"rank": st.integers(1, 64)}),
)
@settings(deadline=None, max_examples=50)
def test_a_config_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    instructions: str,
    turns: list[dict[str, str]],
    task_options: dict[str, Any],
    lr: float,
    every: int,
    name: str | None,
    lora: dict[str, int] | None,
) -> None:
    config = RunConfig.model_validate(
        {
            "model": "m",
            "steps": 3,
            "name": name,
            "task": {**task_options, "name": "chain_sum"},
            "context": {"instructions": instructions, "demonstrations": turns},
            "fast": {"every": every},
            "slow": {"lr": lr, "lora": lora},
        }
    )
    assert read_back(to_toml(config), tmp_path_factory.getbasetemp()) == config


@pytest.mark.parametrize(
    "parts",
    [
        {"task": TASK, "steps": 1},
        {"stages": [{"task": TASK, "steps": 2}, {"task": {"name": "star", "d": 3}, "steps": 1}]},
        {"task": TASK, "steps": 1, "slow": {"max_grad_norm": float("inf")}},
        {"task": TASK, "steps": 1, "log": {"folder": Path("a b/ü")}},
        {"task": {**TASK, "since": datetime.date(2026, 1, 2)}, "steps": 1},
        {
            "task": TASK,
            "steps": 1,
            "fast": {
                "components": ["demonstrations", "instructions"],
                "reflection": {"model": "policy", "api_key_env": "KEY"},
            },
            "slow": {"lora": {"targets": ["q_proj", "v_proj"]}},
        },
    ],
)
def test_every_kind_of_run_comes_back_equal(parts: dict[str, Any], tmp_path: Path) -> None:
    config = RunConfig.model_validate({"model": "m", **parts})
    assert read_back(to_toml(config), tmp_path) == config


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for kind in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
                found |= sections(kind)
    return found


def test_a_key_that_may_be_none_is_none_by_default() -> None:
    everything = sections(RunConfig)
    assert len(everything) > 8
    for section in everything:
        for name, field in section.model_fields.items():
            if type(None) in typing.get_args(field.annotation):
                assert field.default is None, f"{section.__name__}.{name}"


@pytest.mark.parametrize("value", [object(), [None], "\ud800"])
def test_an_option_that_toml_cannot_say_is_refused(value: object) -> None:
    config = RunConfig(model="m", task=TaskConfig(name="t", option=value), steps=1)
    with pytest.raises(InputError, match="cannot be written as TOML"):
        to_toml(config)
