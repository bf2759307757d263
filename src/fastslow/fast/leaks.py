"""Contexts that give answers away: which problems of a phase a text quotes or answers.

A context is scored on the very problems that its proposer may have seen. One that quotes them, or
that holds a table of their answers, would score by that alone. Nothing here decides what a text
means; three kinds of overlap are looked for, after case, accents, punctuation, white space, hidden
characters and look-alike letters are put aside:

- *runs*: stretches of ``_RUN`` letters that a question has, or a long reference, and most others of
  the phase do not: what is left of it is the problem less its template;
- *words*: the rare words and numbers of a question, in whatever order they stand;
- *pairs*: a reference that stands beside rare words of its question, as in a table.

A translation, a paraphrase in other words or a text in code escapes.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any

from fastslow.text import is_hidden
from fastslow.types import Context, Problem, normalise_question

_RUN = 8
"""Letters of a run. Shorter ones are everywhere, and longer ones miss more changes."""

_SHORTEST = 12
"""Letters that a question has at least to be known by its runs. A shorter one, "Write 3." for
instance, counts as quoted only where it stands as it is."""

_COMMON = 0.05
"""The share of a phase's questions above which what they have in common is their template."""

_FEW = 16
"""A question with fewer runs of its own is too much like the others to be known by half of them."""

_HALF, _MOST = 0.6, 0.9
"""The share of its own runs from which on a question is quoted; the share of all its runs, where
its own are few."""

_RARE_WORDS, _MOST_WORDS = 6, 0.8
"""The rare words that a question has at least to be known by them; the share that must be there."""

_LONG_REFERENCE = 16
"""Letters from which on a reference that no other problem has is in no text by chance."""

_TELLING_REFERENCE = 4
"""The same of one that stands beside rare words of its question."""

_TABLE = 3
"""Problems whose reference stands beside rare words of its question, to make a table."""

_NEAR = 8
"""Words on either side of a reference that are beside it."""

_FEW_WORDS = 6
"""Words of a question beside its template from which on only neighbours are paired."""

_MAX_LETTERS = 20_000
"""Letters of a question or a reference that are compared."""


class Leaks:
    """Finds the problems of a phase in a context.

    Args:
        problems: those to look for.
        others: further problems of the same tasks, which help to tell a template.
    """

    def __init__(self, problems: Sequence[Problem], others: Sequence[Problem] = ()) -> None:
        self._problems = [_Known(problem) for problem in problems]
        known = [*self._problems, *map(_Known, others)]
        distinct = list({one.question.squeezed: one for one in known}.values())
        limit = max(1, int(_COMMON * len(distinct)))
        run_counts = Counter(run for one in distinct for run in one.question.runs)
        word_counts = Counter(word for one in distinct for word in one.question.words)
        for one in known:
            one.keys = one.possible_keys(
                {w for w, n in word_counts.items() if 2 * n <= len(distinct)}
            )
        key_counts = Counter(key for one in distinct for key in one.keys)
        answer_counts = Counter(answer for one in known for answer in one.answers)
        self._run_index: dict[str, list[int]] = defaultdict(list)
        for number, one in enumerate(self._problems):
            one.own_runs = {run for run in one.question.runs if run_counts[run] <= limit}
            one.rare_words = {word for word in one.question.words if word_counts[word] <= limit}
            one.keys = {key for key in one.keys if key_counts[key] == 1}
            one.only_answers = {a for a in one.answers if answer_counts[a] == 1}
            for run in one.question.runs:
                self._run_index[run].append(number)
        self._passages = self._long_references()

    def given_away_by(self, context: Context) -> dict[str, str]:
        """The problems that ``context`` gives away: how, by the id of the problem.

        Instructions are searched for everything. A demonstration, which a task made from another
        problem of its kind, is like many of them: it gives away the one that it shows.
        """
        found: dict[str, str] = {}
        shown = {_signature(turn.question) for turn in context.demonstrations}
        for one in self._problems:
            if context.shows(one.problem) or _signature(one.problem.question) in shown:
                found[one.problem.id] = "shows"
        if context.instructions:
            for one, how in self._in_instructions(context.instructions):
                found.setdefault(one.problem.id, how)
        return found

    def _in_instructions(self, instructions: str) -> Iterator[tuple[_Known, str]]:
        text, plain = _Text(instructions), normalise_question(instructions)
        for one in self._quoted(text.runs | _Text(_without_spelling(instructions)).runs):
            yield one, "quotes the question of"
        for one in self._problems:
            if one.question.is_short and normalise_question(one.problem.question) in plain:
                yield one, "quotes the question of"
            elif (
                len(one.rare_words) >= _RARE_WORDS
                and _share(one.rare_words, text.words) >= _MOST_WORDS
            ):
                yield one, "holds the words of the question of"
        for number, runs in self._passages:
            if _share(runs, text.runs) >= (_HALF if len(runs) >= _FEW else _MOST):
                yield self._problems[number], "quotes the answer to"
        yield from self._answered(text)

    def _quoted(self, runs: set[str]) -> Iterator[_Known]:
        """The problems whose question stands in the text of these runs."""
        hits = Counter(number for run in runs for number in self._run_index.get(run, ()))
        for number, count in hits.items():
            one = self._problems[number]
            own, share = _share(one.own_runs, runs, 1.0), count / len(one.question.runs)
            by_own = own >= _HALF if len(one.own_runs) >= _FEW else own == 1 and share >= _MOST
            if by_own and not one.question.is_short:
                yield one

    def _long_references(self) -> list[tuple[int, set[str]]]:
        """The runs of each reference that is long and no other problem's, less what its own
        question says."""
        texts = [(n, text) for n, one in enumerate(self._problems) for text in one.references]
        long = [(n, text) for n, text in texts if len(text.squeezed) >= _LONG_REFERENCE]
        counts = Counter(run for _, text in long for run in text.runs)
        asked = {run for one in self._problems for run in one.question.runs}
        passages = ((n, {r for r in t.runs if counts[r] == 1} - asked) for n, t in long)
        return [(n, runs) for n, runs in passages if len(runs) > _LONG_REFERENCE - _RUN]

    def _answered(self, text: _Text) -> Iterator[tuple[_Known, str]]:
        """The problems whose reference stands beside rare words of its question, if it could be no
        other problem's, or if there are as many as make a table."""
        table, places = [], set[int]()
        for one in self._problems:
            beside = {a: place for a in one.answers if (place := _beside(a, one.keys, text)) >= 0}
            if any(a in one.only_answers and one.is_telling(a) for a in beside):
                yield one, "answers"
            elif beside:
                table.append(one)
                places |= set(beside.values())
        if min(len(table), len(places)) >= _TABLE:
            for one in table:
                yield one, "holds a table of answers with that to"


class _Known:
    """A problem in the forms in which it is looked for."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.question = _Text(problem.question[:_MAX_LETTERS])
        self.references = [_Text(leaf[:_MAX_LETTERS]) for leaf in _leaves(problem.reference)]
        self.answers = {
            text.tokens for text in self.references if 0 < len(text.squeezed) <= _LONG_REFERENCE * 2
        }
        self.own_runs: set[str] = set()
        self.rare_words: set[str] = set()
        self.keys: set[frozenset[str]] = set()
        self.only_answers: set[tuple[str, ...]] = set()

    def possible_keys(self, varying: set[str]) -> set[frozenset[str]]:
        """What a table could know the question by, if no other has it: a word, or two words. Of a
        long question, two that stand together.

        Args:
            varying: words that are no template's.
        """
        tokens = [token for token in self.question.tokens if token in varying]
        words = set(tokens)
        pairs = combinations(sorted(words), 2) if len(words) <= _FEW_WORDS else pairwise(tokens)
        return {frozenset([word]) for word in words} | {frozenset(pair) for pair in pairs}

    def is_telling(self, answer: tuple[str, ...]) -> bool:
        """Whether an answer is not beside words of the question by chance."""
        letters = "".join(answer)
        is_long = len(letters) >= _TELLING_REFERENCE and not letters.isdigit()
        return is_long and not set(answer) <= self.question.words


@dataclass(frozen=True)
class _Text:
    """A text as it is compared."""

    text: str

    @cached_property
    def _folded(self) -> str:
        return _fold(self.text)

    @cached_property
    def _parts(self) -> list[tuple[str, str]]:
        """Each word or number, after what stands between it and the one before."""
        parts, end = [], 0
        for match in _TOKEN.finditer(self._folded):
            parts.append((self._folded[end : match.start()], match[0].replace(",", "")))
            end = match.end()
        return parts

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return tuple(token for _, token in self._parts)

    @cached_property
    def words(self) -> set[str]:
        return set(self.tokens)

    @cached_property
    def gaps(self) -> list[str]:
        """What stands before each token."""
        return [gap for gap, _ in self._parts]

    def places(self, token: str) -> list[int]:
        """Where a token stands."""
        return self._places.get(token, [])

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = defaultdict(list)
        for place, token in enumerate(self.tokens):
            places[token].append(place)
        return places

    @cached_property
    def squeezed(self) -> str:
        """All letters and numbers in one. Numbers are marked off, since 1 is no part of 11."""
        return "".join(f"#{t}#" if t[0].isdigit() else t for t in self.tokens)

    @cached_property
    def runs(self) -> set[str]:
        whole = self.squeezed
        return {whole[i : i + _RUN] for i in range(len(whole) - _RUN + 1)}

    @property
    def is_short(self) -> bool:
        """Whether it has too few letters to be known by its runs."""
        return len(self.squeezed) < _SHORTEST


_SPELLED = re.compile(r"(?<![^\W_])(?:[^\W_][\W_]{1,3}){6,}[^\W_](?![^\W_])")
"""A text whose letters are held apart: T-h-i-s or l i k e  t h i s."""

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")

_BEFORE_AN_ANSWER = re.compile(r"[:=→⇒>|\t–—-]")  # noqa: RUF001
_VERBS = {"is", "are", "answer", "answers", "equals", "gives", "say", "write", "reply", "output"}
"""What leads to an answer in a table, as a sign or as a word."""


def _beside(answer: tuple[str, ...], keys: set[frozenset[str]], text: _Text) -> int:
    """The first place where ``answer`` stands in ``text``, led to or followed by a sign of a table,
    with two words of its ``keys`` near it, or their only one; -1 if there is none."""
    needed = min(2, len(frozenset().union(*keys)))
    if not needed or not set(answer) <= text.words:
        return -1
    tokens, size = text.tokens, len(answer)
    for place in text.places(answer[0]):
        stop = place + size
        if tokens[place:stop] != answer:
            continue
        led = _BEFORE_AN_ANSWER.search(text.gaps[place]) or tokens[max(place - 1, 0)] in _VERBS
        if led and _hits(tokens[max(place - _NEAR, 0) : place], keys) >= needed:
            return place
        leads = stop < len(tokens) and _BEFORE_AN_ANSWER.search(text.gaps[stop])
        if leads and _hits(tokens[stop : stop + _NEAR], keys) >= needed:
            return place
    return -1


def _hits(tokens: Sequence[str], keys: set[frozenset[str]]) -> int:
    """How many words of the keys that are whole among ``tokens``."""
    words = set(tokens)
    return len(frozenset().union(*(key for key in keys if key <= words)))


def _signature(question: str) -> str:
    """What two questions have in common that ask the same: letters, numbers and signs of reckoning,
    without which two sums would be one."""
    return re.sub(r"[^\w+*/^=<>%×÷−-]", "", _fold(question))  # noqa: RUF001


def _without_spelling(text: str) -> str:
    """``text`` with the letters of what is spelled out put together again."""
    return _SPELLED.sub(lambda found: re.sub(r"[\W_]+", "", found[0]), _fold(text))


def _share(wanted: set[Any], found: set[Any], nothing: float = 0.0) -> float:
    """The share of ``wanted`` that is in ``found``."""
    return len(wanted & found) / len(wanted) if wanted else nothing


def _leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a reference, whatever it is made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, (int, float)):
        yield str(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _leaves([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, Mapping):
        yield from _leaves(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        for item in value:
            yield from _leaves(item)


_LOOK_ALIKES = str.maketrans(
    "авсԁеһніӏјкмноорԛѕтухԝ" + "αβεγηικμνορτυχωζ" + "օսհո" + "ıɑɡɩ",  # noqa: RUF001
    "abcdehhiljkmhoopqstyxw" + "abeyhikmvoptuxwz" + "ouhn" + "iagi",
)
"""Letters of other scripts, small ones, that look like Latin ones or whose capitals do."""


def _fold(text: str) -> str:
    """``text`` without what a reader does not tell apart: case, accents, look-alike letters, hidden
    characters, and the forms of one letter that Unicode knows."""
    if text.isascii():
        return text.casefold()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    seen = (c for c in plain if not is_hidden(c) and not unicodedata.combining(c))
    return "".join(seen).translate(_LOOK_ALIKES)
