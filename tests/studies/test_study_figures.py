from __future__ import annotations

from fastslow.studies.figures import line_panel

MEASURED = {"rl": [([0.0, 1.0], [0.1, 0.2])], "fst": [([0.0, 1.0], [0.1, 0.6])]}


def test_what_a_curve_is_fitted_to_is_drawn_as_points() -> None:
    fits = {"fst": [([0.0, 0.5, 1.0], [0.1, 0.4, 0.6])]}
    panel = line_panel("t", "x", "y", MEASURED, fits=fits)
    assert [(one.label, one.mark) for one in panel.series] == [
        ("rl", "measured"),
        ("fst", "measured"),
        ("fst", "fit"),
    ]
    panel = line_panel("t", "x", "y", MEASURED)
    assert {one.mark for one in panel.series} == {"line"}
