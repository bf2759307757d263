"""The order in which a stage's training problems are asked."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fastslow.errors import InputError
from fastslow.seeding import derive_seed
from fastslow.types import Context, Problem


class ProblemOrder:
    """Batches of a stage, and the pool set aside for demonstrations.

    Every epoch is a new permutation, cut into whole batches; what is left over waits for the next
    epoch. Batch i depends on the seed and on i only, so that a fast phase can look ahead and a
    resumed run goes on where it was.

    Args:
        problems: the train split.
        batch_size: P.
        pool: problems to set aside, at most; a quarter of the split if that is less.
        seed_context: problems that it shows are neither asked nor set aside.
        seed: of the order.
        name: of the task, for messages.

    Raises:
        InputError: there are fewer problems left than one batch takes.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        batch_size: int,
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
        self._batch_size = batch_size
        self._seed = seed
        if len(self._asked) < batch_size:
            raise InputError(
                f"slow.problems: a batch takes {batch_size} problems, but the train split of task "
                f"{name} has {len(self._asked)} to ask ({len(problems)} in all, {set_aside} set "
                "aside for demonstrations): lower slow.problems or fast.pool, or give more data"
            )

    def batch(self, index: int) -> list[Problem]:
        """Batch number ``index`` of the stage, from 0: P different problems."""
        per_epoch = len(self._asked) // self._batch_size
        epoch, place = divmod(index, per_epoch)
        order = _permuted(self._asked, derive_seed(self._seed, "epoch", epoch))
        return order[place * self._batch_size : (place + 1) * self._batch_size]

    def lookahead(self, start: int, count: int) -> list[list[Problem]]:
        """The next ``count`` batches: the problems of a cycle (paper, fast phase)."""
        return [self.batch(index) for index in range(start, start + count)]


def _permuted(problems: Sequence[Problem], seed: int) -> list[Problem]:
    order = list(problems)
    random.Random(seed).shuffle(order)
    return order
