"""Slow learners by name: built in, registered by a program, offered by another package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastslow import config as configuration
from fastslow.config import SlowConfig
from fastslow.errors import InputError
from fastslow.slow import LossInputs, PolicyGradient, slow_learner
from fastslow.slow.registry import LEARNERS, create

PLUGIN = """
from fastslow.slow import PolicyGradient, slow_learner

@slow_learner("squared")
class Squared(PolicyGradient):
    def loss(self, inputs):
        return (inputs.logprobs - inputs.advantages) ** 2
"""


def test_every_built_in_learner_has_its_name_and_a_docstring() -> None:
    for name in ("cispo", "grpo", "dapo", "dr_grpo", "gspo", "reinforce", "sft", "distill", "opd"):
        learner = LEARNERS.find(name, "test")
        assert (learner.name, learner.Options.__name__) == (
            name,
            f"{name.title().replace('_', '')}Options",
        )
        assert learner.__doc__


def test_a_learner_of_one_s_own_goes_by_its_name() -> None:
    @slow_learner("mine")
    class Mine(PolicyGradient):
        """-A."""

        def loss(self, inputs: LossInputs):  # type: ignore[no-untyped-def]
            return -inputs.advantages

    assert isinstance(create(SlowConfig(algorithm="mine"), 8, "f"), Mine)
    with pytest.raises(InputError, match="the name is built in"):
        slow_learner("grpo")(Mine)


@pytest.mark.parametrize("value", ["unregistered_plugin:Cubed", "unregistered_plugin"])
def test_an_entry_point_may_name_the_class_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """A module that registers nothing gives no learner."""
    (tmp_path / "unregistered_plugin.py").write_text(
        "from fastslow.slow import PolicyGradient\n"
        "class Cubed(PolicyGradient):\n"
        "    def loss(self, inputs):\n"
        "        return -inputs.advantages ** 3\n"
    )
    info = tmp_path / "unregistered_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unregistered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fastslow.slow]\n{value[-5:].lower()} = {value}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "unregistered_plugin", raising=False)
    name = value[-5:].lower()
    if ":" in value:
        assert create(SlowConfig(algorithm=name), 8, "f").name == "cubed"
    else:
        with pytest.raises(InputError, match=f"there is no '{name}'"):
            create(SlowConfig(algorithm=name), 8, "f")


def test_a_learner_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squared_plugin.py").write_text(PLUGIN)
    info = tmp_path / "squared_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: squared-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fastslow.slow]\nsquared = squared_plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "squared_plugin", raising=False)
    assert "squared" in LEARNERS.names
    assert create(SlowConfig(algorithm="squared"), 8, "f").name == "squared"


@pytest.mark.parametrize(
    ("slow", "words"),
    [
        ({"algorithm": "grop"}, "f: slow.algorithm: there is no 'grop'; did you mean 'grpo'"),
        ({"grpo": {"clips": 1}, "algorithm": "grpo"}, "f: slow.grpo.clips: unknown key; did you"),
        ({"cispo": {"cap": 0}}, "f: slow.cispo.cap: input should be greater than 0; found 0"),
        ({"grop": {"clip": 1}}, r"f: \[slow.grop\]: slow.algorithm: there is no 'grop'"),
        ({"algorithm": "opd"}, "f: slow.opd.teacher: this key is missing"),
    ],
)
def test_what_is_wrong_is_named(slow: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        create(SlowConfig(**slow), 8, "f")


def test_a_key_of_no_learner_is_refused_when_the_configuration_is_read() -> None:
    data = {"model": "m", "steps": 1, "task": {"name": "star_graph"}, "slow": {"lrr": 1.0}}
    with pytest.raises(InputError, match=r"c: slow\.lrr: unknown key; did you mean 'lr'"):
        configuration.parse(data, source="c")
