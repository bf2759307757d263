from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Problem, Task, create
from fastslow.tasks.hover import LABELS, Claim, Distractors, Pages, grade_label, grade_pages
from fastslow.types import SPLITS

CLAIMS = Path(__file__).parents[1] / "data" / "hover.json"


def hover(**options: Any) -> Task:
    config = {"source": str(CLAIMS), "validation": 2, "test": 2, **options}
    return create(TaskConfig.model_validate({"name": "hover", **config}), 0, "c.toml")


def every(task: Task) -> list[Problem]:
    return [problem for split in SPLITS for problem in task.problems(split)]


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(CLAIMS.read_text(encoding="utf-8"))
    return found


def write(path: Path, changed: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps(changed), encoding="utf-8")
    return str(path)


# Reading.


@pytest.mark.parametrize("variant", ["verify", "retrieve"])
def test_every_claim_is_asked_once_and_its_demonstration_scores_1(variant: str) -> None:
    task = hover(variant=variant)
    problems = every(task)
    assert sorted(problem.id for problem in problems) == [row["uid"] for row in rows()]
    for problem in problems:
        worked = task.demonstrate(problem)
        assert worked is not None
        assert task.grade(problem, f"It says so. {worked}").score == 1.0


def test_hard_claims_have_three_and_four_hops() -> None:
    hard = {row["uid"] for row in rows() if row["num_hops"] > 2}
    assert {problem.id for problem in every(hover(hard=True))} == hard


def test_the_hubs_form_says_the_same(tmp_path: Path) -> None:
    hub = [
        {
            **row,
            "label": LABELS.index(row["label"]),
            "supporting_facts": [{"key": t, "value": n} for t, n in row["supporting_facts"]],
        }
        for row in rows()
    ]
    source = write(tmp_path / "hub.json", hub)
    for variant in ("verify", "retrieve"):
        assert every(hover(variant=variant)) == every(hover(variant=variant, source=source))


def test_validation_and_test_may_have_sources_of_their_own(tmp_path: Path) -> None:
    for name, some in [("train", rows()[:5]), ("dev", rows()[5:])]:
        write(tmp_path / f"{name}.json", some)
    task = hover(source=str(tmp_path), validation_source=str(tmp_path), test=1)
    assert {p.id for p in task.problems("validation")} == {r["uid"] for r in rows()[5:]}
    assert len(task.problems("test")) == 1
    assert len(task.problems("train")) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "MAYBE"}, r"row 3: 'label' is 'MAYBE'; expected NOT_SUPPORTED or SUPPORTED"),
        ({"label": -1}, "without a label, as in the test split"),
        ({"supporting_facts": "Ostermoor"}, "row 3: 'supporting_facts' is \"'Ostermoor'\"; exp"),
        ({"supporting_facts": []}, "expected a list of pairs"),
        ({"supporting_facts": [{"title": "x"}]}, "expected a list of pairs"),
        ({"num_hops": "3"}, "'num_hops' is '3'; expected a whole number"),
    ],
)
def test_a_row_of_another_kind_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    wrong = rows()
    wrong[2] |= change
    with pytest.raises(InputError, match=message):
        hover(source=write(tmp_path / "wrong.json", wrong))


# Labels.


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("NOT_SUPPORTED", True),
        ("not supported", True),
        (" Not-Supported.\n", True),
        ("**NOT SUPPORTED**", True),
        ("SUPPORTED", False),
        ("NOT_SUPPORTED SUPPORTED", False),
        ("REFUTED", False),
        ("", False),
    ],
)
def test_a_label_is_read_whatever_its_dress(answer: str, right: bool) -> None:
    verdict = grade_label("NOT_SUPPORTED", f"<answer>{answer}</answer>")
    assert verdict.score == float(right)
    assert "<answer>NOT_SUPPORTED</answer>" in verdict.feedback
    assert grade_label("NOT_SUPPORTED", answer).score == 0.0


def test_a_wrong_label_and_no_label_are_different_lessons() -> None:
    wrong = grade_label("SUPPORTED", "<answer>not supported</answer>").feedback
    assert "The evidence says otherwise" in wrong
    none = grade_label("SUPPORTED", "<answer>It is supported</answer>").feedback
    assert "Only a label may stand between the tags: NOT_SUPPORTED or SUPPORTED" in none


# Pages.

PAGES = Pages(
    right=('"Nine, Ten" (novel)', "1. FC Ostermoor", "Caf\u00e9 N\u00f8rre"),
    shown=(
        '"Nine, Ten" (novel)',
        "Nine, Ten",
        "1. FC Ostermoor",
        "FC Ostermoor",
        "Caf\u00e9 N\u00f8rre",
    ),
)


def named(*lines: str) -> float:
    return grade_pages(PAGES, "<answer>" + "\n".join(lines) + "</answer>").score


def test_titles_are_told_apart_however_they_are_listed() -> None:
    novel, club, cafe = PAGES.right
    assert named(novel, club, cafe) == 1.0
    assert named("", cafe, club, "", novel, "") == 1.0
    assert named(f"- {novel}", f"- {club}", f"- {cafe}") == 1.0
    assert named(f"1. {novel}", f"2. {club}", f"3) {cafe}") == 1.0
    assert named(novel, f"* **{club}**", f"\u201c{cafe}\u201d") == 1.0
    assert named(novel.upper(), f"  {club.lower()} ", unicodedata.normalize("NFD", cafe)) == 1.0
    assert named(novel, novel, club, cafe) == 1.0
    assert named(novel, "FC Ostermoor", cafe) == 0.0  # without its number it is another page
    assert named("Nine, Ten", club, cafe) == 0.0
    assert named(", ".join(PAGES.right)) == 0.0
    assert named(*PAGES.shown) == 0.0
    assert named() == 0.0


def test_all_and_only_the_right_titles_score() -> None:
    for size in range(1 << len(PAGES.shown)):
        some = [title for place, title in enumerate(PAGES.shown) if size >> place & 1]
        assert named(*some) == float(set(some) == set(PAGES.right))


def test_found_missing_wrong_and_unknown_titles_are_listed() -> None:
    feedback = grade_pages(
        PAGES, "<answer>\nnine, ten\n1. FC Ostermoor\nOstermoor\n</answer>"
    ).feedback
    assert "Found: '1. FC Ostermoor'\n" in feedback
    assert "Missing: '\"Nine, Ten\" (novel)', 'Caf\u00e9 N\u00f8rre'\n" in feedback
    assert "Wrong: 'Nine, Ten'\n" in feedback
    assert "Not among the candidates: 'Ostermoor'\n" in feedback
    assert "one a line" in feedback
    worked = feedback.partition("A completion that scores 1:\n")[2]
    assert grade_pages(PAGES, worked).score == 1.0


def test_without_tags_or_with_too_many_lines_nothing_is_read() -> None:
    assert "No complete <answer>" in grade_pages(PAGES, "\n".join(PAGES.right)).feedback
    many = grade_pages(PAGES, "<answer>" + "x\n" * 500_000 + "</answer>")
    assert "It has 500000 lines; there are only 5 candidates." in many.feedback
    assert len(many.feedback) < 2000


def test_candidates_hold_the_right_titles_and_as_many_wrong_ones_as_asked() -> None:
    facts = {row["uid"]: {title for title, _ in row["supporting_facts"]} for row in rows()}
    for candidates in (2, 6, 99):
        for problem in every(hover(variant="retrieve", candidates=candidates)):
            pages: Pages = problem.reference
            right = {unicodedata.normalize("NFC", title) for title in facts[problem.id]}
            assert set(pages.right) == right
            assert right < set(pages.shown)
            # Fourteen pages in all, one of which is spelled in two ways.
            assert (
                len(pages.shown)
                == len(set(pages.shown))
                == max(min(candidates, 13), len(right) + 1)
            )
            listed = problem.question.partition("Wikipedia pages:\n")[2].splitlines()
            assert tuple(listed[: len(pages.shown)]) == pages.shown


def test_candidates_are_the_same_every_time_and_in_no_telling_order() -> None:
    problems = every(hover(variant="retrieve"))
    assert problems == every(hover(variant="retrieve"))
    first = [problem.reference.shown[0] in problem.reference.right for problem in problems]
    assert len(set(first)) == 2


def test_titles_that_share_rare_words_come_first() -> None:
    titles = [f"Film {n}" for n in range(60)] + ["Elda (river)", "Elda valley", "Moor", "Harbour"]
    claim = Claim("c", "The Elda is a film about a moor.", ("Elda (river)",), "SUPPORTED", 2)
    drawn = Distractors(titles).draw(claim, 5)
    assert drawn[:2] == ["Moor", "Elda valley"]  # "film" is in too many titles to mean anything
    assert len(drawn) == 5
    assert "Elda (river)" not in drawn


@given(st.text())
def test_any_text_is_graded(text: str) -> None:
    for completion in (text, f"<answer>{text}</answer>"):
        if not re.search("supported", text, re.IGNORECASE):
            assert grade_label("SUPPORTED", completion).score == 0.0
        assert grade_pages(PAGES, completion).score == 0.0
