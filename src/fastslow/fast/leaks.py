"""Finds contexts that leak answers: contexts that quote or answer problems of a phase.

A context is scored on problems that its proposer may have seen. A context that quotes the problems,
or contains a table of their answers, would score by that alone. This module does not interpret
texts. It looks for three kinds of overlap, and ignores case, accents, punctuation, white space,
hidden characters and look-alike letters:

- *runs*: ``_RUN`` letters in sequence that a question or a long reference contains and most others
  of the phase do not. They belong to the problem and not to its template;
- *words*: the rare words and numbers of a question, in any order;
- *pairs*: a reference beside rare words of its question, as in a table.

It does not find translations, paraphrases or encoded texts.
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
"""Letters of a run. Shorter runs occur in every text, and longer runs miss altered quotations."""

_SHORTEST = 12
"""Minimum letters of a question that is matched by runs. A shorter question, such as "Write 3.",
counts as quoted only if the text contains it verbatim."""

_COMMON = 0.05
"""Runs and words in more than this share of a phase's questions belong to the template."""

_FEW = 16
"""Minimum runs of its own for a question to be matched by ``_HALF`` of them. With fewer, it is too
similar to the others."""

_HALF, _MOST = 0.6, 0.9
"""A question counts as quoted from ``_HALF`` of its own runs on. If it has few of its own, from
``_MOST`` of all its runs on."""

_RARE_WORDS, _MOST_WORDS = 6, 0.8
"""Minimum rare words of a question that is matched by words, and the share that must occur."""

_LONG_REFERENCE = 16
"""Minimum letters of a unique reference that no text contains by chance."""

_TELLING_REFERENCE = 4
"""Minimum letters of a reference that does not stand beside words of its question by chance."""

_TABLE = 3
"""Minimum problems of a table: their references stand beside rare words of their questions."""

_NEAR = 8
"""Number of words on either side of a reference that count as beside it."""

_FEW_WORDS = 6
"""Maximum words of a question, without its template, of which all pairs are keys. With more words,
only neighbours are paired."""

_MAX_LETTERS = 20_000
"""Maximum letters of a question or a reference that are compared."""


class Leaks:
    """Finds the problems of a phase in a context.

    Args:
        problems: the problems to look for.
        others: further problems of the same tasks, which help to recognise templates.
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
        """The problems that ``context`` leaks: a verb that says how, by the problem's id.

        Instructions are searched for all kinds of overlap. A demonstration resembles many problems,
        since a task made it from a problem of the same kind. It leaks only the problem it shows.
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
        """The problems whose question is quoted by a text with these runs."""
        hits = Counter(number for run in runs for number in self._run_index.get(run, ()))
        for number, count in hits.items():
            one = self._problems[number]
            own, share = _share(one.own_runs, runs, 1.0), count / len(one.question.runs)
            by_own = own >= _HALF if len(one.own_runs) >= _FEW else own == 1 and share >= _MOST
            if by_own and not one.question.is_short:
                yield one

    def _long_references(self) -> list[tuple[int, set[str]]]:
        """The runs of each long reference that occur in no other reference and in no question."""
        texts = [(n, text) for n, one in enumerate(self._problems) for text in one.references]
        long = [(n, text) for n, text in texts if len(text.squeezed) >= _LONG_REFERENCE]
        counts = Counter(run for _, text in long for run in text.runs)
        asked = {run for one in self._problems for run in one.question.runs}
        passages = ((n, {r for r in t.runs if counts[r] == 1} - asked) for n, t in long)
        return [(n, runs) for n, runs in passages if len(runs) > _LONG_REFERENCE - _RUN]

    def _answered(self, text: _Text) -> Iterator[tuple[_Known, str]]:
        """The problems whose reference stands beside rare words of its question. They count if the
        reference is unique to the problem, or if there are enough problems for a table."""
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
    """A problem, preprocessed for the search."""

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
        """Words and pairs of words by which a table could identify the question, if no other
        question has them. A long question gives only pairs of neighbouring words.

        Args:
            varying: words that belong to no template.
        """
        tokens = [token for token in self.question.tokens if token in varying]
        words = set(tokens)
        pairs = combinations(sorted(words), 2) if len(words) <= _FEW_WORDS else pairwise(tokens)
        return {frozenset([word]) for word in words} | {frozenset(pair) for pair in pairs}

    def is_telling(self, answer: tuple[str, ...]) -> bool:
        """Whether an answer beside words of the question is unlikely to be there by chance."""
        letters = "".join(answer)
        is_long = len(letters) >= _TELLING_REFERENCE and not letters.isdigit()
        return is_long and not set(answer) <= self.question.words


@dataclass(frozen=True)
class _Text:
    """A text, preprocessed for comparison."""

    text: str

    @cached_property
    def _folded(self) -> str:
        return _fold(self.text)

    @cached_property
    def _parts(self) -> list[tuple[str, str]]:
        """Each word or number, with the text between it and its predecessor in front."""
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
        """The text before each token."""
        return [gap for gap, _ in self._parts]

    def places(self, token: str) -> list[int]:
        """The places of a token."""
        return self._places.get(token, [])

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = defaultdict(list)
        for place, token in enumerate(self.tokens):
            places[token].append(place)
        return places

    @cached_property
    def squeezed(self) -> str:
        """All letters and numbers, joined. Numbers are delimited, so that 1 does not match 11."""
        return "".join(f"#{t}#" if t[0].isdigit() else t for t in self.tokens)

    @cached_property
    def runs(self) -> set[str]:
        whole = self.squeezed
        return {whole[i : i + _RUN] for i in range(len(whole) - _RUN + 1)}

    @property
    def is_short(self) -> bool:
        """Whether the text has too few letters for a match by runs."""
        return len(self.squeezed) < _SHORTEST


_SPELLED = re.compile(r"(?<![^\W_])(?:[^\W_][\W_]{1,3}){6,}[^\W_](?![^\W_])")
"""A text with separated letters: T-h-i-s or l i k e  t h i s."""

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")

_BEFORE_AN_ANSWER = re.compile(r"[:=→⇒>|\t–—-]")  # noqa: RUF001
_VERBS = {"is", "are", "answer", "answers", "equals", "gives", "say", "write", "reply", "output"}
"""Signs and words that precede an answer in a table."""


def _beside(answer: tuple[str, ...], keys: set[frozenset[str]], text: _Text) -> int:
    """The first place of ``answer`` in ``text`` with a sign of a table before or after it, and with
    two words of its ``keys`` near it (one if the keys have only one); -1 if there is none."""
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
    """The number of words in those keys whose words are all among ``tokens``."""
    words = set(tokens)
    return len(frozenset().union(*(key for key in keys if key <= words)))


def _signature(question: str) -> str:
    """A form that is equal for questions that ask the same: letters, numbers, and arithmetic signs,
    which distinguish two sums."""
    return re.sub(r"[^\w+*/^=<>%×÷−-]", "", _fold(question))  # noqa: RUF001


def _without_spelling(text: str) -> str:
    """``text`` with separated letters joined."""
    return _SPELLED.sub(lambda found: re.sub(r"[\W_]+", "", found[0]), _fold(text))


def _share(wanted: set[Any], found: set[Any], nothing: float = 0.0) -> float:
    """The share of ``wanted`` that is in ``found``."""
    return len(wanted & found) / len(wanted) if wanted else nothing


def _leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a reference of any type."""
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
"""Lower-case letters of other scripts that look like Latin letters, or whose capitals do."""


def _fold(text: str) -> str:
    """Remove differences that a reader does not see: case, accents, look-alike letters, hidden
    characters, and Unicode's variants of a letter."""
    if text.isascii():
        return text.casefold()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    seen = (c for c in plain if not is_hidden(c) and not unicodedata.combining(c))
    return "".join(seen).translate(_LOOK_ALIKES)
