"""What each study plans to run, and which runs studies share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from study_setups import STAGES, THEN, run_config, setup_of

from fastslow.errors import InputError
from fastslow.studies import STUDIES
from fastslow.studies.plan import Evaluation, Plan, RunSpec
from fastslow.studies.prepare import find
from fastslow.studies.study import merge


def plan_of(name: str, config: Any = None, **settings: Any) -> Plan:
    return find(name).plan(setup_of(name, config, **settings))


def digests(name: str, config: Any = None, **settings: Any) -> dict[tuple[str, int], str]:
    return {run.key: run.digest for run in plan_of(name, config, **settings).runs}


# The runs of each study.


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        ("efficiency", [("rl", "rl"), ("fst", "fst"), ("fast", "fast")]),
        ("ceiling", [("rl", "rl"), ("fst", "fst"), ("distill", "distill")]),
        ("drift", [("rl", "rl"), ("fst", "fst")]),
        ("continual", [("rl", "rl"), ("fst", "fst")]),
        ("star-graph", [("rl", "rl"), ("fst", "fst")]),
        ("ood", [("rl", "rl"), ("fst", "fst")]),
        ("quadrants", [("fst", "fst")]),
        ("final-contexts", [("rl", "rl"), ("rl -> fast", "fast"), ("fst", "fst")]),
        (
            "plasticity",
            [
                ("rl", "rl"),
                ("fst", "fst"),
                ("base -> rl", "rl"),
                ("rl -> rl", "rl"),
                ("fst -> rl", "rl"),
            ],
        ),
        (
            "ablations",
            [
                ("rl", "rl"),
                ("fst", "fst"),
                ("fast.population=1", "fst"),
                ("slow.baseline=context", "fst"),
                ("fast.reuse=false", "fst"),
            ],
        ),
    ],
)
def test_the_arms_of_a_study(name: str, arms: list[tuple[str, str]]) -> None:
    runs = plan_of(name).runs
    assert [(run.config.seed, run.role, run.config.approach) for run in runs] == [
        (seed, *arm) for seed in (0, 1) for arm in arms
    ]


def test_every_study_is_tried_above() -> None:
    (mark,) = test_the_arms_of_a_study.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in mark.args[1]} == set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_three_seeds_unless_it_is_told_otherwise(name: str) -> None:
    assert find(name).settings.model_fields["seeds"].default == (0, 1, 2)


def test_drift_is_measured_where_it_is_studied() -> None:
    assert all(run.config.eval.drift for run in plan_of("drift").runs)
    assert not any(run.config.eval.drift for run in plan_of("efficiency").runs)


def test_drift_is_measured_under_the_whole_population_too() -> None:
    plan = plan_of("drift")
    assert [(e.run.key, e.weights) for e in plan.evaluations] == [
        (("fst", seed), "trained") for seed in (0, 1)
    ]
    for evaluation in plan.evaluations:
        assert evaluation.settings.contexts == ("population",)
        assert evaluation.settings.drift
    all_along = run_config(eval={"contexts": ["seed", "best", "population"]})
    assert not plan_of("drift", all_along).evaluations


def test_plasticity_begins_the_second_task_from_each_of_the_first() -> None:
    runs = {run.role: run for run in plan_of("plasticity", seeds=[3]).runs}
    assert runs["base -> rl"].after is None
    for role, first in (("rl -> rl", "rl"), ("fst -> rl", "fst")):
        assert runs[role].after == runs[first]
        assert runs[role].resolved.model == str(runs[first].path / "checkpoints/step_000008")
    for role in ("base -> rl", "rl -> rl", "fst -> rl"):
        config = runs[role].config
        assert (config.seed, config.total_steps, *config.tasks) == (3, 4, "chain_sum")
        assert config.slow == runs["rl"].config.slow
    assert runs["rl"].config.total_steps == 8


def test_the_first_task_of_plasticity_may_be_a_single_stage() -> None:
    stages = [{"task": {"name": "star_graph"}, "steps": 8}]
    plan = plan_of("plasticity", run_config(task=None, steps=None, stages=stages), seeds=[0])
    assert [(*run.config.tasks, run.config.total_steps) for run in plan.runs] == [
        *[("star_graph", 8)] * 2,
        *[("chain_sum", 4)] * 3,
    ]


def test_contexts_for_the_final_weights_begin_from_them() -> None:
    runs = {run.role: run for run in plan_of("final-contexts", seeds=[0]).runs}
    assert runs["rl -> fast"].after == runs["rl"]
    assert runs["rl -> fast"].resolved.model == str(runs["rl"].path / "checkpoints/step_000008")
    assert runs["rl -> fast"].config.total_steps == runs["fst"].config.total_steps


def test_ablations_vary_one_key_each() -> None:
    values: dict[str, Any] = {
        "population": [1, 4, 2],
        "every": [4],
        "group": [4, 4],
        "components": [["instructions"], ["demonstrations"]],
    }
    fast = {"every": 2, "population": 2, "reflection": {"model": "policy"}}
    config = run_config(fast=fast)
    runs = {run.role: run.config for run in plan_of("ablations", config, seeds=[0], **values).runs}
    reference = runs["fst"].model_dump()
    changes = {
        role: {
            f"{section}.{key}": value
            for section in ("fast", "slow", "eval")
            for key, value in run.model_dump()[section].items()
            if value != reference[section][key]
        }
        for role, run in runs.items()
        if role not in ("rl", "fst")
    }
    assert changes == {
        "fast.population=1": {"fast.population": 1},
        "fast.population=4": {"fast.population": 4},
        "fast.every=4": {"fast.every": 4, "eval.every": 2},  # evaluated where the others are
        "slow.group=4": {"slow.group": 4},
        "slow.baseline=context": {"slow.baseline": "context"},
        "fast.reuse=false": {"fast.reuse": False},
        "fast.components=instructions": {"fast.components": ("instructions",)},
    }


def test_ablations_keep_an_evaluation_schedule_that_was_set() -> None:
    config = run_config(eval={"every": 3})
    runs = {run.role: run.config for run in plan_of("ablations", config, every=[4]).runs}
    assert runs["fast.every=4"].eval.every == 3


def test_an_ablation_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"run 'fast.population=3': fast.population is 3.*1, 2, 4"):
        plan_of("ablations", population=[3])


def test_continual_takes_several_tasks() -> None:
    with pytest.raises(InputError, match=r"c.toml: study continual takes several tasks"):
        plan_of("continual", run_config())


def test_plasticity_refuses_what_is_wrong_with_the_second_run() -> None:
    with pytest.raises(InputError, match=r"'base -> rl': slow.goup: unknown key.*'group'"):
        plan_of("plasticity", then={**THEN, "slow": {"goup": 4}})
    with pytest.raises(InputError, match=r"study.then: names no second task"):
        plan_of("plasticity", then={"steps": 3})
    with pytest.raises(InputError, match=r"study.then: sets method, seed, which the study"):
        plan_of("plasticity", then={**THEN, "seed": 1, "method": "fst"})


# Evaluations beside the runs.


def test_quadrants_evaluate_both_weights_under_both_contexts() -> None:
    plan = plan_of("quadrants", split="validation", problems=5, samples=3)
    assert [(e.run.key, e.weights) for e in plan.evaluations] == [
        (("fst", seed), weights) for seed in (0, 1) for weights in ("base", "trained")
    ]
    for evaluation in plan.evaluations:
        settings = evaluation.settings
        assert settings.contexts == ("seed", "best")
        assert (settings.split, settings.problems, settings.samples) == ("validation", 5, 3)
        assert evaluation.tasks is None


def test_ood_evaluates_base_and_both_trained_weights_without_an_optimised_context() -> None:
    plan = plan_of("ood", split="validation", problems=5, samples=3)
    assert [(e.run.key, e.weights) for e in plan.evaluations] == [
        ((role, seed), weights)
        for seed in (0, 1)
        for role, weights in (("rl", "base"), ("rl", "trained"), ("fst", "trained"))
    ]
    for evaluation in plan.evaluations:
        settings = evaluation.settings
        assert settings.contexts == ("seed",)
        assert (settings.split, settings.problems, settings.samples) == ("validation", 5, 3)
        assert evaluation.tasks is not None
        assert evaluation.tasks["hard"].options == {"d": 4}


def test_continual_evaluates_the_base_and_the_end_on_every_task() -> None:
    plan = plan_of("continual")
    assert [(e.run.key, e.weights, e.settings.contexts) for e in plan.evaluations] == [
        (("rl", 0), "base", ("seed",)),
        (("rl", 1), "base", ("seed",)),
        (("fst", 0), "trained", ("own",)),
        (("fst", 1), "trained", ("own",)),
    ]


def test_an_evaluation_is_known_by_what_it_measures() -> None:
    run = RunSpec("fst", run_config())
    settings = run.config.eval
    task = {"hard": run_config().tasks["star_graph"]}
    others = [
        Evaluation(run, "base", settings),
        Evaluation(run, "trained", settings),
        Evaluation(run, "trained", settings.model_copy(update={"problems": 3})),
        Evaluation(run, "trained", settings, task),
        Evaluation(RunSpec("fst", run_config(seed=1)), "trained", settings),
    ]
    assert len({evaluation.digest for evaluation in others}) == len(others)
    assert Evaluation(run, "trained", settings).digest == others[1].digest


# Sharing.


def test_studies_of_one_configuration_share_their_runs() -> None:
    efficiency = digests("efficiency")
    for name in ("ceiling", "star-graph", "ood", "final-contexts", "ablations", "plasticity"):
        other = digests(name)
        for key in (("rl", 0), ("rl", 1), ("fst", 0), ("fst", 1)):
            assert other[key] == efficiency[key]
    assert digests("quadrants")["fst", 0] == efficiency["fst", 0]
    assert len(set(efficiency.values())) == len(efficiency)


def test_drift_shares_its_runs_where_the_configuration_measures_drift() -> None:
    config = run_config(eval={"drift": True})
    measured = digests("efficiency", config)
    assert digests("drift", config).items() <= measured.items()
    assert not set(digests("drift").values()) & set(digests("efficiency").values())


def test_names_and_folders_are_aside() -> None:
    config = run_config(name="mine", log={"folder": "elsewhere", "keep": 3, "rollouts": False})
    assert digests("efficiency", config) == digests("efficiency")
    run = plan_of("efficiency", config).runs[1]
    assert run.path == Path("elsewhere") / f"fst-star_graph-seed0-{run.digest[:8]}"
    assert run.resolved.name == run.path.name
    assert run.resolved.log == config.log


def test_a_default_may_be_written_down() -> None:
    config = run_config(slow={"problems": 4, "kl_cap": 4.0, "lora": None}, policy={})
    assert digests("efficiency", config) == digests("efficiency")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "n"},
        {"steps": 9},
        {"task": {"name": "star_graph", "d": 3}},
        {"context": {"instructions": "Other."}},
        {"slow": {"problems": 4, "lr": 1e-5}},
        {"fast": {"every": 2, "population": 2, "demonstrations": {"probe": 2}}},
        {"eval": {"problems": 3}},
    ],
)
def test_whatever_is_computed_counts(changes: dict[str, Any]) -> None:
    changed = digests("efficiency", run_config(**changes))
    assert not set(changed.values()) & set(digests("efficiency").values())


def test_runs_that_begin_from_others_are_known_by_them() -> None:
    first = digests("plasticity")
    second = digests("plasticity", run_config(slow={"problems": 4, "lr": 1e-5}, model="m"))
    elsewhere = digests("plasticity", run_config(log={"folder": "elsewhere"}))
    assert first == elsewhere
    assert len(set(first.values())) == 10
    assert first["rl -> rl", 0] != second["rl -> rl", 0]
    lone = RunSpec("rl", run_config(method="rl"))
    after = RunSpec("rl", run_config(method="rl"), after=lone)
    other = RunSpec("rl", run_config(method="rl"), after=after)
    assert len({lone.digest, after.digest, other.digest}) == 3


def test_the_plans_digest_tells_studies_apart_but_not_what_they_conclude() -> None:
    assert plan_of("ood").digest == plan_of("ood", margin=0.5).digest
    others = [
        plan_of("ood"),
        plan_of("ood", seeds=[0]),
        plan_of("ood", problems=3),
        plan_of("efficiency"),
        plan_of("drift"),
    ]
    assert len({plan.digest for plan in others}) == len(others)


# Plans that cannot be.


def test_what_a_run_begins_from_comes_before_it() -> None:
    first = RunSpec("first", run_config())
    second = RunSpec("second", run_config(), after=first)
    assert Plan((first, second)).runs == (first, second)
    with pytest.raises(ValueError, match="comes before the run that it begins from"):
        Plan((second, first))
    with pytest.raises(ValueError, match="twice"):
        Plan((first, first))


def test_a_change_replaces_values_within_tables_and_tasks_as_a_whole() -> None:
    data = {"slow": {"lr": 1, "lora": {"rank": 2}}, "task": {"name": "a", "d": 2}, "steps": 3}
    changes = {"slow": {"lora": {"alpha": 4}}, "task": {"name": "b"}, "eval": {"every": 1}}
    assert merge(data, changes) == {
        "slow": {"lr": 1, "lora": {"rank": 2, "alpha": 4}},
        "task": {"name": "b"},
        "steps": 3,
        "eval": {"every": 1},
    }
    assert data["slow"] == {"lr": 1, "lora": {"rank": 2}}


def test_stages_are_replaced_as_a_whole() -> None:
    config = run_config(**STAGES)
    run = setup_of("continual", config).run("fst", "fst", 0)
    assert run.config.stages == config.stages
