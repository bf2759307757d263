"""HoVer (Jiang et al. 2020, arXiv 2011.03088): claims that need several Wikipedia pages to check.

Two variants of one data set. "verify" asks for a claim's label, from what the model knows of the
world. "retrieve" asks which pages the claim rests on, out of some candidates: here nothing is
searched, so the distractors are made from the titles of other claims' pages, those first that share
rare words with the claim and its pages. The reward is that of GEPA's HoVer task, all or nothing.
What the paper of Fast-Slow Training means by HoVer-hard is not stated beyond its name; ``hard`` are
the claims of three and four hops.

The schema is HoVer's own: ``uid``, ``claim``, ``supporting_facts`` (pairs of a page's title and a
sentence's number), ``label``, ``num_hops``. The hub's form of it (facts as ``key`` and ``value``,
labels as 0 and 1) is read as well.
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from fastslow.errors import InputError
from fastslow.grading.answers import extract_answer, tagged
from fastslow.places import PlaceOrName
from fastslow.seeding import derive_seed
from fastslow.tasks.feedback import lesson
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.sourced import SourceOptions, split_source
from fastslow.tasks.sources import read_rows
from fastslow.text import excerpt
from fastslow.types import Problem, Split, Verdict

LABELS = ("NOT_SUPPORTED", "SUPPORTED")
"""In the order of the hub's numbers."""

HARD = (3, 4)
"""Hops of a hard claim."""

_COMMON = 50
"""A word in more titles than this tells nothing of what a claim is about."""

_MARKER = re.compile(r"(?:[-*\u2022]|\d{1,3}[.)])\s+")
"""What people and models put before the lines of a list."""


class HoverOptions(SourceOptions):
    """Options of the task "hover"."""

    source: PlaceOrName = "hover-nlp/hover"
    """The rows: a hub id, or a local file or folder."""
    variant: Literal["verify", "retrieve"] = "verify"
    """"verify": say whether the claim is supported. "retrieve": pick the titles that prove it."""
    hard: bool = False
    """Only claims of three and four hops."""
    candidates: Annotated[int, Field(ge=2, le=1000)] = 10
    """Of "retrieve": titles shown with a claim, right and wrong ones together."""


@dataclass(frozen=True)
class Claim:
    """A row of the data set; titles in the order in which the evidence names them."""

    id: str
    text: str
    titles: tuple[str, ...]
    label: str
    hops: int


@dataclass(frozen=True)
class Pages:
    """The reference of a retrieval problem: right titles, and all that are shown."""

    right: tuple[str, ...]
    shown: tuple[str, ...]


@register("hover", HoverOptions)
class Hover(Task):
    """HoVer: whether a claim is supported, or which pages it rests on; exact match."""

    def __init__(self, options: HoverOptions) -> None:
        self._options = options
        self._splits = split_source(options, self._read, self.name)

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        grade = grade_label if self._options.variant == "verify" else grade_pages
        return grade(problem.reference, completion)

    def demonstrate(self, problem: Problem) -> str:
        reference = problem.reference
        return tagged(reference) if isinstance(reference, str) else tagged_titles(reference.right)

    def _read(self, source: str, split: Split) -> list[Problem]:
        options = self._options
        claims = read_claims(source, split)
        asked = [claim for claim in claims if not options.hard or claim.hops in HARD]
        if options.variant == "verify":
            return [_verification(claim) for claim in asked]
        distractors = Distractors(title for claim in claims for title in claim.titles)
        return [_retrieval(claim, distractors, options.candidates) for claim in asked]


def read_claims(source: str, split: Split) -> list[Claim]:
    """The claims of a source. HoVer's own test split has no labels, so its validation split, which
    it calls dev, is what tests are taken from. Raises: InputError."""
    columns = ["uid", "claim", "supporting_facts", "label", "num_hops"]
    rows = read_rows(source, columns, hub_split="train" if split == "train" else "validation")
    return [_claim(row, f"{source}: row {number}") for number, row in enumerate(rows, start=1)]


def grade_label(expected: str, completion: str) -> Verdict:
    """Exact match of the label, whatever its case and whether it has a space or an underscore."""
    answer = extract_answer(completion)
    found = None if answer is None else re.sub(r"[\s_-]+", "_", answer.strip(" .*").upper())
    if found == expected:
        return Verdict(1.0, f"Right: {tagged(expected)}")
    remark = (
        "The evidence says otherwise."
        if found in LABELS
        else f"Only a label may stand between the tags: {' or '.join(LABELS)}."
    )
    return Verdict(0.0, lesson(completion, expected, tagged(expected), remark))


def grade_pages(pages: Pages, completion: str) -> Verdict:
    """1 if all right titles are named and no other. One title a line is read."""
    answer = extract_answer(completion)
    worked = tagged_titles(pages.right)
    if answer is None:
        return Verdict(0.0, lesson(completion, None, worked))
    lines = [line for line in answer.splitlines() if line.strip()]
    if len(lines) > len(pages.shown):
        remark = f"It has {len(lines)} lines; there are only {len(pages.shown)} candidates."
        return Verdict(0.0, lesson(completion, None, worked, remark))
    titles = {_key(title): title for title in pages.shown}
    named = [_named(line, titles) for line in lines]
    found = [title for title in pages.right if title in named]
    if len(found) == len(pages.right) and set(named) <= set(pages.right):
        return Verdict(1.0, f"Right: {worked}")
    parts = {
        "Found": found,
        "Missing": [title for title in pages.right if title not in named],
        "Wrong": [title for title in pages.shown if title in named and title not in pages.right],
        "Not among the candidates": [name for name in named if name not in pages.shown],
    }
    remarks = [f"{part}: {_listed(some)}" for part, some in parts.items() if some]
    remarks.append("All right titles must be named and no other, one a line, as they are written.")
    remarks.append(f"A completion that scores 1:\n{worked}")
    return Verdict(0.0, "\n".join(remarks))


def tagged_titles(titles: Iterable[str]) -> str:
    """Titles in the format in which they are read: a line each, between the tags."""
    return tagged("\n" + "\n".join(titles) + "\n")


class Distractors:
    """Titles to confuse with the right ones: first those that share rare words with a claim."""

    def __init__(self, titles: Iterable[str]) -> None:
        self._titles = list({_key(title): title for title in titles}.values())
        by_word: dict[str, list[int]] = defaultdict(list)
        for number, title in enumerate(self._titles):
            for word in _words(title):
                by_word[word].append(number)
        self._by_word = {word: some for word, some in by_word.items() if len(some) <= _COMMON}

    def draw(self, claim: Claim, count: int) -> list[str]:
        """``count`` titles that the claim does not rest on, fewer if there are no more."""
        overlap: dict[int, float] = defaultdict(float)
        for word in sorted(_words(" ".join((claim.text, *claim.titles)))):
            numbers = self._by_word.get(word, ())
            for number in numbers:
                overlap[number] += 1 / math.log1p(len(numbers))
        near = sorted(overlap, key=lambda number: (-overlap[number], number))
        rng = random.Random(derive_seed("hover", claim.id))
        far = (rng.randrange(len(self._titles)) for _ in range(20 * count))
        right = {_key(title) for title in claim.titles}
        drawn = dict.fromkeys(self._titles[number] for number in (*near, *far))
        return [title for title in drawn if _key(title) not in right][:count]


def _verification(claim: Claim) -> Problem:
    question = (
        f"Claim: {claim.text}\n"
        f"Is the claim supported by what Wikipedia says? Answer {LABELS[1]} or {LABELS[0]}."
    )
    return Problem(claim.id, question, claim.label)


def _retrieval(claim: Claim, distractors: Distractors, candidates: int) -> Problem:
    shown = [*claim.titles, *distractors.draw(claim, max(candidates - len(claim.titles), 1))]
    random.Random(derive_seed("hover", "order", claim.id)).shuffle(shown)
    lines = "\n".join(shown)
    question = (
        f"Claim: {claim.text}\n"
        f"Wikipedia pages:\n{lines}\n"
        "On which of these pages together does it depend whether the claim is true? Name all of "
        "them and no other, one title a line."
    )
    return Problem(claim.id, question, Pages(claim.titles, tuple(shown)))


def _claim(row: dict[str, Any], where: str) -> Claim:
    label, hops, facts = row["label"], row["num_hops"], row["supporting_facts"]
    if isinstance(label, int) and 0 <= label < len(LABELS):
        label = LABELS[label]
    if label not in LABELS:
        raise InputError(
            f"{where}: 'label' is {label!r}; expected {' or '.join(LABELS)}. Claims without a "
            "label, as in the test split, cannot be graded"
        )
    titles = [_tidy(title) for title in _titles(facts)]
    if not titles or not all(titles):
        raise InputError(
            f"{where}: 'supporting_facts' is {excerpt(repr(facts), 80)}; expected a list of pairs "
            "of a page's title and a sentence's number"
        )
    if not isinstance(hops, int):
        raise InputError(f"{where}: 'num_hops' is {hops!r}; expected a whole number")
    distinct: dict[str, str] = {}
    for title in titles:
        distinct.setdefault(_key(title), title)
    return Claim(str(row["uid"]), str(row["claim"]), tuple(distinct.values()), label, hops)


def _titles(facts: Any) -> list[str]:
    """The title of every fact, in either form, or none if that is not what they are."""
    try:
        titles = [fact["key"] if isinstance(fact, dict) else fact[0] for fact in facts]
    except (TypeError, LookupError):
        return []
    texts = isinstance(facts, list) and all(isinstance(title, str) for title in titles)
    return titles if texts else []


def _named(line: str, titles: dict[str, str]) -> str:
    """The candidate that a line names, or the line itself if it names none.

    Titles may begin like the item of a list or stand in quotes, so what is written comes first."""
    line = _tidy(line)
    bare = _MARKER.sub("", line, count=1)
    for form in (line, bare, bare.strip("\"'`*\u201c\u201d ")):
        if _key(form) in titles:
            return titles[_key(form)]
    return line


def _tidy(text: str) -> str:
    """One line of composed characters: a title may be typed in more than one way."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _key(title: str) -> str:
    """Equal for titles that differ in case, white space or the way that accents are typed."""
    return unicodedata.normalize("NFC", _tidy(title).casefold())


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", _key(text)) if len(word) > 2}


def _listed(titles: Iterable[str]) -> str:
    return ", ".join(excerpt(title, 100) for title in list(titles)[:20])
