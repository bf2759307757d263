"""The tasks of a run, and problems that keep their task in their id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from fastslow.errors import InputError
from fastslow.tasks.contract import Ids, problems_of
from fastslow.tasks.grading import Graders
from fastslow.tasks.protocol import Task
from fastslow.types import Failure, Problem, Split, Verdict


class Curriculum:
    """All tasks of a run by name; problems go back to the task that they came from.

    The stages of a run share its contexts and the tasks of a stage its batches, but two tasks may
    both have a problem "1". Where there are several tasks, an id is therefore "task/1". A task
    itself never sees ids but its own.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = dict(tasks)
        self._here = {name: Graders(task, here=True) for name, task in tasks.items()}
        self._graders = self._here
        self._ids = {name: Ids(name, repeats=False) for name in tasks}
        self._problems: dict[tuple[str, Split], tuple[Problem, ...]] = {}
        self._origins: dict[str, tuple[str, Problem]] = {}
        self.known: dict[str, Problem] = {}
        """Every problem that was given so far, by its id."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tasks)

    def task_of(self, problem: Problem) -> str:
        """The name of the task that a problem came from."""
        return self._origins[problem.id][0]

    def problems(self, name: str, split: Split) -> tuple[Problem, ...]:
        """The problems of a task's split.

        Raises:
            InputError: the task does, it gives something else than problems, or an id occurs twice
                in what it has given so far.
        """
        if (name, split) not in self._problems:
            own = problems_of(name, split, self._tasks[name].problems(split))
            self._ids[name].add(split, own)
            adopted = tuple(self._adopt(name, problem) for problem in own)
            self._problems[name, split] = adopted
            self.known |= {problem.id: problem for problem in adopted}
        return self._problems[name, split]

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """As long as it lasts, every task grades in processes of its own (``tasks.grading``), so
        that no verifier can stop the run."""
        with ExitStack() as stack:
            self._graders = {
                name: stack.enter_context(Graders(task)) for name, task in self._tasks.items()
            }
            try:
                yield
            finally:
                self._graders = self._here

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | Failure]:
        """Verdicts on (problem, completion) pairs, in order, each by the problem's own task, or
        failures to reach one. Raises: as ``Graders.grade``."""
        places: dict[str, list[int]] = {}
        for place, (problem, _) in enumerate(pairs):
            places.setdefault(self.task_of(problem), []).append(place)
        verdicts: dict[int, Verdict | Failure] = {}
        for name, own_places in places.items():
            own = [(self._origins[pairs[n][0].id][1], pairs[n][1]) for n in own_places]
            verdicts |= zip(own_places, self._graders[name].grade(own), strict=True)
        return [verdicts[place] for place in range(len(pairs))]

    def demonstrate(self, problem: Problem) -> str | None:
        """A completion that the problem's own task would score 1, if it can make one."""
        name, own = self._origins[problem.id]
        return self._graders[name].demonstrate(own)

    def _adopt(self, name: str, problem: Problem) -> Problem:
        if len(self._tasks) == 1:
            self._origins[problem.id] = (name, problem)
            return problem
        known = replace(problem, id=f"{name}/{problem.id}")
        other, _ = self._origins.setdefault(known.id, (name, problem))
        if other != name:  # "a/b" and "c" against "a" and "b/c"
            raise InputError(f"tasks {other} and {name} both have a problem {known.id!r}")
        return known
