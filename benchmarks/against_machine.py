"""Achieved FLOP/s over the machine's own: `python benchmarks/against_machine.py`.

What is counted is what the computation needs: linear layers and head at 2 FLOP per weight and token
(6 in an update), attention at 4 FLOP per query head, head size and pair of tokens (12). It is held
against fp32 products of 2,048 x 2,048 matrices in the same run, by the faster of the libraries that
torch brings along. `--profile` says what the time is spent on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch

from common import MODEL, Row, Shape, build_backend, matrix_peak, median, publish, timed, versions
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.engine.tree import Node, grow
from fastslow.types import TokenSequence

SHAPE = Shape("FST, K=4 contexts of about 160 tokens", 4, 4, 16, 8, 16)
GOALS = {"prefill": 0.7, "decode": 0.45, "update": 0.6}


class Costs:
    """FLOP of the engine's work."""

    def __init__(self, engine: SharedPrefixEngine) -> None:
        config = engine.model.config
        width: int = config.num_attention_heads * config.head_dim
        embedding: int = config.vocab_size * config.hidden_size
        self._pair: int = 4 * width * config.num_hidden_layers
        self._head = 2 * embedding
        body: torch.nn.Module = engine.model.base_model
        self._body = 2 * (sum(p.numel() for p in body.parameters()) - embedding)

    def forward(self, tokens: int, pairs: int, predictions: int) -> float:
        """Tokens through the body, (query, key) pairs and distributions over the vocabulary."""
        return tokens * self._body + pairs * self._pair + predictions * self._head

    def of_tree(self, roots: Sequence[Node], predictions: int) -> float:
        """A forward pass over a prefix tree."""
        nodes = [node for root in roots for node in root.walk()]
        tokens = sum(len(node.tokens) for node in nodes)
        pairs = sum(sum(range(node.start + 1, node.end + 1)) for node in nodes)
        return self.forward(tokens, pairs, predictions)


def measure(repeats: int) -> list[Row]:
    backend = build_backend(SHAPE)
    engine = backend._engine
    assert isinstance(engine, SharedPrefixEngine)
    costs = Costs(engine)
    prompts = [
        backend.sampler(0).encode(context, question)
        for question in SHAPE.questions()
        for context in SHAPE.population()
    ]
    work: dict[str, tuple[float, Callable[[], float]]] = {
        "prefill, 64 prompts of 4 contexts": _prefill(engine, costs, prompts),
        "decode, 64 rows": _decode(engine, costs, prompts, 64),
        "decode, 128 rows": _decode(engine, costs, prompts * 2, 128),
        "update, 128 rollouts": _update(engine, costs, prompts),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    peaks: list[dict[str, float]] = []
    for _ in range(repeats + 1):  # the first one warms up
        peaks.append(matrix_peak(repeats=3))
        for name, (_, run) in work.items():
            seconds[name].append(run())
    rows = []
    for name, (flop, _) in work.items():
        achieved = flop / median(seconds[name][1:])
        by_library = {n: median([peak[n] for peak in peaks[1:]]) for n in peaks[0]}
        peak = max(by_library.values())
        settings = {
            "model": MODEL,
            "flop": flop,
            "seconds": seconds[name][1:],
            "peaks": by_library,
            "of torch.mm": achieved / by_library["torch.mm"],
            "goal": next(goal for kind, goal in GOALS.items() if name.startswith(kind)),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        rows.append(Row(name, "GFLOP/s", achieved / 1e9, peak / 1e9, achieved / peak, settings))
    return rows


def _prefill(
    engine: SharedPrefixEngine, costs: Costs, prompts: Sequence[tuple[int, ...]]
) -> tuple[float, Callable[[], float]]:
    limits = SamplingLimits(1, frozenset(), 1.0)

    def run() -> float:
        engine.store.clear()
        decoder = engine.decoder(prompts, [2] * len(prompts), limits)
        order = list(decoder.order())
        with torch.no_grad():
            return timed(lambda: decoder.admit(order, [2] * len(order), 0))

    return costs.of_tree(grow(prompts), len(prompts)), run


def _decode(
    engine: SharedPrefixEngine, costs: Costs, prompts: Sequence[tuple[int, ...]], rows: int
) -> tuple[float, Callable[[], float]]:
    steps = 16
    limits = SamplingLimits(steps + 2, frozenset(), 1.0)

    def run() -> float:
        decoder = engine.decoder(prompts, [1] * rows, limits)
        order = list(decoder.order())
        with torch.no_grad():
            decoder.admit(order, [1] * rows, 0)
            tokens = torch.arange(rows) + 100
            decoder.step(tokens)
            return timed(lambda: [decoder.step(tokens + i) for i in range(steps)])

    pairs = sum(len(p) + 2 + i for p in prompts for i in range(steps))
    return costs.forward(rows * steps, pairs, rows * steps), run


def _update(
    engine: SharedPrefixEngine, costs: Costs, prompts: Sequence[tuple[int, ...]]
) -> tuple[float, Callable[[], float]]:
    sequences = [
        TokenSequence.of(prompt, [(1000 * u + 100 * i + 7 * t) % 40_000 for t in range(10)])
        for u, prompt in enumerate(prompts)
        for i in range(2)
    ]
    engine.model.requires_grad_(True)

    def update() -> None:
        engine.model.zero_grad(set_to_none=True)
        for passed in engine.passes(sequences, 1.0):
            passed.scores.logprobs.sum().backward()

    roots = grow([s.tokens[: s.scored[-1]] for s in sequences])
    # The first token of both completions is drawn from one distribution.
    distributions = len(prompts) + sum(len(s.scored) - 1 for s in sequences)
    return 3 * costs.of_tree(roots, distributions), lambda: timed(update)


def profile() -> None:
    """Where the time of decoding and of the update goes."""
    backend = build_backend(SHAPE)
    engine = backend._engine
    assert isinstance(engine, SharedPrefixEngine)
    costs = Costs(engine)
    prompts = [
        backend.sampler(0).encode(context, question)
        for question in SHAPE.questions()
        for context in SHAPE.population()
    ]
    for name, (_, run) in {
        "decode, 64 rows": _decode(engine, costs, prompts, 64),
        "update": _update(engine, costs, prompts),
    }.items():
        run()
        with torch.profiler.profile() as profiled:
            run()
        table: Any = profiled.key_averages()
        print(name, table.table(sort_by="self_cpu_time_total", row_limit=20), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    if arguments.profile:
        profile()
        return
    title = "theirs: fp32 matrix product"
    publish("against_machine", title, measure(arguments.repeats))


if __name__ == "__main__":
    main()
