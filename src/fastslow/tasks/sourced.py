"""Splits of a task whose problems are the rows of a data set."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from fastslow.config import Positive, Section, Seed
from fastslow.places import PlaceOrName
from fastslow.tasks.contract import Ids
from fastslow.tasks.splits import Splits
from fastslow.types import Problem, Split


def _whole_from_one(share: float) -> float:
    if share >= 1 and not share.is_integer():
        raise ValueError(f"expected a fraction below 1 or a whole number; found {share}")
    return share


Share = Annotated[
    float, Field(ge=0, le=10**9, allow_inf_nan=False), AfterValidator(_whole_from_one)
]
"""Below 1 a fraction of the source's problems, from 1 on a number of problems."""


class CutOptions(Section):
    """How the problems of a source are cut into splits."""

    train: Positive | None = None
    """Problems to train on, at most; None: all that are in neither other split."""
    validation: Share = 0.1
    """Problems or fraction cut for validation; all of a source of its own where given."""
    test: Share = 0.1
    """As ``validation``, for testing."""
    data_seed: Seed = 0
    """Of the shuffle before the cut, which does not depend on the run's seed."""


class SourceOptions(CutOptions):
    """Options of every task on a data set. A source is a file, a folder or the id of a data set on
    the hub (see ``tasks.sources``); relative paths start at the working directory."""

    source: PlaceOrName
    """What to train on; validation and test are cut from it unless they have their own."""
    validation_source: PlaceOrName | None = None
    """Rows for validation. Left out: they are cut from ``source``."""
    test_source: PlaceOrName | None = None
    """Rows for testing. Left out: they are cut from ``source``."""


Source = TypeVar("Source")


def cut_splits(
    options: CutOptions,
    sources: Mapping[Split, Source | None],
    read: Callable[[Source, Split], list[Problem]],
    name: str,
) -> Splits:
    """The splits of a data set, cut as the options say.

    Args:
        options: of the task.
        sources: of "train", and of the other splits where they have their own.
        read: all problems of a source, for the split that it belongs to.
        name: of the task, for messages.

    Raises:
        InputError: a source cannot be read, or one id is that of two questions, in a source or two.
    """
    source = sources["train"]
    assert source is not None
    ids = Ids(name, repeats=True)

    def read_checked(source: Source, split: Split) -> list[Problem]:
        problems = read(source, split)
        ids.add(f"{source} ({split})", problems)
        return problems

    shared = read_checked(source, "train")
    count = len(shared)
    random.Random(options.data_seed).shuffle(shared)
    rest = iter(shared)
    streams: dict[Split, Iterable[Problem]] = {"train": rest}
    sizes: dict[Split, int | None] = {"train": options.train}
    shares: list[tuple[Split, float]] = [
        ("validation", options.validation),
        ("test", options.test),
    ]
    for split, share in shares:
        own = sources[split]
        streams[split] = rest if own is None else read_checked(own, split)
        whole = round(share * count) if share < 1 else int(share)
        sizes[split] = whole if own is None else None
    return Splits(streams, sizes, name)


def split_source(
    options: SourceOptions, read: Callable[[str, Split], list[Problem]], name: str
) -> Splits:
    """``cut_splits`` for a task whose options name its sources."""
    sources: dict[Split, str | None] = {
        "train": options.source,
        "validation": options.validation_source,
        "test": options.test_source,
    }
    return cut_splits(options, sources, read, name)
