"""The star graph (arXiv 2510.03971): arms that look alike from the source, one of which is right.

A source node has d arms; a path from the source to an arm's end has l nodes, both included. The
edges are listed in random order and the task is to name the path to one given end. Reading the
edges forwards, the first hop is a guess among d; reading them backwards from the goal it is not.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fastslow.config import NonNegative, Positive, Section
from fastslow.tasks.answers import excerpt, extract_answer, lesson, tagged
from fastslow.tasks.protocol import Task
from fastslow.tasks.registry import register
from fastslow.tasks.splits import Splits
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


class StarGraphOptions(Section):
    """Options of the task "star_graph"."""

    d: Annotated[int, Field(ge=2)] = 3
    """Arms of the star."""
    l: Annotated[int, Field(ge=2)] = 3  # noqa: E741 - the paper's letter
    """Nodes of a path from the source to the end of an arm, both included."""
    nodes: Positive | None = None
    """N, the labels that a graph's nodes are drawn from; None: as many as the star has nodes."""
    labels: Literal["numbers", "words"] = "numbers"
    """Numbers from 0 to N - 1, or N short English words."""
    train: Positive = 1024
    validation: Positive = 128
    test: NonNegative = 128
    data_seed: NonNegative = 0
    """The data depend on this and not on the run's seed."""

    @property
    def star_nodes(self) -> int:
        return self.d * (self.l - 1) + 1

    @property
    def label_count(self) -> int:
        return self.nodes or self.star_nodes

    @model_validator(mode="after")
    def _labels_suffice(self) -> StarGraphOptions:
        if self.label_count < self.star_nodes:
            raise ValueError(
                f"nodes is {self.nodes}, but a star of d = {self.d} and l = {self.l} has "
                f"{self.star_nodes} nodes: set nodes to at least that"
            )
        if self.labels == "words" and self.label_count > len(WORDS):
            raise ValueError(
                f'labels is "words", of which there are {len(WORDS)}; found {self.label_count} '
                'nodes. Set fewer nodes, d or l, or labels = "numbers"'
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
        if options.labels == "numbers":
            labels = [str(number) for number in range(options.label_count)]
        else:
            labels = list(WORDS[: options.label_count])
        for _ in range(4 * total + 64):  # small stars repeat themselves
            yield _problem(draw_star(options.d, options.l, labels, rng))


def draw_star(d: int, l: int, labels: Sequence[str], rng: random.Random) -> Star:  # noqa: E741
    """A star of ``d`` arms and ``l`` nodes a path, its labels drawn without replacement."""
    source, *rest = rng.sample(labels, d * (l - 1) + 1)
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
