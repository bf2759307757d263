from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastslow
from fastslow import config as configuration
from fastslow.config import RunConfig, StageConfig, explain
from fastslow.dry_run import describe
from fastslow.errors import InputError
from fastslow.run.toml import to_toml
from fastslow.terminal import name

MINIMAL: dict[str, Any] = {"model": "smollm2-135m", "steps": 12, "task": {"name": "star_graph"}}

REPOSITORY = Path(__file__).parents[1]
# Those of studies have a table of their own: tests/studies reads them.
SHIPPED = sorted([*REPOSITORY.glob("configs/*.toml"), REPOSITORY / "src/fastslow/demo.toml"])

STAND_INS = {
    "codeio.toml": "codeio_generated.jsonl",
    "gsm8k.toml": "math/gsm8k",
    "hover.toml": "hover.json",
    "physics.toml": "physics.jsonl",
}
"""Fixtures of ``tests/data`` in the place of data that come from the hub, or take long to make."""

EVERY_TABLE: dict[str, Any] = {
    "model": "m",
    "context": {"demonstrations": [{"question": "1 + 1?", "answer": "2"}]},
    "stages": [
        {"task": {"name": "star_graph"}, "steps": 2},
        {"mix": [{"task": {"name": "star_graph"}, "weight": 2}], "steps": 1},
    ],
    "fast": {"demonstrations": {}, "reflection": {}},
    "slow": {"lora": {}},
    "policy": {},
    "eval": {},
    "log": {},
}


def tables(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all tables, but for those of tasks, whose keys are their own."""
    if isinstance(data, dict):
        if path[-1:] != ("task",):
            yield path
            for key, value in data.items():
                yield from tables(value, (*path, key))
    elif isinstance(data, list):
        for number, item in enumerate(data):
            yield from tables(item, (*path, number))


def fails(data: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        configuration.parse(data, overrides, source="c.toml")
    return str(caught.value)


def changed(key: str, value: Any) -> dict[str, Any]:
    """The minimal configuration with ``section.key`` set."""
    data = copy.deepcopy(MINIMAL)
    *path, last = key.split(".")
    table = data
    for part in path:
        table = table.setdefault(part, {})
    table[last] = value
    return data


# Defaults.


def test_defaults_are_the_papers() -> None:
    config = configuration.parse(MINIMAL)
    fast, slow = config.fast, config.slow
    assert (config.method, config.seed) == ("fst", 0)
    assert (fast.algorithm, fast.population, fast.every) == ("gepa", 4, 6)
    assert (fast.budget, fast.minibatch, fast.reuse) == ("auto", 3, True)
    assert (slow.algorithm, slow.problems, slow.group) == ("cispo", 32, 8)
    assert (slow.lr, slow.warmup, slow.betas, slow.eps) == (1e-6, 10, (0.9, 0.999), 1e-8)
    assert (slow.kl_cap, slow.kl, slow.max_grad_norm, slow.lora) == (4.0, 0.001, 1.0, None)
    assert config.policy.temperature == 1.0
    assert (config.eval.samples, config.log.checkpoint_every) == (1, 0)


def test_at_the_papers_size_a_fast_phase_spends_its_960_calls_and_its_proposals() -> None:
    from fastslow.fast.base import Tools
    from fastslow.fast.registry import create

    config = configuration.parse(MINIMAL)
    anchors = config.slow.problems * config.fast.every
    per_proposal = config.fast.minibatch + config.fast.demonstrations.probe
    learner = create(config.fast, Tools(config.fast))
    assert learner.max_calls(anchors) == 960 + config.fast.proposals * per_proposal


def test_a_config_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; import fastslow.config, fastslow.dry_run, fastslow.cli;"
        "sys.exit(bool({'torch', 'transformers', 'matplotlib', 'gepa'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Files.


def test_the_demo_is_among_the_shipped() -> None:
    assert REPOSITORY / "src/fastslow/demo.toml" in SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_shipped_file_loads_and_dry_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    config = configuration.load(path)
    sizes = {"train": 2 * config.slow.problems, "validation": 8, "test": 8}
    fewer = [  # some puzzles take long to make
        f"task.{split}={size}"
        for split, size in sizes.items()
        if config.task is not None and split in config.task.options
    ]
    if path.name in STAND_INS:
        fewer = [
            f"task.source=tests/data/{STAND_INS[path.name]}",
            "task.train=4",
            "task.validation=1",
            "task.test=1",
            "slow.problems=2",
            "fast.pool=1",
        ]
    text = describe(path, fewer)
    assert f"# run:    {config.log.folder / config.run_name}" in text
    assert text.endswith(to_toml(configuration.load(path, fewer)))


def test_a_file_and_its_resolved_text_say_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(
        'model = "m"\nseed = 3\n[fast]\nevery = 2\n[slow.lora]\nrank = 4\n'
        '[[stages]]\nsteps = 2\ntask = { name = "star_graph", d = 4 }\n',
        encoding="utf-8",
    )
    config = configuration.load(first)
    second.write_text(to_toml(config), encoding="utf-8")
    assert configuration.load(second) == config
    assert config.stages[0].shares[0].task.options == {"d": 4}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such configuration file"),
        (b"model = ", "is not valid TOML"),
        (b"model = '\xff'", "cannot be read"),
        (b"model = 'a'\nmodel = 'b'", "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        configuration.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


# Keys.


@given(
    path=st.sampled_from(list(tables(EVERY_TABLE))),
    key=st.text(min_size=1, max_size=12)
    | st.sampled_from(["learning-rate", "lr (max)", "x[0]", "int", "str", "none", "function-x"]),
    value=st.integers() | st.text(max_size=3) | st.just({}),
)
def test_an_unknown_key_is_named_with_its_table(
    path: tuple[str | int, ...], key: str, value: Any
) -> None:
    data = copy.deepcopy(EVERY_TABLE)
    table: Any = data
    for part in path:
        table = table[part]
    known = explain._fields_at(RunConfig, path)
    if path in {("slow",), ("fast",)}:
        if isinstance(value, Mapping):  # a learner's table, if there is such a learner
            return
        known = {*known, {"slow": "cispo", "fast": "gepa"}[str(path[0])]}
    if key in known:
        return
    table[key] = value
    message = fails(data)
    where = ".".join(map(name, [*path, key]))  # one that is not plain is shown in quotes
    assert message.startswith(f"c.toml: {where}: unknown key")
    assert message.endswith(f"Allowed: {', '.join(sorted(known))}")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("modle", "model"),
        ("slow.learning_rate", None),
        ("slow.goup", "group"),
        ("fast.populaton", "population"),
        ("fast.reflection.modle", "model"),
        ("slow.lora.ranks", "rank"),
    ],
)
def test_the_nearest_known_key_is_suggested(key: str, suggestion: str | None) -> None:
    message = fails(changed(key, 1))
    assert f"{key}: unknown key" in message
    assert (f"did you mean '{suggestion}'?" in message) == (suggestion is not None)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model", 3, ["string", "found 3"]),
        ("steps", "many", ["integer", "found 'many'"]),
        ("steps", 0, ["greater than or equal to 1", "found 0"]),
        ("method", "sft", ["'fst', 'rl' or 'fast'", "found 'sft'"]),
        ("seed", -1, ["greater than or equal to 0", "found -1"]),
        ("slow.lr", 0, ["greater than 0", "found 0"]),
        ("slow.group", 1, ["greater than or equal to 2", "found 1"]),
        ("slow.betas", [0.9, 1.0], ["less than 1", "found 1.0"]),
        ("slow.lora", 8, ["found 8"]),
        ("fast.budget", "some", ["'auto'", "found 'some'"]),
        ("fast.components", [], ["components is empty"]),
        ("fast.components", ["instructions"], ["fast.reflection.model"]),
        ("fast.reflection.url", "http://localhost", ["set model"]),
        ("fast.pool", 0, ["fast.pool"]),
        ("policy.temperature", 0, ["greater than 0", "found 0"]),
        ("eval.split", "dev", ["'validation' or 'test'", "found 'dev'"]),
        ("task", "star_graph", ["found 'star_graph'"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    key: str, value: Any, words: list[str]
) -> None:
    message = fails(changed(key, value))
    for word in [*words, key.rpartition(".")[0] if "components" in key else key.split(".")[0]]:
        assert word in message


def test_the_kl_coefficient_may_be_zero_and_the_norm_unbounded() -> None:
    config = configuration.parse(MINIMAL, ["slow.kl=0", "slow.max_grad_norm=inf"])
    assert (config.slow.kl, config.slow.max_grad_norm) == (0, float("inf"))


def test_every_fault_is_told_at_once() -> None:
    data = changed("slow.goup", 4) | {"steps": 0}
    del data["model"]
    lines = fails(data).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("c.toml: ") for line in lines)
    assert any("model: this key is missing" in line for line in lines)


@pytest.mark.parametrize("missing", ["model", "steps", "task"])
def test_what_is_missing_is_named(missing: str) -> None:
    assert missing in fails({key: value for key, value in MINIMAL.items() if key != missing})


def test_a_task_needs_its_name() -> None:
    assert "task.name: this key is missing" in fails(changed("task", {}))


@pytest.mark.parametrize("extra", ["task", "steps"])
def test_task_and_stages_exclude_each_other(extra: str) -> None:
    data = {**EVERY_TABLE, extra: MINIMAL[extra]}
    assert "either task and steps, or stages" in fails(data)


GRAPH, LARGER = {"name": "star_graph"}, {"name": "star_graph", "d": 5}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({}, "stages.0: a stage has either a task or a mix of them"),
        ({"task": GRAPH, "mix": [{"task": LARGER}]}, "stages.0: a stage has either a task or"),
        ({"mix": []}, "stages.0: a stage has either a task or"),
        ({"mix": [{"task": GRAPH}] * 2}, "stages.0: the mix names the task 'star_graph' twice"),
        ({"mix": [{"task": GRAPH, "weight": 0}]}, "stages.0.mix.0.weight: .*found 0"),
        ({"mix": [{"task": GRAPH, "weight": float("inf")}]}, "stages.0.mix.0.weight: .*found inf"),
        ({"mix": [{"task": GRAPH, "wieght": 2}]}, "stages.0.mix.0.wieght: .*'weight'"),
        ({"mix": [{"weight": 2}]}, "stages.0.mix.0.task: this key is missing"),
    ],
)
def test_a_stage_is_on_one_task_or_a_mix(stage: dict[str, Any], message: str) -> None:
    assert re.search(message, fails({"model": "m", "stages": [{"steps": 2, **stage}]}))


# K and G.


@given(st.integers(1, 40), st.integers(2, 40))
def test_k_divides_g(population: int, group: int) -> None:
    data = {**MINIMAL, "fast": {"population": population}, "slow": {"group": group}}
    if group % population == 0:
        configuration.parse(data)
        return
    message = fails(data)
    assert f"fast.population is {population}" in message
    assert f"slow.group, {group}" in message
    allowed = [int(k) for k in message.rpartition("Allowed here: ")[2].split(", ")]
    assert allowed == [k for k in range(1, group + 1) if group % k == 0]
    for method in ("rl", "fast"):  # where nothing is spread over K contexts
        configuration.parse({**data, "method": method})


# Overrides.


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seed=3", lambda c: c.seed == 3),
        ("slow.lr=1e-5", lambda c: c.slow.lr == 1e-5),
        (" slow.lr = 1e-5 ", lambda c: c.slow.lr == 1e-5),
        ("name=plain words", lambda c: c.name == "plain words"),
        ('name="a=b"', lambda c: c.name == "a=b"),
        ("task.d=4", lambda c: c.task.options == {"d": 4}),
        ("slow.lora.rank=2", lambda c: c.slow.lora.rank == 2),
        ("eval.contexts=['best']", lambda c: c.eval.contexts == ("best",)),
        ("log.tensorboard=false", lambda c: c.log.tensorboard is False),
    ],
)
def test_an_override_sets_a_key(override: str, read: Any) -> None:
    assert read(configuration.parse(MINIMAL, [override]))


def test_the_last_override_counts_and_the_data_stay_as_they_are() -> None:
    data = copy.deepcopy(EVERY_TABLE)
    config = configuration.parse(data, ["fast.every=2", "fast.every=3"])
    assert config.fast.every == 3
    assert data == EVERY_TABLE


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("slow..lr=3", "expected section.key=value"),
        ("steps.x=3", "steps is a value, not a table"),
        ("slow.lrr=3", "slow.lrr: unknown key; did you mean 'lr'?"),
        ("seed=three", "seed: input should be a valid integer"),
    ],
)
def test_a_wrong_override_is_named(override: str, words: str) -> None:
    assert words in fails(MINIMAL, override)


# What follows from a configuration.


def test_a_run_on_one_task_is_a_single_stage() -> None:
    config = configuration.parse(MINIMAL)
    assert config.task is not None
    assert config.all_stages == (StageConfig(task=config.task, steps=12),)
    assert config.total_steps == 12


def test_every_task_of_a_run_has_a_name_to_which_stages_return() -> None:
    mix = [{"task": {"name": "jsonl", "path": "a/facts.jsonl"}}, {"task": LARGER, "weight": 0.5}]
    stages = [{"task": GRAPH, "steps": 3}, {"mix": mix, "steps": 2}, {"task": GRAPH, "steps": 1}]
    config = configuration.parse({"model": "m", "stages": stages})
    first, second, third = config.all_stages
    assert list(config.tasks) == ["star_graph", "facts", "star_graph-2"]
    assert [share.weight for share in second.shares] == [1.0, 0.5]
    assert [config.task_name(share.task) for share in second.shares] == ["facts", "star_graph-2"]
    assert config.task_name(third.shares[0].task) == config.task_name(first.shares[0].task)
    assert config.run_name == "fst-star_graph+facts-star_graph-seed0"
    assert config.total_steps == 6


def test_a_run_is_named_by_what_it_is() -> None:
    assert configuration.parse(MINIMAL).run_name == "fst-star_graph-seed0"
    data = changed("task", {"name": "my/task.py:Mine"})
    assert configuration.parse(data, ["seed=2"]).run_name == "fst-my_task.py_Mine-seed2"
    assert configuration.parse(MINIMAL, ["name=mine"]).run_name == "mine"
    for served in ({"dataset": "gsm8k"}, {"environment": "gsm8k"}, {"path": "a/gsm8k.jsonl"}):
        config = configuration.parse(changed("task", {"name": "any", **served}))
        assert config.run_name == "fst-gsm8k-seed0"


def test_methods_differ_in_what_learns() -> None:
    learn = {
        method: (config.uses_fast, config.uses_slow)
        for method in ("fst", "rl", "fast")
        for config in [configuration.parse(MINIMAL, [f"method={method}"])]
    }
    assert learn == {"fst": (True, True), "rl": (False, True), "fast": (True, False)}


def test_all_methods_set_the_same_problems_aside() -> None:
    for method in ("fst", "rl", "fast"):
        assert configuration.parse(MINIMAL, [f"method={method}"]).reserves_pool


def test_the_public_names_are_there() -> None:
    assert all(hasattr(fastslow, name) for name in fastslow.__all__)
