from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.tasks.json_values import DEPTH, first_difference, read_value, write_value

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read_back_the_same(value: Any) -> None:
    assert first_difference(value, read_value(write_value(value)), 0.0) is None


@given(VALUES.filter(lambda value: "nan" not in repr(value) and "inf" not in repr(value)))
def test_python_literals_are_read_as_the_json_they_mean(value: Any) -> None:
    assert first_difference(value, read_value(repr(value)), 0.0) is None


@given(VALUES, VALUES)
def test_values_differ_both_ways_or_not_at_all(one: Any, other: Any) -> None:
    there = first_difference(one, other, 0.0) is None
    assert there == (first_difference(other, one, 0.0) is None)


@given(st.text(alphabet="[]{}():,'\"-+.0123456789eE \n\\aNTnu`", max_size=60))
def test_reading_ends_in_a_value_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        write_value(read_value(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" [1, 2.50] ", [1, 2.5]),
        ("{'a': (1, None), 'b': True}", {"a": [1, None], "b": True}),
        ("{1: 'x'}", {"1": "x"}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("```\n7\n```", 7),
        ("'it''s'", "its"),
        ("0x10", 16),
    ],
)
def test_forms_that_models_write_are_read(text: str, value: Any) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("``````", "empty"),
        ("about 7", "no JSON value"),
        ("7 8", "Extra data at character 3"),
        ("{1, 2}", "no JSON value"),
        ("b'x'", "no JSON value"),
        ("1 + 2j", "no JSON value"),
        ("2 ** 9", "no JSON value"),
        ("9**9**9", "no JSON value"),
        ("__import__('os').getcwd()", "no JSON value"),
        ("[x for x in [1]]", "no JSON value"),
        ("\x00", "no JSON value"),
        ("9" * 99_999, "no JSON value"),
        ("0x" + "f" * 50_000, "no JSON value"),
        ("[" * 65 + "]" * 65, "more than 64"),
        ("[" * 900 + "]" * 900, "more than 64"),
        ("[" * 50_000, "more than 64|no JSON value"),
        ("(" * 50_000, "no JSON value"),
        ("-" * 99_999 + "1", "no JSON value"),
        ("{'a':" * 10_000, "no JSON value"),
        ("not " * 20_000 + "1", "no JSON value"),
        ("```\n" + "\n" * 99_000 + "`", "no JSON value"),
        ("1" * 1_000_000, "longer than 100,000 characters"),
    ],
)
def test_anything_else_is_refused_and_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_value(text)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (3, 3.0),
        (3.0, 3),
        (0.0, 1e-12),
        (1234.56, 1234.5),
        (math.nan, math.nan),
        (math.inf, math.inf),
        (10**400, 10**400),
        ({"a": 1, "b": [2.0]}, {"b": [2], "a": 1}),
        ("\ud800", "\ud800"),
    ],
)
def test_the_same_values_have_no_difference(expected: Any, found: Any) -> None:
    assert first_difference(expected, found, 1e-3) is None


@pytest.mark.parametrize(
    ("expected", "found", "where"),
    [
        (
            {"items": [1, 2, 3, {"price": 4.0}]},
            {"items": [1, 2, 3, {"price": 4.5}]},
            "$.items[3].price: 4.0 expected, 4.5 found",
        ),
        (1, True, "$: 1 expected, true found"),
        (False, 0, "$: false expected, 0 found"),
        ("1", 1, '$: "1" expected, 1 found'),
        ("A", "a", '$: "A" expected, "a" found'),
        (None, "null", '$: null expected, "null" found'),
        (1000.0, 1000.5, "$: 1000.0 expected, 1000.5 found"),
        (1000, 1000.5, "$: 1000 expected, 1000.5 found"),
        (0.001, 0, "$: 0.001 expected, 0 found"),
        (6.6e-34, 0.0, "$: 6.6e-34 expected, 0.0 found"),
        (0.0, 0.001, "$: 0.0 expected, 0.001 found"),
        (-2.5, 2.5, "$: -2.5 expected, 2.5 found"),
        (math.inf, -math.inf, "$: Infinity expected, -Infinity found"),
        (math.inf, 10**400, "$: Infinity expected, 1000"),
        (1.5, math.nan, "$: 1.5 expected, NaN found"),
        (2**53, 2**53 + 1, "$: 9007199254740992 expected, 9007199254740993 found"),
        ([1, 2], [1], "$: 2 elements expected, 1 found"),
        ([1, 2], [1, 3, 4], "$[1]: 2 expected, 3 found"),
        ([], {}, "$: [] expected, {} found"),
        ({"a": 1}, {}, "$.a: 1 expected, but this key is missing"),
        ({}, {"a b": 1}, '$["a b"]: this key is not expected'),
        ({"a": {"b": [1]}}, [1], '$: {"a": {"b": [1]}} expected, [1] found'),
    ],
)
def test_the_first_difference_is_named_by_its_path(expected: Any, found: Any, where: str) -> None:
    assert (first_difference(expected, found, 1e-3) or "").startswith(where)


def test_a_difference_stays_short_and_can_be_written_as_utf_8() -> None:
    found = first_difference("\ud800" * 10**5, {"\ud800" * 10**5: 1}, 0.0)
    assert found is not None
    assert len(found.encode()) < 400


def test_the_limits_are_what_they_say() -> None:
    assert read_value("[" * DEPTH + "]" * DEPTH) is not None
    assert read_value("[1]", limit=3) == [1]
    with pytest.raises(ValueError, match="longer than 2 characters"):
        read_value("[1]", limit=2)
