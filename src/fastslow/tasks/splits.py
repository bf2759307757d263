"""Cutting problems into train, validation and test such that no question stands in two of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from fastslow.errors import InputError
from fastslow.tasks.contract import Ids
from fastslow.types import Problem, Split, normalise_question

logger = logging.getLogger("fastslow.tasks")

_ORDER: tuple[Split, ...] = ("validation", "test", "train")
"""Who is served first. What is measured comes before what is trained on: where few distinct
problems exist, the training set is the one that shrinks."""


class Splits:
    """Deals distinct problems to the splits, only as far as they are asked for.

    Two problems are the same if they share a question, but for case and white space. Two problems
    with one id and different questions are refused, in splits that nobody asked for as well, once
    they are dealt.
    Each split is dealt what its stream yields and nobody has yet; splits that are to be cut from
    one source are given one and the same iterator. The deal is a function of the streams alone.

    Args:
        streams: the source of each split.
        sizes: problems of each split, at most; None for all that its stream yields.
        name: the task, for messages.
    """

    def __init__(
        self,
        streams: Mapping[Split, Iterable[Problem]],
        sizes: Mapping[Split, int | None],
        name: str,
    ) -> None:
        # iter() of an iterator is the iterator itself: a shared source stays shared.
        self._streams = {split: iter(stream) for split, stream in streams.items()}
        self._sizes = dict(sizes)
        self._name = name
        self._dealt: dict[Split, tuple[Problem, ...]] = {}
        self._ids = Ids(name, repeats=True)
        self._questions: set[str] = set()

    def __getitem__(self, split: Split) -> tuple[Problem, ...]:
        """The problems of a split, in stream order.

        Raises:
            InputError: the train or validation split would be empty though problems were asked
                for; the message says how many distinct problems were found and asked for. Or two
                different problems have one id; the message names the split and number of both.
        """
        for earlier in _ORDER[: _ORDER.index(split) + 1]:
            if earlier not in self._dealt:
                self._dealt[earlier] = tuple(self._deal(earlier))
        problems = self._dealt[split]
        if not problems and split != "test":
            raise InputError(self._shortage(split))
        return problems

    def _deal(self, split: Split) -> Iterator[Problem]:
        size = self._sizes[split]
        dealt = repeated = 0
        while size is None or dealt < size:
            problem = next(self._streams[split], None)
            if problem is None:
                break
            self._ids.check(f"{split}, problem {dealt + 1}", problem)
            question = normalise_question(problem.question)
            if question in self._questions:
                repeated += 1
                continue
            self._questions.add(question)
            dealt += 1
            yield problem
        if size is None and repeated:
            logger.warning(
                "%s: %d problems left out of %s, their question occurs more than once",
                self._name, repeated, split,
            )  # fmt: skip
        elif size is not None and 0 < dealt < size:
            logger.warning(
                "%s: %d distinct problems for %s, fewer than the %d asked for",
                self._name, dealt, split, size,
            )  # fmt: skip

    def _shortage(self, split: Split) -> str:
        asked = ", ".join(
            f"{'all the rest' if self._sizes[other] is None else self._sizes[other]} for {other}"
            for other in _ORDER
        )
        return (
            f"task {self._name}: no problem is left for {split}: {len(self._questions)} distinct "
            f"problems were found; asked for, in the order in which they are served: {asked}. "
            "Ask for fewer, or give the task settings or data with more distinct questions"
        )
