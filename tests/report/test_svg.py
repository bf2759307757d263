from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from fastslow.report.arms import Look
from fastslow.report.plot import Panel, Series
from fastslow.report.svg import inline_svg

LOOK = Look("#0072b2", "o", "-")
NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def svg() -> str:
    series = [Series("</svg><script>alert(1)</script>", LOOK, [0, 1, 2], [0.1, 0.2, 0.3])]
    return inline_svg(Panel('a "title" & <b>', "slow step", "accuracy", series, True, [1]), "f-0")


def test_ink_follows_the_page(svg: str) -> None:
    assert "#000000" not in svg
    assert "currentColor" in svg
    assert "#0072b2" in svg
    assert "#ffffff" not in svg  # no ground of its own


def test_it_is_one_element_that_reaches_nothing_else(svg: str) -> None:
    assert svg.startswith("<svg ")
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "<script" not in svg
    assert not re.search(r'(?:href|src)="(?!#f-0-)', svg)
    assert not re.search(r"url\((?!#f-0-)", svg)


def test_ids_are_the_figures_own_and_resolve(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(one.startswith("f-0-") for one in ids if one)
    wanted = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    assert wanted
    assert wanted <= set(ids)


def test_text_is_text_and_escaped(svg: str) -> None:
    texts = [element.text for element in ElementTree.fromstring(svg).iter(f"{NAMESPACE}text")]
    assert "</svg><script>alert(1)</script>" in texts
    assert "slow step" in texts


def test_it_says_what_it_shows(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    labels = {root[0].get("id"): root[0].text, root[1].get("id"): root[1].text}
    title, description = (labels[one] for one in (root.get("aria-labelledby") or "").split())
    assert title == 'a "title" & <b>'
    assert "from 0.1 at 0 to 0.3 at 2" in (description or "")


def test_the_same_panel_gives_the_same_text(svg: str) -> None:
    series = [Series("</svg><script>alert(1)</script>", LOOK, [0, 1, 2], [0.1, 0.2, 0.3])]
    panel = Panel('a "title" & <b>', "slow step", "accuracy", series, True, [1])
    assert inline_svg(panel, "f-0") == svg
