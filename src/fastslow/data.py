"""The order in which a stage's training problems are asked, and how tasks are mixed in it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction

from fastslow.errors import InputError
from fastslow.seeding import derive_seed
from fastslow.types import Context, Problem


class Shares:
    """How many problems of each task a batch holds.

    One place after the other is dealt: of the tasks that have had less than their share so far, to
    the one whose next place falls due first. Scheduled so, no task is ever a whole problem ahead of
    its exact share or behind it, however many batches there are. Sizes depend on the weights and on
    the batch's number alone.

    Args:
        weights: of each task, in proportion to the others.
        batch_size: P.
    """

    def __init__(self, weights: Sequence[float], batch_size: int) -> None:
        exact = [Fraction(str(weight)) for weight in weights]  # 0.1 is a tenth, as a person means
        self.fractions = tuple(weight / sum(exact) for weight in exact)
        self.batch_size = batch_size
        self._dealt = [0] * len(exact)
        self._sizes: list[tuple[int, ...]] = []

    def size(self, task: int, index: int) -> int:
        """Problems of a task, by its number, in batch ``index``, from 0; over tasks they add up
        to P."""
        while len(self._sizes) <= index:
            before = tuple(self._dealt)
            for _ in range(self.batch_size):
                self._dealt[self._next()] += 1
            sizes = (now - then for now, then in zip(self._dealt, before, strict=True))
            self._sizes.append(tuple(sizes))
        return self._sizes[index][task]

    def most(self, task: int) -> int:
        """Problems of one task in a batch, at most: it may make up for one and run ahead by one."""
        return min(self.batch_size, math.ceil(self.fractions[task] * self.batch_size) + 1)

    def _next(self) -> int:
        place = sum(self._dealt) + 1
        behind = [
            (Fraction(dealt + 1) / share, task)
            for task, (dealt, share) in enumerate(zip(self._dealt, self.fractions, strict=True))
            if dealt < share * place
        ]
        return min(behind)[1]


class ProblemOrder:
    """One task's part of a stage's batches, and the pool set aside for demonstrations.

    Every epoch is a new permutation, cut into whole batches; what is left over waits for the next
    epoch. Batch i depends on the seed and on i only, so that a fast phase can look ahead and a
    resumed run goes on where it was.

    Args:
        problems: the train split.
        size: how many problems batch i takes, given i.
        most: the most that it ever takes.
        pool: problems to set aside, at most; a quarter of the split if that is less.
        seed_context: problems that it shows are neither asked nor set aside.
        seed: of the order.
        name: of the task, for messages.

    Raises:
        InputError: there are fewer problems left than one batch may take.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        size: Callable[[int], int],
        most: int,
        pool: int,
        seed_context: Context,
        seed: int,
        name: str,
    ) -> None:
        usable = [problem for problem in problems if not seed_context.shows(problem)]
        shuffled = _permuted(usable, derive_seed(seed, "pool"))
        set_aside = min(pool, len(shuffled) // 4)
        self.pool: tuple[Problem, ...] = tuple(shuffled[:set_aside])
        self._asked = shuffled[set_aside:]
        self._size = size
        self._seed = seed
        self._starts = [(0, 0)]  # (epoch, place) of the first batches
        if len(self._asked) < most:
            raise InputError(
                f"slow.problems: a batch takes {most} problems, but the train split of task "
                f"{name} has {len(self._asked)} to ask ({len(problems)} in all, {set_aside} set "
                "aside for demonstrations): lower slow.problems or fast.pool, or give more data"
            )

    def batch(self, index: int) -> list[Problem]:
        """This task's part of batch ``index`` of the stage, from 0: different problems."""
        while len(self._starts) <= index:
            self._starts.append(self._after(len(self._starts) - 1))
        epoch, place = self._starts[index]
        order = _permuted(self._asked, derive_seed(self._seed, "epoch", epoch))
        return order[place : place + self._size(index)]

    def _after(self, index: int) -> tuple[int, int]:
        """Where the batch begins that follows batch ``index``."""
        epoch, place = self._starts[index]
        place += self._size(index)
        fits = place + self._size(index + 1) <= len(self._asked)
        return (epoch, place) if fits else (epoch + 1, 0)


class BatchOrder:
    """The batches of a stage: of every task its share."""

    def __init__(self, parts: Sequence[ProblemOrder]) -> None:
        self._parts = tuple(parts)

    @property
    def pool(self) -> tuple[Problem, ...]:
        """What all tasks set aside for demonstrations."""
        return tuple(problem for part in self._parts for problem in part.pool)

    def batch(self, index: int) -> list[Problem]:
        """Batch number ``index`` of the stage, from 0: P different problems, task by task."""
        return [problem for part in self._parts for problem in part.batch(index)]

    def lookahead(self, start: int, count: int) -> list[list[Problem]]:
        """The next ``count`` batches: the problems of a cycle (paper, fast phase)."""
        return [self.batch(index) for index in range(start, start + count)]


def _permuted(problems: Sequence[Problem], seed: int) -> list[Problem]:
    order = list(problems)
    random.Random(seed).shuffle(order)
    return order
