from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.fast.selection import frontier, select
from fastslow.types import Candidate, Context

LEVELS = st.sampled_from([0.0, 0.25, 0.5, 1.0])
TABLES = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(LEVELS, min_size=width, max_size=width), min_size=1, max_size=7)
)


def candidates(table: list[list[float]]) -> list[Candidate]:
    return [
        Candidate(Context(f"context {i}"), scores={f"p{j}": score for j, score in enumerate(row)})
        for i, row in enumerate(table)
    ]


def kept_by_definition(table: list[list[float]], k: int) -> list[int]:
    """Row numbers, from the definition read literally: columns, rows, loops."""
    telling = [j for j in range(len(table[0])) if len({row[j] for row in table}) > 1]
    leads = [
        not telling or any(row[j] == max(other[j] for other in table) for j in telling)
        for row in table
    ]
    totals = [sum(row) for row in table]
    best = max(i for i, total in enumerate(totals) if total == max(totals))
    rest = [i for i in range(len(table)) if leads[i] and i != best]
    rest.sort(key=lambda i: (-totals[i], -i))
    return [best, *rest][:k]


@given(TABLES, st.integers(1, 5))
def test_selection_is_the_definition(table, k):
    everyone = candidates(table)
    kept = select(everyone, k)
    assert [everyone.index(c) for c in kept] == kept_by_definition(table, k)


@given(TABLES)
def test_frontier_is_the_definition(table):
    everyone = candidates(table)
    front = frontier({c.context.digest: c.scores for c in everyone})
    telling = [j for j in range(len(table[0])) if len({row[j] for row in table}) > 1]
    for row, candidate in zip(table, everyone, strict=True):
        leads = [j for j in telling if all(row[j] >= other[j] for other in table)]
        assert (candidate.context.digest in front) == (bool(leads) or not telling)


@given(TABLES, st.integers(1, 5), st.randoms())
def test_the_order_of_problems_does_not_matter(table, k, random):
    columns = list(range(len(table[0])))
    random.shuffle(columns)
    shuffled = [
        replace(c, scores={f"p{j}": c.scores[f"p{j}"] for j in columns}) for c in candidates(table)
    ]
    assert [c.context for c in select(candidates(table), k)] == [
        c.context for c in select(shuffled, k)
    ]


def test_the_best_mean_is_kept_though_it_leads_nowhere():
    steady, left, right = candidates([[0.7, 0.7], [1.0, 0.0], [0.0, 1.0]])
    assert select([left, right, steady], 2) == (steady, right)
    assert select([left, right, steady], 1) == (steady,)


def test_places_are_not_filled_with_contexts_that_lead_nowhere():
    good, useless = candidates([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert select([useless, good], 4) == (good,)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_where_nothing_tells_contexts_apart_the_later_ones_are_tried(score):
    everyone = candidates([[score, score]] * 4)
    assert select(everyone, 3) == tuple(reversed(everyone[1:]))
