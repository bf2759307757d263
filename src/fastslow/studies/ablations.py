"""K, T, G, the baseline, rollout reuse and components: each varied alone around the configuration.

Every variant is an FST run that differs in one key. Plain RL stands beside them. Variants are
compared by their accuracy at the end, and evaluated at the same steps, whatever their T.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from fastslow.config import Positive, RunConfig
from fastslow.studies.claims import Claim
from fastslow.studies.figures import point_panel
from fastslow.studies.measured import final, final_difference, summary
from fastslow.studies.plan import Plan
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

REFERENCE = "fst"

PLACES = {
    "population": ("fast", "population"),
    "every": ("fast", "every"),
    "group": ("slow", "group"),
    "baseline": ("slow", "baseline"),
    "reuse": ("fast", "reuse"),
    "components": ("fast", "components"),
}
"""Where in a run configuration each factor stands."""


class Settings(StudySettings):
    """``[study]`` of ablations: values of each factor. The configuration's own is the reference."""

    population: Annotated[
        tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Field(max_length=1000)
    ] = (1,)
    """K."""
    every: Annotated[tuple[Positive, ...], Field(max_length=1000)] = ()
    """T."""
    group: Annotated[
        tuple[Annotated[int, Field(ge=2, le=10_000)], ...], Field(max_length=1000)
    ] = ()
    """G."""
    baseline: Annotated[tuple[Literal["problem", "context"], ...], Field(max_length=100)] = (
        "problem",
        "context",
    )
    reuse: Annotated[tuple[bool, ...], Field(max_length=100)] = (True, False)
    components: Annotated[
        tuple[
            Annotated[tuple[Literal["demonstrations", "instructions"], ...], Field(max_length=100)],
            ...,
        ],
        Field(max_length=100),
    ] = ()


def plan(setup: Setup[Settings]) -> Plan:
    return Plan(
        tuple(
            run
            for seed in setup.settings.seeds
            for run in (
                setup.run("rl", "rl", seed),
                setup.run(REFERENCE, "fst", seed),
                *(
                    setup.run(role, "fst", seed, changes)
                    for role, changes in _variants(setup.config, setup.settings)
                ),
            )
        )
    )


def _variants(config: RunConfig, settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """The role of each variant, ``section.key=value``, and how its configuration differs."""
    for factor, (section, key) in PLACES.items():
        own = getattr(getattr(config, section), key)
        for value in dict.fromkeys(getattr(settings, factor)):
            if value == own:
                continue
            changes: dict[str, Any] = {section: {key: value}}
            if factor == "every":  # or the run would be evaluated at other steps as well
                changes["eval"] = {"every": config.eval.every or config.fast.every}
            yield f"{section}.{key}={_said(value)}", changes


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def conclude(evidence: Evidence[Settings]) -> Conclusion:
    setup = evidence.setup
    variants = [role for role, _ in _variants(setup.config, setup.settings)]
    claims = [
        _better(evidence, REFERENCE, role, f"the configuration's own value does better than {role}")
        for role in variants
    ]
    alone = REFERENCE if setup.config.fast.population == 1 else "fast.population=1"
    if alone in (*variants, REFERENCE):
        claims.append(_better(evidence, alone, "rl", "FST with a single context (K = 1) beats RL"))
    roles = ("rl", REFERENCE, *variants)
    ends = {
        role: [value for run in evidence.of(role) if (value := final(run)) is not None]
        for role in roles
    }
    panel = point_panel("At the end", "", "accuracy", {role: {"": ends[role]} for role in roles})
    rows = [summary(role, run) for role in roles for run in evidence.of(role)]
    return Conclusion(rows, claims, [panel])


def _better(evidence: Evidence[Settings], one: str, other: str, text: str) -> Claim:
    return evidence.claim(text, "above", 0.0, (one, other), final_difference)


STUDY = Study(Settings, plan, conclude)
