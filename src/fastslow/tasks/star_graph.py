"""The star graph (arXiv 2510.03971): arms that look alike from the source, one of which is right.

A source node has d arms; a path from the source to an arm's end has l nodes, both included. The
edges are listed in random order and the task is to name the path to one given end. Reading the
edges forwards, the first hop is a guess among d; reading them backwards from the goal it is not.

That paper calls a star "Degree-d-Path-l". A curriculum over (d, l) is one of ``levels`` within the
task, or of stages and mixes of several of these tasks.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fastslow.config import Section, Seed, Size, SizeOrNone
from fastslow.grading.answers import extract_answer, tagged
from fastslow.tasks.feedback import lesson
from fastslow.tasks.names import register
from fastslow.tasks.protocol import Task
from fastslow.tasks.splits import Splits
from fastslow.text import excerpt
from fastslow.types import Problem, Split, Verdict

_WORDS = """
    ant arm art ash bag ball bank barn bat bay bear bed bee bell belt bird boat bone book boot
    bowl box boy bread brick bus cake camp can cap car card cat chair clay clock cloud coal coat
    coin cook corn cow crab crow cup deer desk dish dog door dove drum duck dust ear egg elm eye
    face fan farm fig fire fish flag foot fork fox frog game gate girl glass goat gold grass hair
    hall ham hand hat hawk hay hen hill home horn horse ice ink iron jam jar key king kite knee
    lake lamb lamp leaf leg lid lion lip log map milk mill moon moss mouse nail neck nest net nose
    oak oil owl ox pan park path pea pear pen pie pig pin pine plum pond pot rain rat ring road
    rock roof room root rope rose sail salt sand sea seed sheep ship shirt shoe silk sky snow soap
    sock song star stone sun swan tail tea tent tie toe top town toy tree tub van vine wall wave
    well wheat wind wing wolf wood wool yard
"""
WORDS = tuple(_WORDS.split())
"""Short, common and distinct: most are one token to any tokenizer."""

AtLeastTwo = Annotated[int, Field(ge=2, le=1000)]

Level = tuple[AtLeastTwo, AtLeastTwo]
"""(d, l)."""

PRESETS: dict[str, tuple[Level, ...]] = {
    "zero-reward": ((10, 10),),
    "zero-reward-mixed": ((5, 5), (10, 10)),
    "fast-slow": ((5, 5),),
}
"""Protocols of papers. "zero-reward" is the star that nothing tried in arXiv 2510.03971 learns when
it is trained on alone, "zero-reward-mixed" its remedy, as many easier stars. For "fast-slow" (arXiv
2605.12484: base reward 0, FST leaves it at about step 50, RL at step 250) d and l are unknown:
(5, 5) is our choice, a star that small models do not solve unaided."""


class StarGraphOptions(Section):
    """Options of the task "star_graph". The graphs are those of ``preset``, of ``levels``, or of
    ``d`` and ``l``."""

    d: AtLeastTwo = 3
    """Arms of the star."""
    l: AtLeastTwo = 3  # noqa: E741 - the paper's letter
    """Nodes of a path from the source to the end of an arm, both included."""
    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=1000)] | None = None
    """Pairs [d, l], to which the problems of every split belong in equal parts."""
    preset: Literal["zero-reward", "zero-reward-mixed", "fast-slow"] | None = None
    """Levels by the name of a paper's protocol (see ``PRESETS``)."""
    nodes: Size | None = None
    """N, the labels that a graph's nodes are drawn from; None: as many as its star has nodes."""
    labels: Literal["numbers", "words"] = "numbers"
    """Numbers from 0 to N - 1, or N short English words."""
    train: Size = 1024
    """Problems to train on."""
    validation: Size = 128
    """Problems for validation."""
    test: SizeOrNone = 128
    """Problems for testing."""
    data_seed: Seed = 0
    """The data depend on this and not on the run's seed."""

    @property
    def graphs(self) -> tuple[Level, ...]:
        """The levels that there are, whichever way they were given."""
        if self.preset is not None:
            return PRESETS[self.preset]
        return self.levels or ((self.d, self.l),)

    def vocabulary(self, level: Level) -> list[str]:
        """The labels that nodes of a level's stars are drawn from."""
        count = self.nodes or star_nodes(level)
        if self.labels == "words":
            return list(WORDS[:count])
        return [str(number) for number in range(count)]

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> StarGraphOptions:
        size = [key for key in ("d", "l") if key in self.model_fields_set]
        ways = [", ".join(size)] * bool(size)
        ways += [key for key in ("levels", "preset") if getattr(self, key) is not None]
        if len(ways) > 1:
            raise ValueError(
                f"{' and '.join(ways)} all say which stars to draw: set d and l, levels or preset"
            )
        return self

    @model_validator(mode="after")
    def _labels_suffice(self) -> StarGraphOptions:
        for level in self.graphs:
            needed, (d, l) = star_nodes(level), level  # noqa: E741
            if self.nodes is not None and self.nodes < needed:
                raise ValueError(
                    f"nodes is {self.nodes}, but a star of d = {d} and l = {l} has {needed} nodes: "
                    "set nodes to at least that"
                )
            if self.labels == "words" and (self.nodes or needed) > len(WORDS):
                raise ValueError(
                    f'labels is "words", of which there are {len(WORDS)}; found '
                    f'{self.nodes or needed} nodes. Set fewer nodes, d or l, or labels = "numbers"'
                )
        return self


@dataclass(frozen=True)
class Star:
    """The reference of a problem: the right path, and the edges, each (nearer, farther)."""

    path: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]

    @property
    def answer(self) -> str:
        return ",".join(self.path)


@register("star_graph", StarGraphOptions)
class StarGraph(Task):
    """Star graphs (arXiv 2510.03971): the path from the source to one of d ends; exact match."""

    def __init__(self, options: StarGraphOptions) -> None:
        self._options = options
        stream = self._generate()
        self._splits = Splits(
            {"train": stream, "validation": stream, "test": stream},
            {"train": options.train, "validation": options.validation, "test": options.test},
            self.name,
        )

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    def grade(self, problem: Problem, completion: str) -> Verdict:
        star: Star = problem.reference
        answer = extract_answer(completion)
        mistake = None if answer is None else first_mistake(star, answer)
        if answer is not None and mistake is None:
            return Verdict(1.0, f"Right: {tagged(star.answer)}")
        return Verdict(0.0, lesson(completion, star.answer, self.demonstrate(problem), mistake))

    def demonstrate(self, problem: Problem) -> str:
        return tagged(problem.reference.answer)

    def _generate(self) -> Iterator[Problem]:
        options = self._options
        total = options.train + options.validation + options.test
        rng = random.Random(options.data_seed)
        levels = [(*level, options.vocabulary(level)) for level in options.graphs]
        known: set[str] = set()
        for number in range(4 * total + 64):  # small stars repeat themselves
            problem = _problem(draw_star(*levels[number % len(levels)], rng))
            if problem.id not in known:
                known.add(problem.id)
                yield problem


def star_nodes(level: Level) -> int:
    """Nodes of a level's star."""
    d, l = level  # noqa: E741
    return d * (l - 1) + 1


def draw_star(d: int, l: int, labels: Sequence[str], rng: random.Random) -> Star:  # noqa: E741
    """A star of ``d`` arms and ``l`` nodes a path, its labels drawn without replacement."""
    source, *rest = rng.sample(labels, star_nodes((d, l)))
    arms = [(source, *rest[arm * (l - 1) : (arm + 1) * (l - 1)]) for arm in range(d)]
    edges = [edge for arm in arms for edge in pairwise(arm)]
    rng.shuffle(edges)
    return Star(path=arms[0], edges=tuple(edges))


def first_mistake(star: Star, answer: str) -> str | None:
    """What is wrong with the first wrong hop of a path "a,b,c", or None if the path is right."""
    nodes = tuple(node.strip() for node in answer.split(","))
    if nodes == star.path:
        return None
    if nodes[0] != star.path[0]:
        return f"The path starts at {excerpt(nodes[0], 40)}, not at the source {star.path[0]}."
    edges = set(star.edges)
    for hop, (here, there) in enumerate(pairwise(nodes), start=1):
        if (here, there) not in edges:
            return f"Hop {hop}: {here}->{excerpt(there, 40)} is not an edge."
        if there != star.path[hop]:
            return f"Hop {hop}: {here}->{there} leads into the wrong arm, away from the goal."
    return f"The path stops at {nodes[-1]}, before the goal {star.path[-1]}."


def _problem(star: Star) -> Problem:
    source, goal = star.path[0], star.path[-1]
    edges = " ".join(f"{near},{far}" for near, far in star.edges)
    question = (
        f"A directed graph has these edges: {edges}\n"
        f"What is the path from {source} to {goal}? Give its nodes in order, separated by commas."
    )
    # The same graph with its edges in another order is the same problem.
    identity = f"{sorted(star.edges)} {source} {goal}"
    return Problem(hashlib.sha256(identity.encode()).hexdigest()[:16], question, star)
