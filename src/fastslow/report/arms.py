"""Arms of a comparison: runs of one configuration that differ in their seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastslow.config import RunConfig
from fastslow.report.table import Cell, Table
from fastslow.run.record import RunRecord

COLOURS = {"rl": "#d55e00", "fst": "#0072b2", "fast": "#009e73", "distill": "#cc79a7"}
"""One colour per method, from Okabe and Ito's palette for colour-blind readers. Each has a contrast
of at least 3 both to white and to the dark page."""

MARKERS = {"rl": "s", "fst": "o", "fast": "^", "distill": "D"}

LINES = {"rl": "--", "fst": "-", "fast": ":", "distill": "-."}

_FURTHER = (
    ("#8a6d00", "v", (0, (5, 1))),
    ("#777777", "P", (0, (1, 1))),
    ("#9467bd", "X", (0, (3, 1, 1, 1))),
    ("#17838f", "<", (0, (7, 2))),
    ("#a05a2c", ">", (0, (5, 1, 1, 1, 1, 1))),
    ("#5f7fbf", "p", (0, (2, 2))),
)
"""Looks of further arms of a method that has one already. When they are used up, their parts are
combined anew."""

_IDENTITY = frozenset({"seed", "name", "log"})
"""Keys that tell runs of one arm apart."""

_MANY_KEYS = 2
"""An arm that differs from its method's others in more keys goes by the name of a run."""


@dataclass(frozen=True)
class Look:
    """How a line is drawn: never by its colour alone."""

    colour: str
    marker: str
    line: Any
    """A line style of matplotlib."""


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration, with different seeds.

    Attributes:
        label: the method, with the keys that tell the arm from others of its method.
        runs: in the order in which they were given.
    """

    label: str
    look: Look
    runs: tuple[RunRecord, ...]

    @property
    def method(self) -> str:
        return self.runs[0].config.approach


def arms_of(runs: Sequence[RunRecord]) -> list[Arm]:
    """Runs by arm, in the order of each arm's first run."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        settings = flat(run.config)
        identity = repr([item for item in settings.items() if _tells_arms_apart(item[0])])
        groups.setdefault(identity, []).append(run)
    members = list(groups.values())
    labels = _labels([group[0] for group in members])
    looks = _looks([group[0].config.approach for group in members])
    return [
        Arm(label, look, tuple(group))
        for label, look, group in zip(labels, looks, members, strict=True)
    ]


def beside_yardstick(arms: Sequence[Arm]) -> Iterator[tuple[RunRecord, RunRecord]]:
    """Every run with the run that it is judged by: of RL if there is any, else of the first arm.

    It is the yardstick's run of the same seed, or its first run where no seed is shared.
    """
    yardstick = next((arm for arm in arms if arm.method == "rl"), arms[0])
    by_seed = {run.config.seed: run for run in reversed(yardstick.runs)}
    for arm in arms:
        if arm is not yardstick:
            for run in arm.runs:
                yield run, by_seed.get(run.config.seed, yardstick.runs[0])


def flat(config: RunConfig) -> dict[str, Any]:
    """Every key of a configuration with its value, dotted: ``slow.lr``, ``stages.0.steps``."""
    return dict(_flatten("", config.model_dump(mode="json")))


def differences(arms: Sequence[Arm]) -> Table:
    """The keys in which the arms' configurations differ: one row a key, one column an arm."""
    settings = [flat(arm.runs[0].config) for arm in arms]
    keys = [key for key in _differing(settings) if _tells_arms_apart(key)]
    return Table(
        "configuration",
        "Keys in which the configurations differ. A run's seed, name and log tables are left out.",
        ["key", *(arm.label for arm in arms)],
        [[key, *(_cell(one.get(key)) for one in settings)] for key in keys],
    )


def _tells_arms_apart(key: str) -> bool:
    return key.partition(".")[0] not in _IDENTITY


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        parts = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        parts = [(str(number), item) for number, item in enumerate(value)]
    else:
        return [(prefix, value)]
    return [
        pair for key, item in parts for pair in _flatten(f"{prefix}.{key}" if prefix else key, item)
    ]


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if any(one.get(key) != settings[0].get(key) for one in settings)]


def _cell(value: Any) -> Cell:
    if value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return value
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _labels(first: Sequence[RunRecord]) -> list[str]:
    labels = [
        _label(run, [r for r in first if r.config.approach == run.config.approach]) for run in first
    ]
    return [
        label if labels.count(label) == 1 else f"{label} #{labels[: i + 1].count(label)}"
        for i, label in enumerate(labels)
    ]


def _label(run: RunRecord, same_method: Sequence[RunRecord]) -> str:
    """The method, then what tells the run from others of its method."""
    keys = [k for k in _differing([flat(r.config) for r in same_method]) if _tells_arms_apart(k)]
    method = run.config.approach
    if not keys:
        return method
    if len(keys) > _MANY_KEYS:
        return f"{method}: {run.name}"
    settings = flat(run.config)
    return f"{method}, " + ", ".join(f"{key} = {_cell(settings.get(key))}" for key in keys)


def _looks(methods: Sequence[str]) -> list[Look]:
    looks: list[Look] = []
    further = 0
    for number, method in enumerate(methods):
        if method not in methods[:number]:
            looks.append(Look(COLOURS[method], MARKERS[method], LINES[method]))
        else:
            looks.append(_further_look(further))
            further += 1
    return looks


def _further_look(number: int) -> Look:
    """Each round through the list moves markers and lines on by one, so that 36 looks differ."""
    count = len(_FURTHER)
    colour, _, _ = _FURTHER[number % count]
    _, marker, line = _FURTHER[(number + number // count) % count]
    return Look(colour, marker, line)
