"""What every task comes to on real data with the embedded model (see README.md).

    python experiments/tasks/run.py --data FOLDER [--runs FOLDER] [NAME...]

From the root of the repository. NAME is a file of configs/ without its ending; all by default. What
results.json holds is not done again, and a training that was broken off is resumed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF
from typing import Any

from tables import write_tables

from fastslow import config as configuration
from fastslow.config import EvalConfig, TaskConfig
from fastslow.errors import InputError
from fastslow.grading.answers import extract
from fastslow.run.observer import Observer
from fastslow.run.record import read_run
from fastslow.tasks import Task, create
from fastslow.tasks.codeio import CodeIO
from fastslow.tasks.codeio_rows import BUNDLED, read_programs
from fastslow.tasks.grading import Graders
from fastslow.tasks.sources import read_rows
from fastslow.training import evaluate, resume, train
from fastslow.types import SPLITS, Problem, Split

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import records  # noqa: E402 - beside the folders of experiments

VERDICTS = 250
"""Right answers that are graded, and as many wrong ones."""
ROUNDS = 3
"""Times that all of them are graded; the fastest counts, since other work may slow the others."""
REPEATS = 20
"""Times that one problem is graded, at most, where there are few."""

Pair = tuple[Problem, str]
"""A problem and a completion."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="files of configs/; default: all")
    parser.add_argument("--data", required=True, help="the folder that {data} stands for")
    parser.add_argument("--runs", default="runs/tasks", help="where the runs' folders go")
    arguments = parser.parse_args()
    data, runs = arguments.data, Path(arguments.runs)
    results = Results(HERE / "results.json")
    for name in arguments.names or sorted(file.stem for file in HERE.glob("configs/*.toml")):
        table = read_table(HERE / "configs" / f"{name}.toml", data)
        tasks = tasks_of(name, table)
        for task_name, task in tasks.items():
            results.once(task_name, "verifier", examine, task)
        if "run" not in table:
            results.once(name, "training", train_on, name, table, data, runs)
            continue
        for task_name, task in tasks.items():
            settings = EvalConfig(**table["eval"])
            run = runs / table["run"]
            results.once(task_name, "evaluation", evaluate_on, task_name, task, run, settings)
    results.once("math (algebra)", "verifier", examine_algebra)


class Results:
    """What is known of each task, in a file that every measurement is written to at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = json.loads(path.read_text()) if path.exists() else {}

    def once(self, name: str, part: str, measure: Callable[..., Any], *arguments: Any) -> None:
        """Measure a part of what is known of a task, unless it is known."""
        known = self._known.setdefault(name, {})
        if part in known:
            return
        print(f"{name}: {part}", flush=True)
        known[part] = measure(*arguments)
        self._path.write_text(json.dumps(self._known, indent=2) + "\n")
        write_tables(self._known, self._path.with_name("RESULTS.md"))


def read_table(path: Path, data: str) -> dict[str, Any]:
    """A file of configs/ with the folder of the data in its place."""
    return tomllib.loads(path.read_text().replace("{data}", data))


def tasks_of(name: str, table: Mapping[str, Any]) -> dict[str, TaskConfig]:
    """The task of a run's configuration, under the file's name, or all that are evaluated."""
    tables = table["tasks"] if "run" in table else {name: table["task"]}
    return {name: TaskConfig(**options) for name, options in tables.items()}


# Verifiers.


def examine(config: TaskConfig) -> dict[str, Any]:
    """Read all rows of a task, then grade right and wrong answers to its problems."""
    started = time.perf_counter()
    task = create(config, 0, "configs")
    problems = [problem for split in SPLITS for problem in problems_of(task, split)]
    left_out = task.left_out if isinstance(task, CodeIO) else {}
    return {
        "rows": count_rows(config),
        "problems": len(problems),
        "left_out": dict(left_out),
        "seconds/read": time.perf_counter() - started,
        **grade_known(task, problems),
    }


def problems_of(task: Task, split: Split) -> Sequence[Problem]:
    try:
        return task.problems(split)
    except InputError:  # it is for evaluation only
        return ()


def count_rows(config: TaskConfig) -> int | None:
    """Rows of the files that a task reads; None where it makes its problems itself."""
    if config.name == "codeio":
        return len(read_programs(BUNDLED, most=0))
    sources = [config.options.get(key) for key in ("source", "test_source", "path")]
    files = [file for source in sources if source is not None for file in files_of(Path(source))]
    return sum(len(read_rows(str(file), [])) for file in files) or None


def files_of(source: Path) -> list[Path]:
    return sorted(source.iterdir()) if source.is_dir() else [source]


def grade_known(task: Task, problems: Sequence[Problem]) -> dict[str, Any]:
    """Verdicts on answers that are known to be right or wrong, and the time they take.

    The right answer to a problem is the one its task would show; a wrong one is another problem's.
    """
    some = problems[:: max(1, len(problems) // VERDICTS)]
    right = [(problem, text) for problem in some if (text := right_answer(task, problem))]
    wrong = list(wrong_answers(right))
    return time_verdicts(task, *((pairs * REPEATS)[:VERDICTS] for pairs in (right, wrong)))


def time_verdicts(task: Task, right: Sequence[Pair], wrong: Sequence[Pair]) -> dict[str, Any]:
    """What graders in processes of their own say of right and wrong answers, and how fast; and the
    processor's time for the same verdicts in this process, which other work hardly lengthens."""
    pairs, seconds = [*right, *wrong], []
    for _ in range(ROUNDS):
        with Graders(task) as graders:  # new ones: nothing that was read is remembered
            graders.grade(right[:1])  # their start is not what is measured
            started = time.perf_counter()
            verdicts = graders.grade(pairs)
            seconds.append(time.perf_counter() - started)
    started = processor_seconds()
    for problem, completion in pairs:
        task.grade(problem, completion)
    alone = processor_seconds() - started
    ones = [verdict.score == 1 for verdict in verdicts]
    return {
        "verdicts": len(pairs),
        "seconds/1000_verdicts": 1000 * min(seconds) / len(pairs),
        "processor_seconds/1000_verdicts": 1000 * alone / len(pairs),
        "right/scored_1": sum(ones[: len(right)]) / len(right),
        "wrong/scored_1": sum(ones[len(right) :]) / len(wrong),
    }


def processor_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))


def right_answer(task: Task, problem: Problem) -> str | None:
    """A completion that scores 1: the task's own, or a program that was written for it."""
    programs = json.loads((HERE / "programs.json").read_text())
    return task.demonstrate(problem) or programs.get(problem.id)


def wrong_answers(right: Sequence[Pair]) -> Iterator[Pair]:
    """To each problem the answer of the next one that has another."""
    for place, (problem, answer) in enumerate(right):
        others = [text for _, text in (*right[place + 1 :], *right[:place])]
        yield problem, next(other for other in others if final(other) != final(answer))


def final(completion: str) -> str:
    """What of a completion is its answer; all of it where that is a program."""
    return extract("tags", completion) or extract("boxed", completion) or completion


def examine_algebra() -> dict[str, Any]:
    """The verifier of mathematics on answers that none but math-verify can compare.

    Fractions with a root below the line, against references with the root above it.
    """
    rng = random.Random(0)
    rows, answers = [], {}
    for number in range(VERDICTS + 1):
        a, b, c = rng.randrange(2, 99), rng.choice((2, 3, 5, 7, 11, 13)), rng.randrange(2, 99)
        question = f"Number {number}"
        rows.append({"problem": question, "answer": rf"\frac{{{a}\sqrt{{{b}}}x}}{{{b}}}+{c}"})
        answers[question] = [
            rf"\boxed{{\frac{{{a}x}}{{\sqrt{{{b}}}}}+{shown}}}" for shown in (c, c + 1)
        ]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = {"source": str(source), "answer": "boxed", "validation": 1, "test": 0}
        task = create(TaskConfig(name="math", **options), 0, "algebra")
        problems = task.problems("train")
    right, wrong = ([(p, answers[p.question][which]) for p in problems] for which in (0, 1))
    return time_verdicts(task, right, wrong)


# Accuracies.


def train_on(name: str, table: Mapping[str, Any], data: str, runs: Path) -> dict[str, Any]:
    """A short run by FST; keeps its configuration and its metrics beside this file."""
    overrides = [f"log.folder={json.dumps(str(runs))}", f"name={name}"]
    config = configuration.parse(table, overrides, source=f"{name}.toml")
    path = runs / name
    if path.exists():
        resume(path, console=False)
    else:
        train(config, console=False)
    text = (path / "config.toml").read_text().replace(data, "{data}").replace(str(runs), "runs")
    keep(name, records.Record(text, (path / "metrics.jsonl").read_text()))
    record = read_run(path)
    evaluations = record.rows("eval")
    return {
        "steps": record.slow_steps,
        "base": accuracy(evaluations[0]),
        "best": accuracy(last(evaluations, "best")),
        "seed": accuracy(last(evaluations, "seed")),
        "reward/first": record.curve("slow", "reward/mean")[1][0],
        "reward/final": record.final_reward,
        "tokens": record.tokens_sampled,
        "seconds": record.seconds,
    }


class Rows(Observer):
    """Keeps the rows of metrics and hears nothing else."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))


def evaluate_on(name: str, task: TaskConfig, run: Path, settings: EvalConfig) -> dict[str, Any]:
    """Accuracies of the base under the run's seed context and of the run under its best one."""
    before, after = Rows(), Rows()
    started = time.perf_counter()
    for rows, base, context in ((before, True, "seed"), (after, False, "best")):
        chosen = settings.model_copy(update={"contexts": (context,)})
        evaluate(run, chosen, rows, tasks={name: task}, base=base)
    rows = (json.dumps(row) + "\n" for row in (*before.rows, *after.rows))
    keep(name, records.Record("", "".join(rows)))
    return {
        "run": run.name,
        "base": accuracy(before.rows[-1]),
        "best": accuracy(after.rows[-1]),
        "seconds": time.perf_counter() - started,
    }


def keep(name: str, record: records.Record) -> None:
    """Add the record of a run to those kept beside this file."""
    path = HERE / records.NAME
    records.write(path, {**records.read(path), name: record})


def last(rows: Sequence[Mapping[str, Any]], context: str) -> Mapping[str, Any]:
    return [row for row in rows if row["context"] == context][-1]


def accuracy(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("accuracy", "accuracy/low", "accuracy/high", "n")
    return {key: row[key] for key in keys}


if __name__ == "__main__":
    main()
