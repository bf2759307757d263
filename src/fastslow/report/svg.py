"""A panel as SVG that stands in a page: its text is text, its ink follows the page's colours."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from fastslow.report.plot import Panel, describe, save_panel
from fastslow.text import spell_hidden

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

_REFERENCE = re.compile(r"url\(#([^)]+)\)")

_BLACK = re.compile(r"(?<=: )(#000000|black)\b")


def inline_svg(panel: Panel, name: str) -> str:
    """``panel`` as an ``<svg>`` element with a title and a description.

    Black becomes ``currentColor`` and the ground is left out, so that the figure suits a light and
    a dark page. Ids begin with ``name``, which is unique in the page. Whatever texts the panel
    holds come out escaped.
    """
    file = io.StringIO()
    save_panel(panel, file, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    _strip(root)
    _rename(root, name)
    for element in root.iter():
        if style := element.get("style"):
            element.set("style", _BLACK.sub("currentColor", style))
    _describe(root, panel, name)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _strip(root: ElementTree.Element) -> None:
    """Leave out what a page needs not: metadata, and a style sheet that would reach beyond it."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    root.set("stroke-linejoin", "round")  # what the style sheet said
    for size in ("width", "height"):
        root.attrib.pop(size)  # the page says how wide


def _rename(root: ElementTree.Element, name: str) -> None:
    """Ids of many figures in one page must differ."""
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key in ("href", f"{{{_XLINK}}}href"):
                element.set(key, f"#{name}-{value.removeprefix('#')}")
            else:
                element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _describe(root: ElementTree.Element, panel: Panel, name: str) -> None:
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for place, (kind, text) in enumerate((("title", panel.title), ("desc", describe(panel)))):
        element = ElementTree.Element(f"{{{_SVG}}}{kind}", {"id": f"{name}-{kind}"})
        element.text = spell_hidden(text)
        root.insert(place, element)
