"""What each study concludes from runs whose answer is known, because they were written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fastslow.report.plot import Panel
from fastslow.studies import STUDIES
from fastslow.studies.claims import Claim
from fastslow.studies.prepare import find
from fastslow.studies.study import Conclusion

Row = dict[str, Any]
Make = Callable[..., Any]

COST = {"groups/kept": 3, "groups/dropped": 1, "rollouts/reused": 0, "tokens/sampled": 50}


@pytest.fixture
def concluded(evidence: Make) -> Make:
    def make(name: str, *of: Any, **settings: Any) -> Conclusion:
        return find(name).conclude(evidence(name, *of, **settings))

    return make


def the(conclusion: Conclusion, words: str) -> Claim:
    (found,) = [claim for claim in conclusion.claims if words in claim.text]
    return found


def holds(conclusion: Conclusion) -> list[str]:
    return [claim.holds for claim in conclusion.claims]


def reasons(claim: Claim) -> list[str]:
    return [reading["missing"] for reading in claim.to_json("")["readings"]]


def drawn(panel: Panel) -> dict[str, list[list[tuple[float, float]]]]:
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for series in panel.series:
        found.setdefault(series.label, []).append(list(zip(series.x, series.y, strict=True)))
    return found


@pytest.fixture
def course(slow: Make, evaluated: Make) -> Make:
    """A run that is evaluated every second step; ``accuracies`` begin with that of step 0."""

    def make(
        accuracies: Sequence[float],
        context: str = "seed",
        *,
        task: str = "star_graph",
        rollouts: int = 16,
        fast: int = 0,
        evaluation: Mapping[str, Sequence[Any]] | None = None,
        **measures: Any,
    ) -> list[Row]:
        rows: list[Row] = []
        for number, accuracy in enumerate(accuracies):
            step = 2 * number
            if number and fast:
                cost = {"rollouts/sampled": fast, "tokens/sampled": 10 * fast}
                rows.append({**slow(step - 2, **cost), "phase": "fast"})
            for one in (step - 1, step) if number else ():
                cost = {**COST, "rollouts/sampled": rollouts, **measures}
                rows.append(slow(one, **cost))
            more = {key: values[number] for key, values in (evaluation or {}).items()}
            rows.append({**evaluated(step, context if step else "seed", accuracy, task), **more})
        return rows

    return make


def both_seeds(**roles: Sequence[Row]) -> dict[tuple[str, int], Sequence[Row]]:
    return {(role, seed): rows for seed in (0, 1) for role, rows in roles.items()}


# Nothing to conclude from.


@pytest.mark.parametrize("name", STUDIES)
def test_without_runs_nothing_is_decided(concluded: Make, name: str) -> None:
    found = concluded(name, {})
    assert not found.rows
    assert not found.files
    assert set(holds(found)) == {"undecided"}
    assert all("no finished run" in reason for c in found.claims for reason in reasons(c))


@pytest.mark.parametrize("name", ["efficiency", "ceiling", "drift", "star-graph"])
def test_a_missing_run_leaves_a_claim_undecided_and_names_it(
    concluded: Make, course: Make, name: str
) -> None:
    runs = both_seeds(rl=course([0.1, 0.2]), fst=course([0.1, 0.5], "best"))
    del runs["fst", 1]
    found = concluded(name, runs)
    assert found.claims[0].holds == "undecided"
    assert "no finished run of fst" in found.claims[0].to_json("")["readings"][1]["missing"]
    assert {(row["role"], row["seed"]) for row in found.rows} <= {("rl", 0), ("rl", 1), ("fst", 0)}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_decides_nothing(concluded: Make, course: Make, value: float) -> None:
    fst = course([0.1, 0.5, 0.9], "best", evaluation=drifting(0.0, value, value))
    rl = course([0.1, 0.3, 0.5], evaluation=drifting(0.0, 0.2, 0.4))
    claim = concluded("drift", both_seeds(rl=rl, fst=fst)).claims[0]
    assert claim.holds == "undecided"
    assert reasons(claim) == [f"what was measured comes to {value}"] * 2


# Efficiency.


@pytest.fixture
def rl_climbs(course: Make) -> list[Row]:
    return course([0.1, 0.2, 0.3, 0.4, 0.5])


def test_efficiency_counts_three_ways(concluded: Make, course: Make, rl_climbs: list[Row]) -> None:
    fst = course([0.1, 0.5, 0.4], "best", fast=40)
    fast = course([0.1, 0.3], "best")
    found = concluded("efficiency", both_seeds(rl=rl_climbs, fst=fst, fast=fast))
    # RL peaks after 8 batches of 4 problems, 16 rollouts and 50 tokens; FST after 2 such batches,
    # the 40 rollouts and 400 tokens of a fast phase, and 2 problems to make demonstrations of.
    assert the(found, "fewer problems").estimate == pytest.approx(32 / 10)
    assert the(found, "fewer rollouts").estimate == pytest.approx(128 / 72)
    assert the(found, "fewer tokens").estimate == pytest.approx(400 / 500)
    assert holds(found) == ["yes", "no", "no"]
    row = next(row for row in found.rows if row["role"] == "fst")
    assert row["ratio/problems/slow_phases"] == pytest.approx(4.0)
    assert row["ratio/rollouts/slow_phases"] == pytest.approx(4.0)
    assert row["ratio/tokens"] == pytest.approx(0.8)
    assert (row["first"], row["final"], row["peak"]) == (0.1, 0.4, 0.5)
    assert (row["run"], row["rollouts"], row["tokens"]) == ("fst 0", 144, 1000)
    assert not any(key.startswith("ratio") for row in found.rows[:2] for key in row)  # RL
    (line, _) = drawn(found.panels[0])["fst"]
    assert line == [(0, 0.1), (10, 0.5), (18, 0.5)]  # the running maximum
    (line, _) = drawn(found.panels[3])["fst"]
    assert line[-1] == pytest.approx((0.5, 128 / 72))
    assert line[9] == pytest.approx((0.3, 64 / 36))  # half of the way, for both


def test_a_threshold_of_ones_own(concluded: Make, course: Make, rl_climbs: list[Row]) -> None:
    runs = both_seeds(rl=rl_climbs, fst=course([0.1, 0.5], "best"))
    assert the(concluded("efficiency", runs, ratio=4.5), "problems").holds == "no"
    assert the(concluded("efficiency", runs, ratio=3.5), "problems").holds == "yes"


def test_a_peak_that_is_not_reached_bounds_the_ratio(
    concluded: Make, course: Make, rl_climbs: list[Row]
) -> None:
    fst = course([0.1, 0.2, 0.2, 0.2, 0.3], "best")
    found = concluded("efficiency", both_seeds(rl=rl_climbs, fst=fst))
    claim = the(found, "problems")
    assert claim.to_json("")["readings"][0] == {"seed": 0, "value": 1.0, "bound": "at most"}
    assert claim.holds == "no"
    assert "ratio/problems" not in next(row for row in found.rows if row["role"] == "fst")


def test_an_rl_that_never_rises_is_no_mark(concluded: Make, course: Make) -> None:
    runs = both_seeds(rl=course([0.2, 0.1, 0.1]), fst=course([0.2, 0.5], "best"))
    claim = the(concluded("efficiency", runs), "problems")
    assert claim.holds == "undecided"
    assert "never rose above its start" in reasons(claim)[0]


# Ceiling.


def sigmoid(asymptote: float, count: int = 12) -> list[float]:
    return [asymptote / (1 + (4 / n) ** 2) if n else 0.0 for n in range(count + 1)]


def test_asymptotes_are_fitted(concluded: Make, course: Make) -> None:
    runs = both_seeds(
        rl=course(sigmoid(0.5)),
        fst=course(sigmoid(0.8), "best"),
        distill=course(sigmoid(0.4), fast=9),  # problems are those trained on, of any method
    )
    found = concluded("ceiling", runs)
    assert the(found, "levels off").estimate == pytest.approx(0.3, abs=0.01)
    assert the(found, "best accuracy").estimate == pytest.approx(0.27)
    assert the(found, "distillation").estimate == pytest.approx(0.36)
    assert holds(found) == ["yes", "yes", "yes"]
    by_role = {row["role"]: row for row in found.rows}
    assert by_role["distill"]["asymptote"] == pytest.approx(0.4, abs=0.01)
    assert by_role["distill"]["midpoint"] == pytest.approx(32, rel=0.05)  # 4 times 8 problems
    fit = drawn(found.panels[0])["fst"][-1]
    assert fit[0] == (0, 0)
    assert fit[-1] == pytest.approx((96, 0.72), abs=0.01)


def test_a_curve_that_does_not_tell_its_asymptote(concluded: Make, course: Make) -> None:
    runs = both_seeds(rl=course([0.1] * 10), fst=course(sigmoid(0.8), "best"))
    found = concluded("ceiling", runs)
    assert the(found, "levels off").holds == "undecided"
    assert reasons(the(found, "levels off"))[0].startswith("RL: ")
    assert the(found, "best accuracy").holds == "yes"
    row = next(row for row in found.rows if row["role"] == "rl")
    assert "asymptote" not in row
    assert row["asymptote/unknown"]


# Drift.


def drifting(*values: float) -> dict[str, Sequence[float]]:
    return {"drift/exact": values, "drift/sequence": [10 * value for value in values]}


@pytest.mark.parametrize(("end", "verdict"), [(0.1, "yes"), (0.3, "no")])
def test_drift_is_compared_where_the_rewards_match(
    concluded: Make, course: Make, end: float, verdict: str
) -> None:
    # At 0.3 accuracy FST's drift is the smaller share by far.
    rl = course([0.1, 0.3, 0.5], evaluation=drifting(0.0, 0.35, 0.4))
    # It goes on to drift, beyond what RL reaches: that is not compared.
    fst = course([0.1, 0.5, 0.9], "best", evaluation=drifting(0.0, end, 5.0))
    found = concluded("drift", both_seeds(rl=rl, fst=fst))
    assert [(row["role"], row["step"]) for row in found.rows if row["seed"] == 0] == [
        (role, step) for role in ("rl", "fst") for step in (0, 2, 4)
    ]
    claim = the(found, "highest reward")
    assert claim.estimate == pytest.approx(end / 0.4)
    assert claim.holds == verdict
    # At 0.3, halfway to its 0.5, FST has half of the drift, and RL nearly all of its own.
    assert the(found, "some matched reward").estimate == pytest.approx(end / 2 / 0.35)
    (ratios, _) = drawn(found.panels[1])["fst"]
    assert ratios[-1] == pytest.approx((0.5, end / 0.4))
    assert ratios[9] == pytest.approx((0.3, end / 2 / 0.35))
    row = next(row for row in found.rows if row["role"] == "fst" and row["step"] == 2)
    assert (row["context"], row["accuracy"], row["drift/sequence"]) == ("best", 0.5, 10 * end)
    assert drawn(found.panels[0])["rl"][0] == [(0.0, 0.1), (0.35, 0.3), (0.4, 0.5)]


def test_drift_without_a_common_reward(concluded: Make, course: Make) -> None:
    rl = course([0.1, 0.1], evaluation=drifting(0.0, 0.2))
    fst = course([0.1, 0.5], "best", evaluation=drifting(0.0, 0.1))
    found = concluded("drift", both_seeds(rl=rl, fst=fst))
    assert "no reward above their start" in reasons(found.claims[0])[0]
    unmeasured = both_seeds(rl=course([0.1, 0.5]), fst=fst)
    found = concluded("drift", unmeasured)
    assert "no evaluation with drift" in reasons(found.claims[0])[0]
    still = course([0.1, 0.5], "best", evaluation=drifting(0.0, 0.0))  # contexts did it alone
    moved = course([0.1, 0.5], evaluation=drifting(0.0, 0.2))
    found = concluded("drift", both_seeds(rl=moved, fst=still))
    assert "before its weights moved" in reasons(found.claims[0])[0]


# Plasticity.


def test_plasticity_compares_the_ends_of_the_second_task(concluded: Make, course: Make) -> None:
    def runs(fst: float) -> dict[tuple[str, int], Sequence[Row]]:
        roles = {
            "rl": course([0.1, 0.9]),
            "fst": course([0.1, 0.9], "best"),
            "base -> rl": course([0.1, 0.7, 0.5]),
            "rl -> rl": course([0.1, 0.2]),
            "fst -> rl": course([0.1, fst]),
        }
        return both_seeds(**roles)

    found = concluded("plasticity", runs(0.49))
    assert holds(found) == ["yes", "yes"]  # within the margin of 0.02
    assert found.claims[0].estimate == pytest.approx(-0.01)
    assert found.claims[1].estimate == pytest.approx(0.29)
    assert found.claims[0].runs == ["fst -> rl 0", "fst -> rl 1", "base -> rl 0", "base -> rl 1"]
    found = concluded("plasticity", runs(0.15))
    assert holds(found) == ["no", "no"]
    assert concluded("plasticity", runs(0.48)).claims[0].holds == "yes"  # 0.5 less 0.02, no more
    assert [set(drawn(panel)) for panel in found.panels] == [
        {"rl", "fst"},
        {"base -> rl", "rl -> rl", "fst -> rl"},
    ]
    assert concluded("plasticity", runs(0.4), margin=0.2).claims[0].holds == "yes"


# Continual.


@pytest.fixture
def staged(slow: Make, evaluated: Make) -> Make:
    """Four steps on a star graph, then four on sums: accuracies at 0, 4 and 8, and at 4 and 8."""

    def make(graph: Iterable[float], sums: Iterable[float], context: str) -> list[Row]:
        rows = [
            evaluated(step, context if step else "seed", accuracy, "star_graph")
            for step, accuracy in zip((0, 4, 8), graph, strict=True)
        ]
        rows += [
            evaluated(step, context, accuracy, "chain_sum")
            for step, accuracy in zip((4, 8), sums, strict=True)
        ]
        return [*rows, slow(8)]

    return make


def at_base(seed: int, task: str, accuracy: float) -> Row:
    where = {"role": "rl", "seed": seed, "run": f"rl {seed}", "weights": "base"}
    return {**where, "context": "seed", "task": task, "accuracy": accuracy}


def at_end(seed: int, task: str, accuracy: float) -> Row:
    where = {"role": "fst", "seed": seed, "run": f"fst {seed}", "weights": "trained"}
    return {**where, "context": "own", "task": task, "accuracy": accuracy}


def test_continual_learning(concluded: Make, staged: Make) -> None:
    runs = both_seeds(
        rl=staged([0.2, 0.6, 0.5], [0.1, 0.12], "seed"),
        fst=staged([0.2, 0.7, 0.55], [0.3, 0.5], "best"),
    )
    base = [at_base(seed, task, 0.1) for seed in (0, 1) for task in ("star_graph", "chain_sum")]
    own = [at_end(seed, "star_graph", 0.68) for seed in (0, 1)]
    found = concluded("continual", runs, [*base, *own])
    expected = {
        "RL acquires star_graph": (0.5, "yes"),
        "FST acquires star_graph": (0.6, "yes"),
        "RL acquires chain_sum": (0.02, "no"),
        "FST acquires chain_sum": (0.4, "yes"),
        "RL keeps star_graph": (-0.1, "no"),
        "FST keeps star_graph to the end of the run (": (-0.15, "no"),
        "FST keeps star_graph to the end of the run under its own context": (-0.02, "yes"),
    }
    assert len(found.claims) == len(expected)
    for words, (estimate, verdict) in expected.items():
        claim = the(found, words)
        assert claim.estimate == pytest.approx(estimate)
        assert claim.holds == verdict
        assert claim.task in words
    normalised = {
        (row["role"], row["task"], row["step"]): row["normalised"]
        for row in found.rows
        if row["seed"] == 0
    }
    assert normalised == pytest.approx(
        {
            ("rl", "star_graph", 4): 100 * 5 / 6,
            ("rl", "star_graph", 8): 100 * 4 / 6,
            ("rl", "chain_sum", 4): 0,
            ("rl", "chain_sum", 8): 5,
            ("fst", "star_graph", 4): 100,
            ("fst", "star_graph", 8): 100 * 0.45 / 0.6,
            ("fst", "chain_sum", 4): 50,
            ("fst", "chain_sum", 8): 100,
        }
    )
    kept = {(r["role"], r["step"]): r["accuracy/own"] for r in found.rows if "accuracy/own" in r}
    assert kept == {("fst", 8): 0.68}
    assert drawn(found.panels[0])["fst, the task's own context"] == [[(8, 0.68)], [(8, 0.68)]]
    assert [list(panel.boundaries) for panel in found.panels] == [[4], [4]]


def test_what_was_not_acquired_is_not_kept_either(concluded: Make, staged: Make) -> None:
    runs = both_seeds(rl=staged([0.1, 0.1, 0.1], [0.1, 0.1], "seed"))
    base = [at_base(seed, "star_graph", 0.1) for seed in (0, 1)]
    claim = the(concluded("continual", runs, base), "RL keeps star_graph")
    assert claim.holds == "undecided"
    assert "was not acquired in its stage" in reasons(claim)[0]


def test_continual_learning_without_the_base(concluded: Make, staged: Make) -> None:
    runs = both_seeds(rl=staged([0.2, 0.6, 0.5], [0.1, 0.12], "seed"))
    found = concluded("continual", runs)
    assert not any("normalised" in row for row in found.rows)
    assert {c.holds for c in found.claims if "acquires" in c.text} == {"undecided"}


# Star graph.


@pytest.fixture
def rewarded(slow: Make) -> Make:
    def make(*rewards: float) -> list[Row]:
        return [
            slow(step, **{"reward/mean": reward, **({"grad_norm": 2.0} if reward else {})})
            for step, reward in enumerate(rewards, start=1)
        ]

    return make


def test_when_reward_and_gradient_leave_zero(concluded: Make, rewarded: Make) -> None:
    runs = both_seeds(
        rl=rewarded(0, 0, 0, 0.1, 0, 0.3, 0.3, 0.3),
        fst=rewarded(0, 0.4, 0.4, 0.4, 0.8, 0.8, 0.8, 0.8),
    )
    found = concluded("star-graph", runs, window=2, threshold=0.1)
    by_role = {row["role"]: row for row in found.rows}
    # The mean over two steps exceeds 0.1 for the first time in the window that begins there.
    assert (by_role["rl"]["reward/from"], by_role["rl"]["gradient/from"]) == (5, 4)
    assert (by_role["fst"]["reward/from"], by_role["fst"]["gradient/from"]) == (1, 2)
    assert (by_role["rl"]["steps/no_gradient"], by_role["fst"]["steps/no_gradient"]) == (4, 1)
    assert the(found, "leaves zero").estimate == pytest.approx(5)
    assert the(found, "at the end").estimate == pytest.approx(0.5)
    assert holds(found) == ["yes", "yes"]
    assert drawn(found.panels[1])["rl"][0][:4] == [(1, 0), (2, 0), (3, 0), (4, 2)]


@pytest.mark.parametrize(
    ("rl", "fst", "reading", "verdict"),
    [
        # Of 8 steps, 6 begin a whole window of 3: had there been more, 7 might have been the first.
        ((0,) * 8, (0.5,) * 8, {"value": 7.0, "bound": "at least"}, "yes"),
        ((0.5,) * 8, (0,) * 8, {"value": 1 / 7, "bound": "at most"}, "no"),
        ((*(0,) * 7, 0.1), (0.5,) * 8, {"value": 7.0, "bound": "at least"}, "yes"),
        ((0, 0), (0.5,) * 8, {"value": 1.0, "bound": "at least"}, "undecided"),
        ((0,) * 8, (0,) * 8, {"missing": "neither reward left zero"}, "undecided"),
    ],
)
def test_a_reward_that_never_leaves_zero_is_a_bound(
    concluded: Make, rewarded: Make, rl: Any, fst: Any, reading: Row, verdict: str
) -> None:
    runs = both_seeds(rl=rewarded(*rl), fst=rewarded(*fst))
    claim = concluded("star-graph", runs).claims[0]
    assert claim.to_json("")["readings"][0] == {"seed": 0, **reading}
    assert claim.holds == verdict


def test_a_step_that_was_skipped_has_no_gradient_to_tell_of(
    concluded: Make, rewarded: Make
) -> None:
    rl = rewarded(0, 0.5, 0.5, 0.5)
    rl[2] = {**rl[2], "skipped": "the loss is not finite"}
    del rl[2]["grad_norm"]
    found = concluded("star-graph", both_seeds(rl=rl, fst=rewarded(0.5, 0.5, 0.5, 0.5)))
    assert drawn(found.panels[1])["rl"][0] == [(1, 0), (2, 2), (4, 2)]
    assert found.rows[0]["steps/no_gradient"] == 1


# Evaluations beside the runs.


def cell(seed: int, role: str, weights: str, context: str, task: str, accuracy: float) -> Row:
    where = {"role": role, "seed": seed, "run": f"{role} {seed}", "weights": weights}
    return {**where, "context": context, "task": task, "accuracy": accuracy}


def test_quadrants(evidence: Make, course: Make) -> None:
    accuracies = {
        ("base", "seed"): 0.1,
        ("base", "best"): 0.3,
        ("trained", "seed"): 0.5,
        ("trained", "best"): 0.6,
    }
    rows = [
        cell(seed, "fst", *place, "star_graph", accuracy)
        for seed in (0, 1)
        for place, accuracy in accuracies.items()
    ]
    made = evidence("quadrants", both_seeds(fst=course([0.1, 0.6], "best")), rows)
    found = find("quadrants").conclude(made)
    assert the(found, "trained weights add").estimate == pytest.approx(0.3)
    assert the(found, "evolved contexts add").estimate == pytest.approx(0.1)
    assert holds(found) == ["yes", "yes"]
    assert list(found.rows) == rows
    assert found.files == {
        made.runs["fst", seed].path / "quadrants.json": rows[4 * seed : 4 * seed + 4]
        for seed in (0, 1)
    }
    (points,) = drawn(found.panels[0])["fst"]
    assert points == [(0, 0.1)] * 2 + [(1, 0.3)] * 2 + [(2, 0.5)] * 2 + [(3, 0.6)] * 2
    without = find("quadrants").conclude(replace(made, evaluated=rows[:6]))
    assert set(holds(without)) == {"undecided"}
    unmeasured = find("quadrants").conclude(replace(made, evaluated=[]))
    assert not unmeasured.files  # what was measured before is not written over with nothing


def test_out_of_distribution(concluded: Make, course: Make) -> None:
    arms = {("rl", "base"): 0.2, ("rl", "trained"): 0.4, ("fst", "trained"): 0.21}
    rows = [
        cell(seed, *arm, "seed", "hard", accuracy + (0.002 * seed if arm[0] == "fst" else 0))
        for seed in (0, 1)
        for arm, accuracy in arms.items()
    ]
    runs = both_seeds(rl=course([0.1, 0.6]), fst=course([0.1, 0.6], "best"))
    found = concluded("ood", runs, rows)
    assert the(found, "lose nothing on hard").estimate == pytest.approx(0.011)
    assert the(found, "as well as RL's on hard").estimate == pytest.approx(-0.189)
    assert holds(found) == ["yes", "no"]
    assert {claim.task for claim in found.claims} == {"hard"}
    assert drawn(found.panels[0])["fst"] == [[(0.12, 0.21), (0.12, 0.212)]]
    assert set(drawn(found.panels[0])) == {"base", "rl", "fst"}
    assert holds(concluded("ood", runs, rows, margin=0.3)) == ["yes", "yes"]


# The others.


def test_ablations(concluded: Make, course: Make) -> None:
    roles = {
        "rl": course([0.1, 0.3]),
        "fst": course([0.1, 0.6], "best"),
        "fast.population=1": course([0.1, 0.5], "best"),
        "slow.baseline=context": course([0.1, 0.6], "best"),
        "fast.reuse=false": course([0.1, 0.7], "best"),
    }
    found = concluded("ablations", both_seeds(**roles))
    assert the(found, "better than fast.population=1").estimate == pytest.approx(0.1)
    assert the(found, "K = 1").estimate == pytest.approx(0.2)
    assert holds(found) == ["yes", "no", "no", "yes"]
    assert [row["role"] for row in found.rows] == [role for role in roles for _ in range(2)]
    assert set(drawn(found.panels[0])) == set(roles)


def test_contexts_for_the_final_weights(concluded: Make, course: Make) -> None:
    roles = {
        "rl": course([0.1, 0.5]),
        "rl -> fast": course([0.5, 0.6], "best"),
        "fst": course([0.1, 0.55], "best"),
    }
    found = concluded("final-contexts", both_seeds(**roles))
    assert [claim.estimate for claim in found.claims] == pytest.approx([-0.05, 0.1])
    assert holds(found) == ["no", "yes"]
    assert [row["first"] for row in found.rows] == [0.1, 0.1, 0.5, 0.5, 0.1, 0.1]
