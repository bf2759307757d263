from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reasoning_gym.factory import DATASETS

from fastslow.config import TaskConfig
from fastslow.errors import InputError
from fastslow.tasks import Task, create
from fastslow.tasks.grading import Graders, settle
from fastslow.tasks.reasoning_gym import ReasoningGym
from fastslow.tasks.scorers import SCORERS
from fastslow.tasks.screen import EVALUATORS, SCREENS, is_arithmetic, is_literal_or_no_python
from fastslow.types import SPLITS

SINGLE_DIGITS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def gym(dataset: str, params: dict[str, Any] | None = None, **options: Any) -> Task:
    keys = {"train": 4, "validation": 2, "test": 2, "params": params or {}, **options}
    return create(TaskConfig(name="reasoning_gym", dataset=dataset, **keys), 0, "c.toml")


@pytest.mark.parametrize(
    "dataset",
    ["chain_sum", "letter_counting", "maze", "mini_sudoku", "bf", "graph_color", "time_intervals",
     "string_insertion", "knights_knaves"],
)  # fmt: skip
def test_demonstrations_score_1_and_untagged_ones_0(dataset: str) -> None:
    task = gym(dataset)
    for split in SPLITS:
        for problem in task.problems(split):
            assert problem.question == problem.reference["question"]
            worked = task.demonstrate(problem)
            assert worked is not None
            assert task.grade(problem, f"Let me think. {worked} Done.").score == 1.0
            bare = task.grade(problem, worked.removeprefix("<answer>").removesuffix("</answer>"))
            assert bare.score == 0.0
            assert worked in bare.feedback


def test_partial_credit_counts_only_if_it_is_asked_for() -> None:
    params = {"max_terms": 2, "max_digits": 1}
    strict = gym("basic_arithmetic", params)
    lenient = gym("basic_arithmetic", params, partial=True)
    problem = strict.problems("train")[0]
    assert problem == lenient.problems("train")[0]
    reference = problem.reference["answer"]
    wordy = f"<answer>it is {reference}</answer>"
    share = len(reference) / len(f"it is {reference}")
    assert lenient.grade(problem, wordy).score == pytest.approx(share)
    verdict = strict.grade(problem, wordy)
    assert verdict.score == 0.0
    assert f"{share:.2f} of 1. Nothing below 1 counts." in verdict.feedback
    assert f"<answer>{reference}</answer>" in verdict.feedback
    for task in (strict, lenient):
        assert task.grade(problem, f"<answer>{reference}</answer>").score == 1.0


def test_datasets_with_a_scorer_of_ours_give_no_partial_credit() -> None:
    task = gym("game_of_life", partial=True)
    problem = task.problems("train")[0]
    empty = json.dumps([[0] * 10] * 10)
    assert task.grade(problem, f"<answer>{empty}</answer>").score == 0.0


@pytest.mark.parametrize(
    ("dataset", "params", "same"),
    [
        ("syllogism", {}, {"invalid_ratio": 0.5}),
        ("syllogism", {"allow_no": False}, {"invalid_ratio": 0.5, "allow_no": False}),
        ("syllogism", {"invalid_ratio": 0.1}, {"invalid_ratio": 0.1}),
        ("string_insertion", {"max_string_length": 9}, {"min_string_length": 5}),
    ],
)
def test_thoughtless_answers_are_right_about_half_of_the_time(
    dataset: str, params: dict[str, Any], same: dict[str, Any]
) -> None:
    task = gym(dataset, params)
    assert isinstance(task, ReasoningGym)
    assert {key: getattr(task._config, key) for key in same} == same


def test_few_distinct_questions_shrink_the_training_set(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastslow.tasks"):
        task = gym("chain_sum", SINGLE_DIGITS, train=1024, validation=32, test=32)
        found = {split: len(task.problems(split)) for split in SPLITS}
    assert found["validation"] == found["test"] == 32
    assert 100 < found["train"] < 200
    assert "distinct problems for train" in caplog.text


def test_data_depend_on_the_data_seed_alone() -> None:
    config = TaskConfig(name="reasoning_gym", dataset="gcd", train=3, validation=2, test=0)
    first, second = (create(config, seed, "c").problems("train") for seed in (0, 1))
    assert first == second
    assert gym("gcd").problems("train") != gym("gcd", data_seed=1).problems("train")


@pytest.mark.parametrize(
    ("dataset", "params", "message"),
    [
        ("chain_sm", {}, r"c.toml: task\.dataset: .*did you mean 'chain_sum'"),
        ("chain_sum", {"min_trms": 1}, r"params\.min_trms: .*did you mean 'min_terms'.*max_digits"),
        ("chain_sum", {"min_terms": "x"}, r"task\.params\.min_terms: .*found 'x'"),
        ("chain_sum", {"min_digits": 5, "max_digits": 2}, r"max_digits must be >= min_digits"),
        ("chain_sum", {"seed": 5}, r"task\.params\.seed: .*task\.data_seed"),
        ("chain_sum", {"min_terms": 0}, r"'chain_sum' refuses these parameters"),
    ],
)
def test_wrong_options_are_explained(dataset: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gym(dataset, params)


def test_scores_out_of_range_and_scorers_that_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    task = gym("gcd")
    assert isinstance(task, ReasoningGym)
    problem = task.problems("train")[0]
    for raw, score in ((math.nan, 0.0), (7.0, 0.0), (-1.0, 0.0), (True, 1.0), (None, 0.0)):
        monkeypatch.setattr(task._dataset, "score_answer", lambda answer, entry, raw=raw: raw)
        assert task.grade(problem, "<answer>5</answer>").score == score


def test_grading_leaves_the_problem_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    task = gym("gcd")
    assert isinstance(task, ReasoningGym)
    problem = task.problems("train")[0]
    before = repr(problem)
    monkeypatch.setattr(task._dataset, "score_answer", lambda _, entry: entry["metadata"].clear())
    task.grade(problem, "<answer>5</answer>")
    assert repr(problem) == before


def test_not_a_number_is_no_complex_number() -> None:
    task = gym("complex_arithmetic")
    assert task.grade(task.problems("train")[0], "<answer>nan</answer>").score == 0.0


def test_every_scorer_that_evaluates_is_screened() -> None:
    evaluating = {
        name
        for name, (dataset, _) in DATASETS.items()
        if EVALUATORS & set(dataset.score_answer.__code__.co_names)
    }
    assert {"spiral_matrix", "countdown"} <= evaluating <= {*SCREENS, *SCORERS}


def test_a_scorer_that_evaluates_unscreened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SCREENS, "spiral_matrix")
    with pytest.raises(
        InputError, match=r"'spiral_matrix' evaluates what the model wrote \(eval\)"
    ):
        gym("spiral_matrix")


def test_programs_of_a_data_set_are_not_run_outside_the_sandbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran = []
    monkeypatch.setattr(DATASETS["codeio"][0], "_generate_io_pair", lambda *_: ran.append(1))
    with pytest.raises(InputError, match=r'c.toml: task\.dataset: .*take the task "codeio"'):
        gym("codeio")
    assert not ran


@pytest.mark.parametrize("part", ["codeio", "spiral_matrix"])
def test_parts_of_a_composite_do_not_get_around_the_screen(part: str) -> None:
    parts = [{"name": part, "weight": 1.0, "config": {}}]
    with pytest.raises(InputError, match=r"'composite' .* refused: .*\[\[stages\.mix\]\]"):
        gym("composite", {"datasets": parts})


def test_a_dataset_without_a_wrong_answer_is_refused() -> None:
    with pytest.raises(InputError, match=r"'propositional_logic' .* refused: .*knights_knaves"):
        gym("propositional_logic")


def test_what_is_refused_is_not_offered() -> None:
    with pytest.raises(InputError) as error:
        gym("no such dataset")
    offered = str(error.value).partition("Allowed: ")[2].split(", ")
    assert set(DATASETS) - set(offered) == {"codeio", "composite", "propositional_logic"}


HOSTILE = [
    "__import__('pathlib').Path({path!r}).touch()",
    "[open({path!r}, 'w')]",
    "(lambda: open({path!r}, 'w'))()",
    "[x for x in [open({path!r}, 'w')]]",
    'f"{{open({path!r})}}"',
    "x.__class__.__init__",
    "sin(x=1)",
    "oracle_answer",
]


@pytest.mark.parametrize("dataset", ["spiral_matrix", "binary_matrix", "n_queens"])
def test_nothing_a_model_wrote_is_run(dataset: str, tmp_path: Path) -> None:
    task = gym(dataset)
    problem = task.problems("train")[0]
    marker = tmp_path / "marker"
    for text in HOSTILE:
        answer = text.format(path=str(marker))
        assert not is_arithmetic(answer)
        assert not is_literal_or_no_python(answer)
        assert task.grade(problem, f"<answer>{answer}</answer>").score == 0.0
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "arithmetic", "literal"),
    [
        ("3*(80 + 84) - x**2/2", True, False),
        ("-6*sin(x) + exp(x) + pi + C", True, False),
        ("[[1, -2], ['a']]", False, True),
        ("1 2 3", False, True),  # no Python: eval stops before it runs anything
        ("ABC", False, True),
        ("Integral(x, x)", False, False),
        ("5!", False, True),
        ("3*x # or 7", False, False),
        ("x" * 3000, False, False),
        ("(" * 900, False, True),
    ],
)
def test_what_scorers_may_be_shown(text: str, arithmetic: bool, literal: bool) -> None:
    assert is_arithmetic(text) is arithmetic
    assert is_literal_or_no_python(text) is literal


def test_it_grades_in_another_process_and_a_scorer_that_does_not_end_is_stopped() -> None:
    task = gym("simple_integration", train=2, validation=1, test=0)
    task.grading_seconds = 1.0
    problem = task.problems("train")[0]
    worked = task.demonstrate(problem)
    assert worked is not None
    with Graders(task, workers=1) as graders:
        endless, right = settle(
            graders.grade([(problem, "<answer>9**9**9**9</answer>"), (problem, worked)])
        )
    assert endless.score == 0.0
    assert "longer than 1 seconds" in endless.feedback
    assert right == task.grade(problem, worked)


@pytest.mark.parametrize("dataset", ["chain_sum", "spiral_matrix", "maze", "calendar_arithmetic"])
def test_any_text_is_graded(dataset: str) -> None:
    task = gym(dataset)
    problem = task.problems("train")[0]

    @settings(max_examples=50, deadline=None)
    @given(st.text(alphabet=st.characters()))
    def grade(text: str) -> None:
        assert 0.0 <= task.grade(problem, f"<answer>{text}</answer>").score <= 1.0
        assert task.grade(problem, text).score == 0.0

    grade()


@pytest.mark.parametrize(
    ("dataset", "params"),
    [
        ("chain_sum", {"max_terms": 10**9}),
        ("chain_sum", {"min_digits": -(10**9)}),
        ("string_insertion", {"max_string_length": 10**7}),
        ("maze", {"max_dist": float("inf")}),
        ("syllogism", {"invalid_ratio": float("nan")}),
        ("count_bits", {"max_n": 10**13}),
        ("path_star", {"node_range": 10**9}),
        ("letter_counting", {"min_words": [1] * 10**6 + [2]}),
        ("chain_sum", {"max_terms": {"a": {"b": [10**9]}}}),
    ],
)
def test_parameters_beyond_all_bounds_are_refused_at_once(
    dataset: str, params: dict[str, Any]
) -> None:
    with pytest.raises(
        InputError, match=rf"task\.params\.{next(iter(params))}: .*allowed: numbers"
    ):
        gym(dataset, params)


def test_a_parameter_whose_default_is_large_may_be_as_large() -> None:
    assert gym("count_bits", {"max_n": 2**31 - 1}).problems("train")
