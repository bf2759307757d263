from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastslow.report.arms import COLOURS, LINES, MARKERS, arms_of, differences, flat
from fastslow.run.record import RunRecord, read_run

Make = Callable[..., Any]


@pytest.fixture
def run(write_run: Make, slow: Make) -> Callable[..., RunRecord]:
    def make(name: str, **settings: Any) -> RunRecord:
        return read_run(write_run(name, [slow(1)], **settings))

    return make


def test_runs_that_differ_in_their_seed_are_one_arm(run: Make) -> None:
    runs = [
        run("a", seed=0),
        run("b", method="rl", seed=0),
        run("c", seed=1, log={"folder": "elsewhere"}),
    ]
    arms = arms_of(runs)
    assert [(arm.label, arm.method, [r.name for r in arm.runs]) for arm in arms] == [
        ("fst", "fst", ["a", "c"]),
        ("rl", "rl", ["b"]),
    ]


def test_arms_of_one_method_are_told_apart_by_what_differs(run: Make) -> None:
    arms = arms_of(
        [
            run("a", slow={"group": 8}),
            run("b", slow={"group": 16}),
            run("c", method="rl"),
        ]
    )
    assert [arm.label for arm in arms] == ["fst, slow.group = 8", "fst, slow.group = 16", "rl"]


def test_arms_that_differ_in_much_go_by_a_name_and_are_never_mistaken(run: Make) -> None:
    many = {"lr": 1e-3, "kl": 0.0, "kl_cap": 2.0}
    arms = arms_of([run("x"), run("x", slow=many), run("x", slow={**many, "lr": 1.0})])
    assert [arm.label for arm in arms] == ["fst: x #1", "fst: x #2", "fst: x #3"]


def test_looks_differ_in_more_than_colour(run: Make) -> None:
    assert set(COLOURS) == set(MARKERS) == set(LINES) == {"rl", "fst", "fast", "distill"}
    runs = [run("r", approach=name) for name in ("rl", "fst", "fast", "distill")]
    runs += [run("r", slow={"lr": rate}) for rate in (1e-4, 1e-3, 1e-2)]
    looks = [arm.look for arm in arms_of(runs)]
    for part in ("colour", "marker", "line"):
        assert len({repr(getattr(look, part)) for look in looks}) == 7


def test_many_arms_still_look_different(run: Make) -> None:
    looks = [arm.look for arm in arms_of([run("r", slow={"lr": rate}) for rate in range(1, 26)])]
    assert len(set(map(repr, looks))) == 25
    assert len({(look.colour, look.marker) for look in looks}) == 25  # points have no lines


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["#ffffff", "#14171c"])
def test_every_colour_stands_out_in_both_themes(run: Make, ground: str) -> None:
    arms = arms_of([run("r", slow={"lr": rate}) for rate in (1, 2, 3, 4, 5, 6, 7)])
    for colour in {*COLOURS.values(), *(arm.look.colour for arm in arms)}:
        low, high = sorted((luminance(colour), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_only_keys_that_differ_are_listed(run: Make) -> None:
    stages = [{"steps": 2, "task": {"name": "star_graph", "d": d}} for d in (2, 3)]
    arms = arms_of(
        [
            run("a", seed=3, fast={"every": 2, "reuse": True}),
            run("b", seed=4, fast={"every": 2, "reuse": False}),
            run("c", task=None, steps=None, stages=stages),
        ]
    )
    table = differences(arms)
    assert list(table.columns) == ["key", *(arm.label for arm in arms)]
    found = {row[0]: list(row[1:]) for row in table.rows}
    assert found["fast.reuse"] == ["true", "false", "true"]
    assert found["stages.1.task.d"] == [None, None, 3]
    assert not {"seed", "name", "log.folder", "model", "fast.every"} & set(found)
    assert differences(arms[:1]).rows == []


def test_a_configuration_is_flattened_to_dotted_keys(run: Make) -> None:
    settings = flat(run("a", task={"name": "star_graph", "d": 3}).config)
    assert settings["task.d"] == 3
    assert settings["slow.betas"] == [0.9, 0.999]
    assert settings["fast.reflection.model"] is None
