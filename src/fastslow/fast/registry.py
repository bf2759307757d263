"""Fast learners by the name that ``[fast] algorithm`` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastslow.config import FastConfig, validate
from fastslow.plugins import Registry

if TYPE_CHECKING:
    from fastslow.fast.base import FastLearner, Tools

Learner = TypeVar("Learner", bound="type[FastLearner]")

LEARNERS: Registry[FastLearner] = Registry(
    "fast.algorithm",
    group="fastslow.fast",
    built_in={
        name: f"fastslow.fast.{name}"
        for name in ("gepa", "bootstrap", "opro", "playbook", "frozen")
    },
)


def fast_learner(name: str) -> Callable[[Learner], Learner]:
    """Make a class available as ``[fast] algorithm``; its options stand in ``[fast.name]``."""

    def decorate(learner: Learner) -> Learner:
        learner.name = name
        LEARNERS.add(name, learner)
        return learner

    return decorate


def find(config: FastConfig, source: str) -> tuple[type[FastLearner], Any]:
    """The class that ``[fast]`` names, and its own options.

    Raises:
        InputError: it is not known, or an option is wrong.
    """
    for name in config.tables:
        LEARNERS.find(name, f"{source}: [fast.{name}]")
    learner = LEARNERS.find(config.algorithm, source)
    table = config.tables.get(config.algorithm, {})
    return learner, validate(learner.Options, table, source, prefix=f"fast.{config.algorithm}")


def create(config: FastConfig, tools: Tools, source: str = "config") -> FastLearner:
    """The fast learner that ``[fast]`` names. Raises: InputError, as ``find``."""
    learner, options = find(config, source)
    return learner.build(options, tools)
