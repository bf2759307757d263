"""What all benchmarks share: the workload, the machine's peak, tables and results."""

from __future__ import annotations

import json
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fastslow.config import PolicyConfig, SlowConfig
from fastslow.models import load_model
from fastslow.policy.base import SampleRequest
from fastslow.policy.local import LocalBackend
from fastslow.policy.trainer import GradientTrainer
from fastslow.seeding import derive_seed
from fastslow.slow.advantages import has_signal
from fastslow.slow.registry import create
from fastslow.types import (
    Context,
    Datum,
    Demonstration,
    Group,
    Problem,
    Rollout,
    Turn,
    Verdict,
)

RESULTS = Path(__file__).parent / "results"
MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Row:
    """One line of a result.

    Attributes:
        shape: what was computed.
        measure: what was measured, with its unit.
        ours: median.
        theirs: median of what it is held against; None where that was not run, and why in settings.
        ratio: how many times better ours is; None without theirs.
        settings: everything needed to run it again, and every single measurement.
    """

    shape: str
    measure: str
    ours: float
    theirs: float | None
    ratio: float | None
    settings: dict[str, Any] = field(default_factory=dict)


def device_name() -> str:
    """The device as a part of a file's name."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        name = f"cpu{torch.get_num_threads()}-{_processor()}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*: (.*)", cpuinfo.read_text())):
        return found[1]
    return platform.processor() or platform.machine()


def publish(name: str, title: str, rows: Sequence[Row]) -> Path:
    """Print the rows as a table and write them to ``results/NAME.<device>.json``."""
    table = Table("shape", "measure", "ours", "theirs", "ratio", title=title)
    for row in rows:
        theirs, ratio = (
            "-" if value is None else f"{value:.3g}" for value in (row.theirs, row.ratio)
        )
        table.add_row(row.shape, row.measure, f"{row.ours:.3g}", theirs, ratio)
    Console(width=150).print(table)
    path = write(name, rows)
    print(path)
    return path


def write(name: str, rows: Sequence[Row]) -> Path:
    """Write the rows to ``results/NAME.<device>.json``, in place of what it held."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.{device_name()}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return path


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def timed(action: Callable[[], Any]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "transformers", "trl", "fastslow")}


def matrix_peak(size: int = 2048, repeats: int = 8) -> dict[str, float]:
    """FLOP/s of fp32 products of square matrices, by each library that torch brings along."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    products: dict[str, Callable[[], Any]] = {"torch.mm": lambda: a @ b}
    if torch.backends.mkldnn.is_available():
        products["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return {
        name: 2 * size**3 / min(timed(product) for _ in range(repeats))
        for name, product in products.items()
    }


def peak_memory() -> float:
    """Largest resident memory of this process so far, since it was last reset, in GiB."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def reset_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@dataclass(frozen=True)
class Shape:
    """One step of training.

    Attributes:
        name: what it is called in the tables.
        contexts: K.
        demonstrations: solved problems in each context.
        problems: P.
        group: G, rollouts of a problem, over all contexts.
        max_tokens: of a completion.
        end: whether completions end where the model ends its turn; otherwise all have max_tokens.
    """

    name: str
    contexts: int
    demonstrations: int
    problems: int
    group: int
    max_tokens: int
    end: bool = True

    def population(self) -> list[Context]:
        """Contexts that show how sums of two numbers below 100 are answered."""
        return [
            Context(
                "Answer the question. Give the final answer between <answer> and </answer>.",
                tuple(
                    Demonstration(_question(a, b), f"<answer>{a + b}</answer>")
                    for a, b in _pairs(f"context {number}", self.demonstrations)
                ),
            )
            for number in range(self.contexts)
        ]

    def questions(self) -> list[str]:
        return [_question(a, b) for a, b in _pairs("problems", self.problems)]

    def answers(self) -> list[str]:
        return [f"<answer>{a + b}</answer>" for a, b in _pairs("problems", self.problems)]


def _pairs(place: str, count: int) -> list[tuple[int, int]]:
    seeds = [derive_seed(0, place, number) for number in range(count)]
    return [(10 + seed % 90, 10 + seed // 90 % 90) for seed in seeds]


def _question(a: int, b: int) -> str:
    return f"What is {a} plus {b}?"


def build_backend(shape: Shape) -> LocalBackend:
    """Full fine-tuning in fp32, without a KL term, as TRL's default."""
    model, tokenizer = load_model(MODEL)
    config = PolicyConfig(max_tokens=shape.max_tokens)
    backend = LocalBackend(model, tokenizer, config, SLOW, trainable=True)
    if not shape.end:
        backend.limits = replace(backend.limits, stop_ids=frozenset())
    return backend


SLOW = SlowConfig(kl=0.0, lr=1e-6, warmup=0)


class Step:
    """One step of ours, rollouts and update, again and again with fresh seeds.

    Args:
        trainer: it samples and learns.
        shape: of the step.
        verify: None to give every group variance, whatever the answers, so that nothing is left out
            of the update; or whether a completion of the n-th problem is right: groups without
            variance are then left out, as in training.
    """

    def __init__(
        self,
        trainer: GradientTrainer,
        shape: Shape,
        verify: Callable[[int, str], bool] | None = None,
    ) -> None:
        self._trainer = trainer
        self._sampler = trainer.sampler()
        self._learner = create(SlowConfig(), shape.max_tokens, "benchmark")
        self._shape = shape
        self._verify = verify
        self._prompts = [
            self._sampler.encode(context, question)
            for question in shape.questions()
            for context in shape.population()
        ]
        self.number = 0
        self.kept = shape.problems

    @property
    def prompt_tokens(self) -> float:
        return statistics.fmean(map(len, self._prompts))

    def __call__(self) -> dict[str, float]:
        """Take the step; seconds and what it came to."""
        self.number += 1
        started = time.perf_counter()
        self._sampler = self._trainer.sampler()
        completions = self.sample()
        sampled = time.perf_counter()
        data = self._data(completions)
        result = self._trainer.step(data, self._learner)
        done = time.perf_counter()
        tokens = [len(turn.sampled) for some in completions for turn in some]
        return {
            "seconds": done - started,
            "seconds/rollout": sampled - started,
            "seconds/update": done - sampled,
            "completion_tokens": statistics.fmean(tokens),
            "tokens/trained": result.measures.get("tokens/trained", 0.0),
            "groups/kept": self.kept,
        }

    def sample(self) -> list[list[Turn]]:
        """Rollouts of every problem: a list per problem."""
        shape = self._shape
        each = shape.group // shape.contexts
        requests = [
            SampleRequest(prompt, tuple(derive_seed(self.number, u, i) for i in range(each)))
            for u, prompt in enumerate(self._prompts)
        ]
        flat = self._sampler.sample(requests)
        return [
            [c for some in flat[n : n + shape.contexts] for c in some]
            for n in range(0, len(flat), shape.contexts)
        ]

    def _data(self, completions: Sequence[Sequence[Turn]]) -> list[Datum]:
        groups = []
        for number, some in enumerate(completions):
            problem = Problem(str(number), "")
            rewards = [
                float(i % 2 if self._verify is None else self._verify(number, c.text))
                for i, c in enumerate(some)
            ]
            rollouts = tuple(
                Rollout(problem, Context(), (completion,), Verdict(reward), self._sampler.version)
                for completion, reward in zip(some, rewards, strict=True)
            )
            groups.append(Group(problem, rollouts))
        self.kept = sum(map(has_signal, groups))
        return self._learner.data(groups, (), self._sampler)
