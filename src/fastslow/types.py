"""The vocabulary of Fast-Slow Training as plain, immutable dataclasses.

This module imports nothing of the project and no numerical library, so that every other part can
speak the same words. Symbols refer to the paper (arXiv 2605.12484): theta are the slow weights,
phi a context, Phi the population of contexts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Message = dict[str, str]
"""One chat turn: ``{"role": "system" | "user" | "assistant", "content": text}``."""


def normalise_question(question: str) -> str:
    """The form in which two questions are compared: case and white space do not tell them apart."""
    return " ".join(question.split()).casefold()


@dataclass(frozen=True)
class Problem:
    """One training item x.

    Attributes:
        id: unique within its task, stable between runs.
        question: the text of the user's turn.
        reference: whatever the task's verifier needs to grade a completion.
    """

    id: str
    question: str
    reference: Any = None


MAX_FEEDBACK = 20_000
"""Characters of a verdict's feedback: it is held in memory, written for every rollout and shown to
the reflection model."""


class ScoreError(ValueError):
    """A number was given for a score that lies outside [0, 1]: a fault of the task."""


class FeedbackError(TypeError):
    """Something else than text was given for feedback: a fault of the task."""


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of one completion. A verifier that says nothing is a ``Failure``.

    Attributes:
        score: the reward r(x, y), a ``float`` in [0, 1]. Any real number is converted, of NumPy,
            torch, ``decimal`` or ``fractions`` as well.
        feedback: text for the fast learner: what was expected, in which format, what went wrong.
            Of more than ``MAX_FEEDBACK`` characters the start and the end are kept.

    Raises:
        ScoreError: the score is a number outside [0, 1], NaN included.
        TypeError: the score is no single real number.
        FeedbackError: the feedback is no text.
    """

    score: float
    feedback: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", _score(self.score))
        if not isinstance(self.feedback, str):
            raise FeedbackError(f"a verdict's feedback is text; found {_shown(self.feedback)}")
        object.__setattr__(self, "feedback", _without_middle(self.feedback, MAX_FEEDBACK))


def _without_middle(text: str, limit: int) -> str:
    """``text`` in ``limit`` characters at most, with a mark where its middle was."""
    if len(text) <= limit:
        return text
    mark = f"\n[... {len(text):,} characters, cut ...]\n"
    kept = limit - len(mark)
    return f"{text[: kept - kept // 2]}{mark}{text[len(text) - kept // 2 :]}"


def _score(value: Any) -> float:
    scalar = value.item() if getattr(value, "shape", None) == () else value  # NumPy, torch
    if getattr(scalar, "shape", ()) != () or not hasattr(type(scalar), "__float__"):
        raise TypeError(f"a verdict's score is a number in [0, 1]; found {_shown(value)}")
    try:
        score = float(scalar)
    except OverflowError:  # a whole number of more than 300 digits
        score = math.inf
    if not 0.0 <= score <= 1.0:  # NaN included
        raise ScoreError(f"a verdict's score lies in [0, 1]; found {_shown(value)}")
    return score


def _shown(value: object) -> str:
    """``value`` as messages show it: on one short line, with its type unless that is plain."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number may have too many digits to be written
        text = "a value that cannot be shown"
    text = text if len(text) <= 80 else f"{text[:80]}..."
    plain = value is None or type(value) is float
    return text if plain else f"{text} of type {type(value).__name__}"


def same_reward(a: float, b: float) -> bool:
    """Whether two rewards differ by rounding alone: by less than a millionth of the larger one, or
    by less than 1e-9. 0.1 + 0.2 and 0.3 are the same reward."""
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


@dataclass(frozen=True)
class Failure:
    """A verifier that reached no verdict on a completion: there is no score.

    Attributes:
        reason: what it did instead, on a line.
        trace: its traceback, "" where there is none.
        stopped: whether it was stopped at its limit of time or memory. A completion can bring that
            about, so where the verifier works otherwise this is the completion's fault.
    """

    reason: str
    trace: str = ""
    stopped: bool = False


@dataclass(frozen=True)
class Demonstration:
    """A solved problem shown to the model as one user turn and one assistant turn.

    Attributes:
        question: the user's turn.
        answer: the assistant's turn, in the format the verifier wants.
        problem_id: the problem it was made from, if any. Not part of the context's identity.
    """

    question: str
    answer: str
    problem_id: str | None = None


@dataclass(frozen=True)
class Context:
    """Fast weights phi: the instructions and the demonstrations that the model reads.

    Two contexts that read the same have the same digest, whatever problems they were made from.
    """

    instructions: str = ""
    demonstrations: tuple[Demonstration, ...] = ()

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that depend only on what the model reads; stable between runs."""
        turns = [[d.question, d.answer] for d in self.demonstrations]
        text = json.dumps([self.instructions, turns], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def messages(self, question: str) -> list[Message]:
        """The chat turns in which the model reads this context and is asked ``question``."""
        turns: list[Message] = []
        if self.instructions:
            turns.append({"role": "system", "content": self.instructions})
        for demonstration in self.demonstrations:
            turns.append({"role": "user", "content": demonstration.question})
            turns.append({"role": "assistant", "content": demonstration.answer})
        turns.append({"role": "user", "content": question})
        return turns

    def shows(self, problem: Problem) -> bool:
        """Whether this context gives the answer to ``problem`` away, by its id or its question."""
        question = normalise_question(problem.question)
        return any(
            d.problem_id == problem.id or normalise_question(d.question) == question
            for d in self.demonstrations
        )


Pair = tuple[Problem, Context]
"""A problem, and a context to ask it under."""


@dataclass(frozen=True)
class Candidate:
    """A context with its history: where it came from and how it did.

    Attributes:
        context: the context itself.
        parents: digests of the contexts it was made from.
        origin: "seed", or the name of the proposer that made it.
        cycle: the cycle in which it was proposed.
        scores: score per problem id, from one rollout each, under the policy of the latest fast
            phase that scored it. A candidate rejected early has the scores of its minibatch only.
        shown: ids of the problems that proposers of that phase were shown. Their scores do not
            count: a context may have been written for them.
    """

    context: Context
    parents: tuple[str, ...] = ()
    origin: str = "seed"
    cycle: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()

    @property
    def counted(self) -> dict[str, float]:
        """The scores that count, in the order of ``scores``."""
        return {name: score for name, score in self.scores.items() if name not in self.shown}

    @property
    def mean(self) -> float | None:
        """Mean of the scores that count, or None where there are none."""
        counted = self.counted
        return sum(counted.values()) / len(counted) if counted else None


@dataclass(frozen=True)
class Population:
    """Phi: the K candidates kept for one cycle, best mean first."""

    candidates: tuple[Candidate, ...]

    def __post_init__(self) -> None:
        digests = self.digests
        if not digests:
            raise ValueError("a population holds at least one context")
        if len(set(digests)) != len(digests):
            raise ValueError(f"a population holds each context once; found {digests}")

    @property
    def contexts(self) -> tuple[Context, ...]:
        return tuple(candidate.context for candidate in self.candidates)

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(candidate.context.digest for candidate in self.candidates)

    @property
    def best(self) -> Candidate:
        """The first candidate: optimisers hand a population over with the best mean first."""
        return self.candidates[0]


class TokenSequence(NamedTuple):
    """Token ids, some of which are scored: those that the policy sampled, in one turn or several.

    Attributes:
        tokens: all of them, up to the last one that is scored or further.
        scored: positions of the scored tokens, ascending. There is at least one, and none is 0:
            nothing predicts the first token.
    """

    tokens: Sequence[int]
    scored: Sequence[int]

    @classmethod
    def of(cls, prompt: Sequence[int], completion: Sequence[int]) -> TokenSequence:
        """A prompt and its completion, all of which is scored; neither is empty."""
        end = len(prompt) + len(completion)
        return cls([*prompt, *completion], range(len(prompt), end))

    @property
    def targets(self) -> list[int]:
        """The scored tokens."""
        return [self.tokens[position] for position in self.scored]


@dataclass(frozen=True)
class Turn:
    """A stretch of a rollout: tokens that the policy read, and the tokens that it then sampled.

    Attributes:
        read: token ids that were read since the turn before; in the first turn the prompt.
        sampled: sampled token ids, with the end token if one was sampled.
        logprobs: log pi_behaviour of each sampled token, in nats, same length as ``sampled``; of
            the distribution that was sampled from (the temperature is applied).
        text: the sampled tokens as text, without special tokens.
        finished: whether the model ended the turn, as opposed to the token limit.
    """

    read: tuple[int, ...]
    sampled: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finished: bool


@dataclass(frozen=True)
class Rollout:
    """What the policy did with one problem under one context, turn by turn, and its verdict.

    Attributes:
        problem: the problem it is about.
        context: the context that it was sampled under.
        turns: at least one. The first reads the prompt.
        verdict: what the verifier said of it.
        policy_version: number of updates that the policy had seen.
    """

    problem: Problem
    context: Context
    turns: tuple[Turn, ...]
    verdict: Verdict | Failure
    policy_version: int

    @property
    def text(self) -> str:
        """The text of all turns that the policy sampled, one below the other."""
        return "\n".join(turn.text for turn in self.turns)

    @property
    def finished(self) -> bool:
        """Whether the model ended every turn, as opposed to the token limit."""
        return all(turn.finished for turn in self.turns)

    @property
    def prompt(self) -> tuple[int, ...]:
        """Token ids that were read before the first sampled one."""
        return self.turns[0].read

    @property
    def sampled(self) -> tuple[int, ...]:
        """Sampled token ids of all turns."""
        return tuple(token for turn in self.turns for token in turn.sampled)

    @property
    def logprobs(self) -> tuple[float, ...]:
        """log pi_behaviour of each sampled token, in nats."""
        return tuple(logprob for turn in self.turns for logprob in turn.logprobs)

    @property
    def sequence(self) -> TokenSequence:
        """All tokens in order, of which the sampled ones are scored."""
        tokens: list[int] = []
        scored: list[int] = []
        for turn in self.turns:
            tokens += turn.read
            scored += range(len(tokens), len(tokens) + len(turn.sampled))
            tokens += turn.sampled
        return TokenSequence(tokens, scored)

    @property
    def key(self) -> tuple[str, str]:
        """Problem id and context digest."""
        return self.problem.id, self.context.digest

    @property
    def is_graded(self) -> bool:
        """Whether there is a verdict on it, and so a reward."""
        return isinstance(self.verdict, Verdict)

    @property
    def reward(self) -> float:
        """The score. Raises: ValueError, if the verifier failed: a failure is no score."""
        return self._graded.score

    @property
    def feedback(self) -> str:
        """The verifier's feedback. Raises: ValueError, if it failed."""
        return self._graded.feedback

    @property
    def _graded(self) -> Verdict:
        if isinstance(self.verdict, Failure):
            raise ValueError(f"{self.label} was not graded: {self.verdict.reason}")
        return self.verdict

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"problem {self.problem.id} under context {self.context.digest}"

    @property
    def is_sampled(self) -> bool:
        """Whether there was room to sample it: a prompt may fill the model's window."""
        return bool(self.turns[0].sampled)


@dataclass(frozen=True)
class Group:
    """The graded rollouts of ONE problem, across all contexts: the advantage is formed over these.

    They are G, less those on which the verifier failed.
    """

    problem: Problem
    rollouts: tuple[Rollout, ...]

    def __post_init__(self) -> None:
        strangers = {r.problem.id for r in self.rollouts} - {self.problem.id}
        if strangers:
            raise ValueError(f"a group holds one problem, {self.problem.id!r}; found {strangers}")
        if not all(rollout.is_graded for rollout in self.rollouts):
            raise ValueError(f"a group of problem {self.problem.id!r} holds graded rollouts only")

    @property
    def rewards(self) -> tuple[float, ...]:
        return tuple(rollout.reward for rollout in self.rollouts)


@dataclass(frozen=True)
class Datum:
    """One sequence to learn from, token by token: the one shape for every slow learner.

    Attributes:
        tokens: [n] token ids, those that were read and those that were sampled.
        mask: [n] True for tokens that the policy sampled: the gradient is taken on these alone.
        logprobs: [n] log pi_behaviour in nats; 0 for tokens that were read.
        advantages: [n] A_t; 0 for tokens that were read.
        weights: [n] factor of each token's loss in the batch's sum; 0 for tokens that were read.
        policy_version: number of updates the behaviour policy had seen; None where the tokens were
            sampled after another prompt than they stand behind here.
        source: what messages call the rollout.
        teacher_prompt: what a teacher reads in the place of the tokens before the first sampled
            one; None where there is no teacher.
    """

    tokens: Sequence[int]
    mask: Sequence[bool]
    logprobs: Sequence[float]
    advantages: Sequence[float]
    weights: Sequence[float]
    policy_version: int | None
    source: str = ""
    teacher_prompt: Sequence[int] | None = None

    @property
    def sequence(self) -> TokenSequence:
        """The tokens, of which the sampled ones are scored."""
        scored = [position for position, sampled in enumerate(self.mask) if sampled]
        return TokenSequence(self.tokens, scored)

    @property
    def teacher_sequence(self) -> TokenSequence:
        """The same sampled tokens behind the teacher's prompt. Raises: ValueError without one."""
        if self.teacher_prompt is None:
            raise ValueError("the datum names no teacher")
        scored = self.sequence.scored
        shift = len(self.teacher_prompt) - scored[0]
        tokens = [*self.teacher_prompt, *self.tokens[scored[0] :]]
        return TokenSequence(tokens, [position + shift for position in scored])
