"""Drift against closed forms: two coins, and a policy that samples from one of them."""

import math
from itertools import product

import pytest

from fastslow.measure.drift import drift_measures
from fastslow.policy.base import Drift

P, Q = 0.3, 0.6
EXACT = P * math.log(P / Q) + (1 - P) * math.log((1 - P) / (1 - Q))
ENTROPY = -P * math.log(P) - (1 - P) * math.log(1 - P)


def coins(*heads: bool) -> Drift:
    """A completion of independent coins, with P for heads where the base has Q."""
    return Drift(
        tuple(math.log(P if h else 1 - P) for h in heads),
        tuple(math.log(Q if h else 1 - Q) for h in heads),
        (EXACT,) * len(heads),
        (ENTROPY,) * len(heads),
    )


def test_the_estimators_have_the_exact_value_as_their_mean() -> None:
    """Over all completions of three coins, by how likely each is."""
    sums = dict.fromkeys(("drift/exact", "drift/k1", "drift/k3", "drift/sequence", "entropy"), 0.0)
    for heads in product((False, True), repeat=3):
        likelihood = math.prod(P if h else 1 - P for h in heads)
        for name, value in drift_measures([coins(*heads)]).items():
            sums[name] += likelihood * value
    assert sums == pytest.approx(
        {
            "drift/exact": EXACT,
            "drift/k1": EXACT,
            "drift/k3": EXACT,
            "drift/sequence": 3 * EXACT,
            "entropy": ENTROPY,
        }
    )


def test_tokens_weigh_the_same_and_so_do_sequences() -> None:
    long, short = Drift((-1.0,) * 3, (-1.0,) * 3, (0.0,) * 3, (1.0,) * 3), coins(True)
    found = drift_measures([long, short])
    assert found["drift/exact"] == pytest.approx(EXACT / 4)
    assert found["drift/sequence"] == pytest.approx(EXACT / 2)
    assert found["drift/k1"] == pytest.approx(math.log(P / Q) / 4)
    assert found["drift/k3"] == pytest.approx((Q / P - 1 - math.log(Q / P)) / 4)
    assert found["entropy"] == pytest.approx((3 + ENTROPY) / 4)


def test_without_tokens_there_is_nothing_to_tell() -> None:
    assert drift_measures([]) == {}
    assert drift_measures([Drift((), (), (), ())]) == {}


def test_a_token_that_the_policy_rules_out_makes_k3_infinite() -> None:
    assert drift_measures([Drift((-1000.0,), (-1.0,), (0.5,), (0.1,))])["drift/k3"] == math.inf


def test_without_distributions_the_estimators_of_sampled_tokens_serve() -> None:
    sampled = Drift((-1.0, -2.0), (-2.0, -2.0), None, None)
    assert drift_measures([sampled]) == {
        "drift/k1": pytest.approx(0.5),
        "drift/k3": pytest.approx(math.exp(-1) / 2),
    }
    # Where some completions lack them, no mean over all can be given.
    assert "drift/exact" not in drift_measures([sampled, coins(True)])
