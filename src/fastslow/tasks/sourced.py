"""Splits of a task whose problems are the rows of a data set."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from fastslow.config import NonNegative, Positive, Section
from fastslow.tasks.jsonl import Share
from fastslow.tasks.splits import Splits
from fastslow.types import Problem, Split


class SourceOptions(Section):
    """Options of every task on a data set. A source is a file, a folder or the id of a data set on
    the hub (see ``tasks.sources``); relative paths start at the working directory."""

    source: str
    """What to train on; validation and test are cut from it unless they have their own."""
    validation_source: str | None = None
    test_source: str | None = None
    train: Positive | None = None
    """Problems to train on, at most; None: all that are in neither other split."""
    validation: Share = 0.1
    """Problems or fraction cut for validation; all of ``validation_source`` where given."""
    test: Share = 0.1
    """As ``validation``, for testing."""
    data_seed: NonNegative = 0
    """Of the shuffle before the cut, which does not depend on the run's seed."""


def split_source(
    options: SourceOptions,
    read: Callable[[str, Split], list[Problem]],
    name: str,
) -> Splits:
    """The splits of a data set, cut as the options say.

    Args:
        options: of the task.
        read: all problems of a source, for a split that has its own or for "train".
        name: of the task, for messages.

    Raises:
        InputError: a source cannot be read.
    """
    shared = read(options.source, "train")
    count = len(shared)
    random.Random(options.data_seed).shuffle(shared)
    rest = iter(shared)
    streams: dict[Split, Iterable[Problem]] = {"train": rest}
    sizes: dict[Split, int | None] = {"train": options.train}
    evaluated: list[tuple[Split, str | None, float]] = [
        ("validation", options.validation_source, options.validation),
        ("test", options.test_source, options.test),
    ]
    for split, source, share in evaluated:
        streams[split] = rest if source is None else read(source, split)
        whole = round(share * count) if share < 1 else int(share)
        sizes[split] = whole if source is None else None
    return Splits(streams, sizes, name)
