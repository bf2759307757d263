"""Configurations at random: any valid one dry-runs; any other ends with 2 and names its key.

What is valid is read from the schema of the configuration, so that keys to come are tried too.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastslow import cli
from fastslow.config import RunConfig

Key = tuple[str, ...]

SCHEMA = RunConfig.model_json_schema()
GIVEN = {("model",), ("task",), ("stages",), ("steps",), ("name",), ("log", "folder")}
"""Keys whose values name something that must be there, or that another key decides about."""

FORMS = {
    ("fast", "reflection", "url"): "http://127.0.0.1:8000/v1",
    ("fast", "reflection", "api_key_env"): "OPENAI_API_KEY",
    ("slow", "algorithm"): "cispo",
}
"""Texts of which the schema does not tell the form."""

TASK = {"name": "star_graph", "d": 2, "nodes": 40, "train": 200, "validation": 4, "test": 4}


def leaves(schema: dict[str, Any], key: Key = ()) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Every key with the schema of its value."""
    for name, value in schema["properties"].items():
        value = resolved(value)
        if (*key, name) in GIVEN:
            continue
        if "properties" in value:
            yield from leaves(value, (*key, name))
        else:
            yield (*key, name), value


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return resolved(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    return schema


def branches(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The kinds of value that a key takes; TOML has no null."""
    found = [resolved(branch) for branch in schema.get("anyOf", [schema])]
    return [branch for branch in found if branch.get("type") != "null"]


def valid(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.one_of(*map(of_branch, branches(schema)))


def of_branch(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = schema.get("type")
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    if kind == "integer":
        low = schema.get("minimum", 0)
        return st.integers(low, low + 8)
    if kind == "number":
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("exclusiveMaximum", low + 5)
        outside = "exclusiveMinimum" in schema
        return st.floats(low, high, exclude_min=outside, exclude_max=True, allow_subnormal=False)
    if kind == "boolean":
        return st.booleans()
    if kind == "string":
        return st.text("abc_é 🙂", min_size=schema.get("minLength", 0), max_size=8)
    if kind == "array" and "prefixItems" in schema:
        return st.tuples(*map(valid, schema["prefixItems"])).map(list)
    if kind == "array":
        return st.lists(valid(schema["items"]), max_size=3)
    assert kind == "object", schema
    own = {key[0]: valid(value) for key, value in leaves(schema)}
    needed = {name: own.pop(name) for name in schema.get("required", [])}
    return st.fixed_dictionaries(needed, optional=own)


def invalid(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What no branch takes, nor turns into what it takes."""
    kinds = {branch.get("type", "string") for branch in branches(schema)}
    wrong: list[Any] = [-1, -0.5, math.nan] if kinds <= {"integer", "number"} else []
    wrong += [] if kinds & {"string"} and not fixed(schema) else ["no such value"]
    wrong += [] if "object" in kinds else [{"no such key": 1}]
    wrong += [] if "array" in kinds else [[[]]]
    wrong += [3.5] if kinds <= {"integer", "string", "boolean"} else []
    return st.sampled_from(wrong)


def fixed(schema: dict[str, Any]) -> bool:
    """Whether the strings that it takes are listed."""
    return all({"enum", "const"} & branch.keys() for branch in of_type(schema, "string"))


def of_type(schema: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [branch for branch in branches(schema) if branch.get("type", kind) == kind]


LEAVES = dict(leaves(SCHEMA))


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Some keys with valid values, and what they then ask of others."""
    keys = draw(st.lists(st.sampled_from(sorted(LEAVES)), unique=True, max_size=12))
    data: dict[str, Any] = {"steps": draw(st.integers(1, 9)), "task": dict(TASK)}
    for key in keys:
        put(data, key, FORMS.get(key) or draw(valid(LEAVES[key])))
    population = data.get("fast", {}).get("population", 4)
    put(data, ("slow", "group"), population * draw(st.integers(2, 3)))
    put(data, ("slow", "problems"), data["slow"].get("problems", 6))
    fast = data.setdefault("fast", {})
    if "components" in fast:
        fast["components"] = sorted(set(fast["components"])) or ["demonstrations"]
        fast["pool"] = max(1, fast.get("pool", 1))
        fast.setdefault("reflection", {})["model"] = "policy"
    elif "url" in fast.get("reflection", {}):
        fast["reflection"]["model"] = "m"
    if fast.get("pool") == 0:
        fast["pool"] = 1
    return data


def put(data: dict[str, Any], key: Key, value: Any) -> None:
    for part in key[:-1]:
        data = data.setdefault(part, {})
    data[key[-1]] = value


class Command:
    """``fastslow train --dry-run`` in this process."""

    def __init__(
        self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str], patch: Any
    ) -> None:
        self._model, self._folder, self._capsys, self._patch = model, folder, capsys, patch

    def __call__(self, data: dict[str, Any]) -> tuple[int, str, str]:
        path = self._folder / "c.toml"
        path.write_text(tomli_w.dumps({"model": str(self._model), **data}), encoding="utf-8")
        self._patch.setattr(sys, "argv", ["fastslow", "train", str(path), "--dry-run"])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *self._capsys.readouterr()


@pytest.fixture
def dry_run(
    tiny_model_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    return Command(tiny_model_dir, tmp_path, capsys, monkeypatch)


ONE_COMMAND = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_most_keys_are_tried() -> None:
    assert len(LEAVES) > 55
    for table in ("fast", "slow", "policy", "eval", "log"):
        assert sum(key[0] == table for key in LEAVES) >= 5


@ONE_COMMAND
@given(data=configurations())
def test_any_valid_configuration_dry_runs(dry_run: Command, data: dict[str, Any]) -> None:
    code, out, err = dry_run(data)
    assert (code, err) == (0, "")
    assert out.startswith("# run: ")


@ONE_COMMAND
@given(data=configurations(), choice=st.data())
def test_any_invalid_value_ends_with_2_and_names_its_key(
    dry_run: Command, data: dict[str, Any], choice: st.DataObject
) -> None:
    key = choice.draw(st.sampled_from(sorted(LEAVES)))
    value = choice.draw(invalid(LEAVES[key]))
    data = copy.deepcopy(data)
    put(data, key, value)
    code, out, err = dry_run(data)
    assert (code, out) == (2, "")
    assert f"c.toml: {'.'.join(key)}" in err
    assert "Traceback" not in err


@ONE_COMMAND
@given(data=configurations(), key=st.sampled_from(sorted(LEAVES)), typo=st.text("xyz", min_size=1))
def test_any_unknown_key_ends_with_2_and_is_named(
    dry_run: Command, data: dict[str, Any], key: Key, typo: str
) -> None:
    data = copy.deepcopy(data)
    unknown = (*key[:-1], key[-1] + typo)
    put(data, unknown, 1)
    code, out, err = dry_run(data)
    assert (code, out) == (2, "")
    assert f"c.toml: {'.'.join(unknown)}: unknown key; did you mean {key[-1]!r}?" in err or (
        f"c.toml: {'.'.join(unknown)}: unknown key" in err and len(typo) > 2
    )
