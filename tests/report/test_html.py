"""The page: whole, self-contained, readable by everybody, and harmless whatever it shows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fastslow.report.html import write_report
from fastslow.run.record import RunRecord, read_run
from fastslow.run.rollouts import write_rollouts
from fastslow.testing import rollout, turn
from fastslow.types import Failure, Problem, Verdict

Make = Callable[..., Any]

HOSTILE = Path(__file__).parents[1] / "data" / "hostile.jsonl"

VOID = {"meta", "link", "input", "br", "hr", "img"}

EVIL = (
    "</script><script>alert(1)</script><!--<script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus=alert(1) autofocus='",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{",
    "\u202eevil\u2066\u2028\u2029\x00\x1b[31m\x7f\ufeff",
    "half a pair \ud800",
    "javascript:alert(1)",
    "]]>&amp;&lt;",
)


COUNTS = {"groups/kept": 2, "groups/dropped": 0, "rollouts/sampled": 16, "rollouts/reused": 0}
COUNTS |= {"tokens/sampled": 160, "reward/mean": 0.3}


class Page(HTMLParser):
    """A page as a browser reads it: elements with their attributes, and text. It is balanced."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]

    @property
    def rollouts(self) -> list[dict[str, str | None]]:
        return [one for one in self.of("article") if one["class"] == "rollout"]


def keep_rollouts(run: RunRecord, *texts: str, context: str = "seed") -> None:
    folder = run.path / "rollouts"
    folder.mkdir(exist_ok=True)
    problems = {f"p{n} {text}"[:40]: text for n, text in enumerate(texts)}
    made = [
        rollout(
            Problem(name, text, {"answer": text}),
            context,
            Verdict(0.5, text),
            turn(text, sampled=(2, 3)),
        )
        for name, text in problems.items()
    ]
    write_rollouts(folder, "slow", 1, 0, made)


@pytest.fixture
def whole(write_run: Make, slow: Make, evaluated: Make, context: Make) -> list[RunRecord]:
    """An FST run and an RL run with everything that a report can show."""
    bounds = {"accuracy/low": 0.05, "accuracy/high": 0.7, "drift/exact": 0.01}
    counts = {**COUNTS, "kl/base": 0.02, "grad_norm": 1.0}
    metrics = [
        evaluated(0, "seed", 0.1) | bounds,
        slow(1, **counts),
        slow(2, **counts),
        evaluated(2, "seed", 0.2) | bounds,
    ]
    turns = [{"question": "2 + 2?", "answer": "4", "problem_id": None}]
    contexts = [
        context("seed", rank=1, cycle=None),
        context("seed", mean=0.0, scores={"p": 0}),
        context("child", rank=1, mean=0.5, scores={"p": 1}, parents=["seed"], demonstrations=turns),
    ]
    evolved = [*metrics, evaluated(2, "best", 0.6) | bounds]
    runs = [
        read_run(write_run("fast and slow", evolved, contexts, steps=2)),
        read_run(write_run("plain", metrics, contexts[:1], method="rl", steps=2)),
    ]
    for run in runs:
        keep_rollouts(run, "first completion", "second completion", context="child")
        rows = [
            {"weights": weights, "context": context, "task": "star_graph", "accuracy": 0.5}
            for weights in ("base", "trained")
            for context in ("seed", "best")
        ]
        (run.path / "quadrants.json").write_text(json.dumps(rows))
    return runs


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    def make(*runs: RunRecord) -> Page:
        path = tmp_path / "report.html"
        write_report(runs, path)
        return Page(path.read_text(encoding="utf-8"))

    return make


# What it holds.


def test_a_failed_verdict_is_shown_as_none(page: Make, whole: list[RunRecord]) -> None:
    run = whole[0]
    failed = rollout("q", "seed", Failure("it raised ValueError: no"), turn("t"))
    write_rollouts(run.path / "rollouts", "eval", 2, 0, [failed])
    read = page(run)
    (text,) = (text for text in read.texts["article"] if "not graded" in text)
    assert "feedback\nit raised ValueError: no" in text
    assert [one["data-score"] for one in read.rollouts].count("failed") == 1


def test_the_page_has_everything_in_order(page: Make, whole: list[RunRecord]) -> None:
    read = page(*whole)
    assert read.texts["h2"] == [
        "The runs",
        "Learning curves",
        "Reward against drift",
        "Sample efficiency",
        "Asymptotes",
        "Quadrants",
        "Gradient, entropy and drift while training",
        "Contexts as they evolved",
        "Rollouts",
        "Configurations",
    ]
    assert not any("not finished" in text for text in read.texts["p"])
    tables = " ".join(read.texts["table"])
    assert "0.600 [0.050, 0.700]" in tables
    assert "too few" in tables  # why there is no asymptote
    (lineage,) = read.texts["ol"]
    assert "kept" in lineage
    assert "0.500 on 1 problem\nin cycle 0, kept as number 1" in lineage
    assert "demonstration: added" in lineage
    assert read.texts["ins"] == ["added", "child"]  # the first of each explains the mark
    assert read.texts["del"] == ["removed", "seed"]

    assert [one["data-run"] for one in read.rollouts] == ["fast and slow"] * 2 + ["plain"] * 2
    first = read.rollouts[0]
    assert (first["data-score"], first["data-phase"]) == ("0.5", "slow")
    texts = ["first completion", "second completion"]
    for text, wanted in zip(read.texts["article"], texts * 2, strict=True):
        assert f"completion\n{wanted}\n" in text
        assert f"feedback\n{wanted}\n" in text
        assert f'{{"answer": "{wanted}"}}' in text
        assert "score 0.5" in text
    links = [link["href"] or "" for link in read.of("a")]
    assert links.count("#context-0-child") == 2  # where the run's contexts are on the page
    assert "#context-1-child" not in links


def test_the_numbers_lie_beside_the_page_and_the_same_runs_give_the_same(
    whole: list[RunRecord], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(whole, tmp_path / name / "report.html")
    first, second = (
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    )
    assert first == second
    read = Page(first["report.html"].decode())
    links = {link["href"] for link in read.of("a") if (link["href"] or "").endswith(".csv")}
    assert links <= set(first)
    assert {f"report_data/{name}.csv" for name in ("runs", "metrics", "contexts")} <= set(first)
    runs = first["report_data/runs.csv"].decode().splitlines()
    assert [line.split(",")[0] for line in runs] == ["run", "fast and slow", "plain"]


# Runs that lack something.


def test_a_run_that_has_hardly_begun(page: Make, write_run: Make, slow: Make) -> None:
    read = page(read_run(write_run("early", [slow(1)], method="rl")))
    assert read.texts["h2"] == ["The runs"]
    assert any("early is not finished: 1 of\n    8 slow steps" in text for text in read.texts["p"])
    assert not read.of("svg")


@pytest.mark.parametrize("method", ["rl", "fst", "fast", "distill"])
def test_runs_of_every_method(
    page: Make, write_run: Make, slow: Make, evaluated: Make, context: Make, method: str
) -> None:
    evolves = method != "rl"
    metrics = [
        evaluated(0, "seed", 0.1),
        slow(1, **{"reward/mean": 0.3}),
        evaluated(2, "seed", 0.2),
    ]
    contexts = [context("seed", rank=1, cycle=None)]
    contexts += [context("kept", rank=1, mean=0.5)] * evolves
    read = page(read_run(write_run("run", metrics, contexts, approach=method)))
    assert ("Contexts as they evolved" in read.texts["h2"]) == evolves
    assert "Rollouts" not in read.texts["h2"]


def test_stages_have_their_panels(page: Make, write_run: Make, evaluated: Make) -> None:
    stages = [{"steps": 2, "task": {"name": "star_graph", "d": d}} for d in (2, 3)]
    metrics = [evaluated(0, "seed", 0.1, "star_graph"), evaluated(2, "seed", 0.1, "star_graph-2")]
    run = read_run(write_run("r", metrics, task=None, steps=None, stages=stages, method="rl"))
    assert page(run).texts["h4"][:2] == ["star_graph", "star_graph-2"]


# Harm.


def test_hostile_texts_are_shown_and_do_nothing(
    page: Make, write_run: Make, slow: Make, evaluated: Make, context: Make, whole: list[RunRecord]
) -> None:
    texts = [*EVIL]
    entries = map(json.loads, HOSTILE.read_text(encoding="utf-8").splitlines())
    completions = [entry["completion"] for entry in entries]
    texts += [completion for completion in completions if isinstance(completion, str)]
    turns = [{"question": text, "answer": text, "problem_id": text} for text in EVIL]
    contexts = [
        context(f"{n}{text}", rank=1, mean=0.5, origin=text, parents=[text], demonstrations=turns)
        for n, text in enumerate(EVIL)
    ]
    contexts += [context("child", mean=0.1, parents=[contexts[0]["digest"]])]
    name = "".join(EVIL[:5])
    metrics = [
        evaluated(0, "seed", 0.1, EVIL[0]),
        evaluated(2, "best", 0.1, EVIL[1]),
        slow(1, **COUNTS, **{EVIL[0]: 1.0}),
    ]
    instructions = {"instructions": EVIL[0] + EVIL[4]}
    run = read_run(write_run(name, metrics, contexts, model=EVIL[1], context=instructions, steps=2))
    keep_rollouts(run, *texts, context=EVIL[0])
    read, harmless = page(run), page(*whole)

    known = {tag for tag, _ in harmless.elements}
    assert {tag for tag, _ in read.elements} <= known
    allowed = {key for _, attributes in harmless.elements for key in attributes}
    assert {key for _, attributes in read.elements for key in attributes} <= allowed
    assert len(read.of("script")) == 1
    for link in read.of("a"):
        assert (link["href"] or "").startswith(("#", "report_data/"))
    assert EVIL[0] in " ".join(read.texts["h4"])
    assert "⟨U+202E⟩evil⟨U+2066⟩⟨U+2028⟩⟨U+2029⟩⟨U+0000⟩⟨U+001B⟩[31m" in read.texts["ol"][0]
    shown = " ".join(read.texts["article"])
    assert all(text in shown for text in (*EVIL[:5], "⟨U+202E⟩evil", *EVIL[7:]))
    assert {one["data-context"] for one in read.rollouts} == {EVIL[0]}


def test_the_browser_is_told_to_trust_nothing_else(
    page: Make, whole: list[RunRecord], tmp_path: Path
) -> None:
    read = page(*whole)
    (policy,) = [m["content"] or "" for m in read.of("meta") if "http-equiv" in m]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    (script,) = read.texts["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(", script)
    assert "@import" not in text


# Readers.


def test_everybody_finds_their_way(page: Make, whole: list[RunRecord]) -> None:
    read = page(*whole)

    # Ids are unique, links and labels resolve.
    assert len(read.ids) == len(set(read.ids))
    targets = [link["href"] or "" for link in read.of("a")]
    assert {target[1:] for target in targets if target.startswith("#")} <= set(read.ids)
    labels = [attributes.get("aria-labelledby") or "" for _, attributes in read.elements]
    assert {one for label in labels for one in label.split()} <= set(read.ids)

    # Headings skip no level.
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))

    # Tables and pictures say what they are.
    assert len(read.of("caption")) == len(read.of("table")) > 0
    assert all(cell.get("scope") == "col" for cell in read.of("th"))
    assert len(read.texts["desc"]) == len(read.of("svg")) > 0
    assert all(picture["role"] == "img" for picture in read.of("svg"))
    assert read.of("html")[0]["lang"] == "en"
    assert all(button.get("type") == "button" for button in read.of("button"))
