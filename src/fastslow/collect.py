"""The one way to rollouts: fast phases, slow steps and evaluations all collect theirs here."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fastslow.errors import RunError
from fastslow.policy.base import Sampler, SampleRequest
from fastslow.run.observer import Phase
from fastslow.slow.anomalies import stop_if_not_finite
from fastslow.spread import spread
from fastslow.tasks.grading import settle
from fastslow.types import Context, Failure, Group, Pair, Problem, Rollout, Turn, Verdict

log = logging.getLogger("fastslow.rollouts")

Grade = Callable[[Sequence[tuple[Problem, str]]], list[Verdict | Failure]]
"""Grades completions of problems, in order, as far as the verifier does not fail."""

Seed = Callable[[str, str, int], int]
"""The seed of a rollout, from the problem's id, the context's digest, and its number among the
rollouts of the problem that were wanted together."""


def spread_over(problems: Sequence[Problem], contexts: Sequence[Context], count: int) -> list[Pair]:
    """``count`` pairs for each problem, spread over the contexts that do not show it."""
    return [
        (problem, context)
        for turn, problem in enumerate(problems)
        for context in spread(problem, contexts, count, turn)
    ]


def group_by_problem(problems: Sequence[Problem], rollouts: Sequence[Rollout]) -> list[Group]:
    """One group per problem, over all contexts, in the order of ``problems``.

    Left out are rollouts on which the verifier failed, since they have no reward, and problems with
    a rollout that could not be sampled.
    """
    unsampled = {rollout.problem.id for rollout in rollouts if not rollout.is_sampled}
    members: dict[str, list[Rollout]] = {p.id: [] for p in problems if p.id not in unsampled}
    for rollout in rollouts:
        if rollout.problem.id in members and rollout.is_graded:
            members[rollout.problem.id].append(rollout)
    by_id = {problem.id: problem for problem in problems}
    return [Group(by_id[name], tuple(members[name])) for name in members]


@dataclass(frozen=True)
class Collector:
    """Samples and grades.

    Attributes:
        grade: the verifiers.
        task_of: the name of a problem's task, for messages.
        on_progress: receives the phase, the rollouts sampled so far, and how many it will be at
            most.
        check_interruption: called where nothing is half done; raises to stop the run.
    """

    grade: Grade
    task_of: Callable[[Problem], str]
    on_progress: Callable[[Phase, int, int], None] = lambda phase, done, total: None
    check_interruption: Callable[[], None] = lambda: None

    def begin(self, phase: Phase, sampler: Sampler, total: int | None = None) -> Collection:
        """Begin a phase of at most ``total`` rollouts; None: as many as its one call wants."""
        return Collection(self, phase, sampler, total)


@dataclass
class Collection:
    """The rollouts of one phase under one sampler.

    Attributes:
        sampled: rollouts that were sampled in this phase, in order.
        reused: rollouts that were wanted and had been sampled before, in order.
    """

    collector: Collector
    phase: Phase
    sampler: Sampler
    total: int | None = None
    sampled: list[Rollout] = field(default_factory=list)
    reused: list[Rollout] = field(default_factory=list)

    def __call__(
        self,
        pairs: Sequence[Pair],
        seed: Seed,
        reusable: Mapping[tuple[str, str], Rollout] | None = None,
    ) -> list[Rollout]:
        """One graded rollout for each (problem, context) pair, in order.

        A reusable rollout, by (problem id, context digest), takes the place of the first of its
        pair. All others are sampled together, and graded as they end. A prompt that leaves no room
        for a completion in the model's window is logged as an error and not sampled: its rollout
        has no tokens, scores 0, and says why in its feedback.

        Raises:
            ValueError: a context shows its problem.
            RunError: the verifier failed on every rollout of the phase's first call; or, in a phase
                without an update, a log-probability is not finite.
        """
        reusable = dict(reusable or {})
        found: dict[int, Rollout] = {}
        asked: dict[tuple[str, str], list[tuple[int, int]]] = {}  # place and seed, by pair
        numbers: dict[str, int] = {}
        for place, (problem, context) in enumerate(pairs):
            number = numbers[problem.id] = numbers.get(problem.id, -1) + 1
            key = problem.id, context.digest
            if (known := reusable.pop(key, None)) is not None:
                found[place] = known
            else:
                asked.setdefault(key, []).append((place, seed(*key, number)))
        self.reused += found.values()
        fresh = self._sample(pairs, list(asked.values()))
        is_first = not self.sampled
        ordered = [fresh[place] for place in sorted(fresh)]
        self.sampled += ordered
        if self.phase != "slow":
            stop_if_not_finite(ordered)
        if is_first:
            stop_if_ungraded(ordered, self.collector.task_of)
        found |= fresh
        return [found[place] for place in range(len(pairs))]

    def _sample(
        self, pairs: Sequence[Pair], asked: Sequence[Sequence[tuple[int, int]]]
    ) -> dict[int, Rollout]:
        """Rollouts by their places in ``pairs``. Places of one pair share a prompt."""
        found: dict[int, Rollout] = {}
        requests: list[SampleRequest] = []
        places: list[list[int]] = []
        for wanted in asked:
            problem, context = pairs[wanted[0][0]]
            prompt = self._prompt(problem, context)
            if reason := self._too_long(problem, context, prompt):
                log.error("%s", reason)
                refused = self._unsampled(problem, context, prompt, reason)
                found |= {place: refused for place, _ in wanted}
                continue
            requests.append(SampleRequest(prompt, tuple(seed for _, seed in wanted)))
            places.append([place for place, _ in wanted])
        if not requests:
            return found
        done, count = len(self.sampled), sum(map(len, places))
        total = self.total if self.total is not None else count
        turns: dict[int, Turn] = {}

        with Grading(self.collector.grade) as grading:

            def end(request: int, seed: int, turn: Turn) -> None:
                self.collector.check_interruption()
                place = places[request][seed]
                turns[place] = turn
                grading.add(place, (pairs[place][0], turn.text))
                self.collector.on_progress(self.phase, done + len(turns), total)

            self.collector.check_interruption()
            self.sampler.sample(requests, on_turn=end)
            verdicts = settled(pairs, grading.finish(), self.collector.task_of)
        version = self.sampler.version
        return found | {
            place: Rollout(*pairs[place], (turn,), verdicts[place], version)
            for place, turn in turns.items()
        }

    def _prompt(self, problem: Problem, context: Context) -> tuple[int, ...]:
        if context.shows(problem):
            raise ValueError(f"context {context.digest} shows problem {problem.id!r}")
        return self.sampler.encode(context, problem.question)

    def _too_long(self, problem: Problem, context: Context, prompt: tuple[int, ...]) -> str | None:
        """Why the prompt cannot be sampled from, if it cannot."""
        sampler = self.sampler
        if len(prompt) + sampler.max_tokens <= sampler.window:
            return None
        return (
            f"problem {problem.id!r} is left out: it makes a prompt of {len(prompt)} tokens under "
            f"context {context.digest}, which with policy.max_tokens, {sampler.max_tokens}, is "
            f"more than the model's window of {sampler.window}. Shorten the problem, lower "
            "policy.max_tokens or allow less context (fast.demonstrations.max_tokens)"
        )

    def _unsampled(
        self, problem: Problem, context: Context, prompt: tuple[int, ...], reason: str
    ) -> Rollout:
        nothing = Turn(prompt, (), (), "", finished=False)
        return Rollout(problem, context, (nothing,), Verdict(0.0, reason), self.sampler.version)


class Grading:
    """Grades completions in a thread of its own while others are still being sampled.

    The verifiers run in processes of their own (``tasks.grading``); the thread waits for them. A
    completion's verdict does not depend on when it is graded.
    """

    def __init__(self, grade: Grade) -> None:
        self._grade = grade
        self._queue: queue.SimpleQueue[tuple[int, tuple[Problem, str]] | None] = queue.SimpleQueue()
        self._verdicts: dict[int, Verdict | Failure] = {}
        self._error: BaseException | None = None
        self._is_broken_off = False
        self._thread = threading.Thread(target=self._work, name="fastslow-grading", daemon=True)

    def __enter__(self) -> Grading:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_broken_off = kind is not None
        self._queue.put(None)
        self._thread.join()

    def add(self, place: int, pair: tuple[Problem, str]) -> None:
        """Grade a completion. Raises: whatever grading the ones before it has raised."""
        if self._error is not None:
            raise self._error
        self._queue.put((place, pair))

    def finish(self) -> dict[int, Verdict | Failure]:
        """Verdicts of all that was added, by place. Raises: what ``Grade`` raises."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._verdicts

    def _work(self) -> None:
        """Grade all that waits, again and again: together, as verifiers run side by side."""
        is_over = False
        while not is_over:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            batch = [item for item in waiting if item is not None]
            is_over = len(batch) < len(waiting)
            if not batch or self._is_broken_off:
                continue
            try:
                verdicts = self._grade([pair for _, pair in batch])
            except BaseException as error:  # raised again where the rollouts are collected
                self._error = error
                return
            self._verdicts |= zip((place for place, _ in batch), verdicts, strict=True)


def settled(
    pairs: Sequence[Pair],
    outcomes: Mapping[int, Verdict | Failure],
    task_of: Callable[[Problem], str],
) -> dict[int, Verdict | Failure]:
    """Outcomes by place, settled for each task: see ``tasks.grading.settle``."""
    places: dict[str, list[int]] = {}
    for place in outcomes:
        places.setdefault(task_of(pairs[place][0]), []).append(place)
    found: dict[int, Verdict | Failure] = {}
    for own in places.values():
        found |= zip(own, settle([outcomes[place] for place in own]), strict=True)
    return found


def stop_if_ungraded(rollouts: Sequence[Rollout], task_of: Callable[[Problem], str]) -> None:
    """Raises: RunError, if the verifier failed on every one of ``rollouts`` that was sampled.

    ``task_of`` gives the name of a problem's task.
    """
    failures = [
        (rollout.problem, rollout.verdict)
        for rollout in rollouts
        if isinstance(rollout.verdict, Failure)
    ]
    if failures and len(failures) == sum(rollout.is_sampled for rollout in rollouts):
        problem, first = failures[0]
        raise RunError(
            f"every verdict of a batch failed, {len(failures)} of {len(failures)}. The first: task "
            f"{task_of(problem)}, problem {problem.id!r}: {first.reason}. A failed verdict is no "
            "score, so nothing can be learnt or measured here: mend the verifier\n"
            f"{first.trace}".rstrip()
        )
