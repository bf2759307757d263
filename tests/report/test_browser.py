"""The page in a real browser, by mouse and keyboard. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import PROGRAM, Browser, browser

from fastslow.report.html import write_report
from fastslow.run.record import RunRecord, read_run
from fastslow.run.rollouts import write_rollouts
from fastslow.testing import rollout, turn
from fastslow.types import Problem, Verdict

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine")

Make = Callable[..., Any]

EVIL = "<img src=x onerror=alert(1)></script><script>document.title = 'taken'</script>"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found
        assert found.complaints == []  # nothing was refused, failed or asked of a network


@pytest.fixture
def page(write_run: Make, slow: Make, evaluated: Make, context: Make, tmp_path: Path) -> Path:
    """Two runs with 36 rollouts each, of three problems, two steps and scores of 0, 0.5 and 1."""
    metrics = [
        evaluated(0, "seed", 0.1),
        slow(1, **{"reward/mean": 0.3}),
        slow(2, **{"reward/mean": 0.4}),
        evaluated(2, "best", 0.6),
    ]
    contexts = [
        context("seed", rank=1, cycle=None),
        context("child", rank=1, mean=0.5, parents=["seed"]),
    ]
    runs: list[RunRecord] = []
    for method in ("fst", "rl"):
        runs.append(read_run(write_run(f"run of {method}", metrics, contexts, method=method)))
        (runs[-1].path / "rollouts").mkdir()
        problems = [Problem(f"p{n}", f"Question {n}?", n) for n in range(3)]
        for step in (1, 10):
            made = [
                rollout(
                    problems[n % 3],
                    "child",
                    Verdict((n % 3) / 2, f"feedback {n}"),
                    turn(f"{method} says {n} {EVIL}"),
                )
                for n in range(18)
            ]
            write_rollouts(runs[-1].path / "rollouts", "slow", step, 0, made)
    write_report(runs, tmp_path / "report.html")
    return tmp_path / "report.html"


def shown(tab: Browser) -> list[dict[str, str]]:
    """What is known of the rollouts that can be seen."""
    seen: list[dict[str, str]] = tab.value(
        "[...document.querySelectorAll('.rollout')]"
        ".filter((one) => one.checkVisibility()).map((one) => ({...one.dataset}))"
    )
    return seen


def choose(tab: Browser, name: str, first: str) -> None:
    """Pick an option of a filter by keyboard: the one whose text begins with ``first``."""
    tab.value(f"document.querySelector('[name={name}]').focus()")
    for character in first:
        tab.press(character, ord(character.upper()), character)


def test_nothing_a_model_wrote_is_run(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert tab.value("document.title") == "Comparison of runs · fastslow"
    assert tab.value("document.querySelectorAll('.rollout img').length") == 0
    assert EVIL in tab.value("document.querySelector('.rollout').textContent")


def test_the_button_turns_the_theme_over(tab: Browser, page: Path) -> None:
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 28)"
    ground = "getComputedStyle(document.body).backgroundColor"
    label = "document.querySelector('#theme').textContent"
    for system, expected in (("light", light), ("dark", dark)):
        tab.open(page, prefers_color_scheme=system)
        assert (tab.value(label), tab.value(ground)) == ("Theme: system", expected)
        for name, ground_then in (("light", light), ("dark", dark), ("system", expected)):
            tab.click("#theme")
            assert (tab.value(label), tab.value(ground)) == (f"Theme: {name}", ground_then)


def test_rollouts_are_shown_a_page_at_a_time(tab: Browser, page: Path) -> None:
    tab.open(page)
    for count in (20, 40, 60, 72):
        assert len(shown(tab)) == count
        assert tab.value("document.querySelector('#count').textContent") == (
            f"72 of 72 rollouts match; {count} are shown."
        )
        if count < 72:
            tab.click("#more")
    assert not tab.value("document.querySelector('#more').checkVisibility()")


def test_filters_leave_what_was_asked_for(tab: Browser, page: Path) -> None:
    tab.open(page)
    options = "[...document.querySelector('[name=step]').options].map((one) => one.text)"
    assert tab.value(options) == ["any", "1", "10"]
    choose(tab, "run", "run of rl")
    assert {one["run"] for one in shown(tab)} == {"run of rl"}
    choose(tab, "step", "10")
    assert {(one["run"], one["step"]) for one in shown(tab)} == {("run of rl", "10")}
    assert len(shown(tab)) == 18
    choose(tab, "score", "between")
    assert [one["score"] for one in shown(tab)] == ["0.5"] * 6
    choose(tab, "problem", "p0")
    assert shown(tab) == []
    assert tab.value("document.querySelector('#count').textContent") == (
        "0 of 72 rollouts match; 0 are shown."
    )
    for name in ("problem", "score", "step", "run"):
        choose(tab, name, "any")
    assert len(shown(tab)) == 20


def test_words_are_searched_for(tab: Browser, page: Path) -> None:
    tab.open(page)
    tab.click("[name=text]")
    tab.write("FST says 17 ")
    assert [(one["run"], one["step"]) for one in shown(tab)] == [
        ("run of fst", "1"),
        ("run of fst", "10"),
    ]
    tab.press("Enter", 13)  # sends no form anywhere
    assert len(shown(tab)) == 2


def test_a_rollout_leads_to_its_context_which_opens(tab: Browser, page: Path) -> None:
    tab.open(page)
    is_open = "document.querySelector('#context-0-child > details').open"
    assert not tab.value(is_open)
    tab.click(".rollout a")
    tab.wait_until(f"location.hash === '#context-0-child' && {is_open}")


def test_a_figure_is_downloaded_as_it_is_on_paper(tab: Browser, page: Path, tmp_path: Path) -> None:
    tab.open(page, prefers_color_scheme="dark")
    tab.download_to(tmp_path)
    tab.click(".download")
    text = tab.downloaded(tmp_path / "accuracy-1.svg")
    assert text.startswith("<svg ")
    assert 'color="#000000"' in text


def test_without_a_script_everything_is_there(tab: Browser, page: Path) -> None:
    tab.open(page, scripts=False)
    assert len(shown(tab)) == 72
    for useless in ("#theme", "#filters", "#more"):
        assert not tab.value(f"document.querySelector('{useless}').checkVisibility()")


def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(tab: Browser, page: Path) -> None:
    tab.open(page)
    reached = []
    while True:
        tab.press("Tab", 9)
        name = tab.value(
            "document.activeElement.id || document.activeElement.className || "
            "document.activeElement.name || document.activeElement.tagName"
        )
        if name in ("BODY", "more"):
            break
        style = tab.value(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
            "(getComputedStyle(document.activeElement))"
        )
        assert style == ["solid", "2px"], name
        reached.append(name)
    assert reached[:2] == ["skip", "theme"]
    assert {"scroll", "download", "SUMMARY", "run", "text"} <= set(reached)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(tab: Browser, page: Path, width: int) -> None:
    tab.open(page, width=width)
    tab.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.value("document.documentElement.scrollWidth") <= width


def test_it_can_be_printed(tab: Browser, page: Path, tmp_path: Path) -> None:
    tab.open(page, prefers_color_scheme="dark")
    tab.paper(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
