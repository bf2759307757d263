"""The loop with a policy that follows a script: what is asked, in which order, and what is told."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow import config as configuration
from fastslow.collect import Collector
from fastslow.config import RunConfig
from fastslow.curriculum import Curriculum
from fastslow.data import BatchOrder, ProblemOrder, Shares
from fastslow.errors import RunError
from fastslow.evaluation import Evaluator
from fastslow.fast.base import Evolution, FastPhase
from fastslow.fast.demonstrations import DemonstrationProposer
from fastslow.fast.gepa import Gepa
from fastslow.loop import FastSlowLoop
from fastslow.policy.base import Drift, OnTurn, SampleRequest, StepResult, ignore
from fastslow.record import Record
from fastslow.run.observer import Observer, Phase
from fastslow.run.state import LoopState
from fastslow.schedule import Schedule, Stage
from fastslow.seeding import derive_seed
from fastslow.slow.anomalies import Anomaly
from fastslow.slow.base import SlowLearner
from fastslow.slow.registry import create
from fastslow.tasks.protocol import Task
from fastslow.types import (
    Candidate,
    Context,
    Datum,
    Demonstration,
    Population,
    Problem,
    Rollout,
    Split,
    TokenSequence,
    Turn,
    Verdict,
)
from one_turn import advantage_of, prompt_of

SEED_CONTEXT = Context("Answer.")

Skill = Callable[[Context, int], float]
"""The chance to solve any problem, given the context and the updates that the policy has seen."""


def by_demonstrations(context: Context, version: int) -> float:
    """Hopeless without two demonstrations, and better with every update."""
    return 0.4 + 0.1 * version if len(context.demonstrations) >= 2 else 0.0


def by_luck(context: Context, version: int) -> float:
    return 0.5


@dataclass
class Script:
    """Everything that happened, in order, as (what, details)."""

    events: list[tuple[str, Any]] = field(default_factory=list)

    def note(self, what: str, details: Any = None) -> None:
        self.events.append((what, details))

    def all(self, what: str) -> list[Any]:
        return [details for name, details in self.events if name == what]


class Sums(Task):
    """Sums of two numbers; the policy is told the answer if it is to solve the problem."""

    name = "sums"

    def __init__(self, train: Sequence[Problem] | int = 24, offset: int = 0) -> None:
        numbers = train if isinstance(train, int) else 0
        self._train = (
            [sum_of(offset + n) for n in range(numbers)] if isinstance(train, int) else [*train]
        )
        self._validation = [sum_of(offset + 1000 + n) for n in range(6)]

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._train if split == "train" else self._validation

    def grade(self, problem: Problem, completion: str) -> Verdict:
        return Verdict(float(completion == "solved"), f"expected {problem.reference}")

    def demonstrate(self, problem: Problem) -> str | None:
        return str(problem.reference)


class Squares(Sums):
    """Another task with problems of the same ids."""

    def grade(self, problem: Problem, completion: str) -> Verdict:
        assert "/" not in problem.id  # a task sees its own ids
        return Verdict(float(completion == "solved"), "squared badly")

    def demonstrate(self, problem: Problem) -> str | None:
        return f"squared {problem.reference}"


def sum_of(number: int) -> Problem:
    return Problem(f"sum{number}", f"What is {number} and 1?", number + 1)


class ScriptedPolicy:
    """A trainer whose weights are the number of its updates."""

    logprob = -0.5

    def __init__(self, script: Script, skill: Skill) -> None:
        self.version = 0
        self.script, self.skill = script, skill
        self.prompts: dict[int, tuple[Context, str]] = {}

    def sampler(self) -> ScriptedSampler:
        return ScriptedSampler(self, self.version)

    def step(self, data: Sequence[Datum], learner: SlowLearner) -> StepResult:
        if not data:
            return StepResult()
        self.script.note("update", list(data))
        self.version += 1
        return StepResult({"loss": float(self.version)})

    def answer(self, request: SampleRequest, seed: int, version: int) -> Turn:
        context, _ = self.prompts[request.prompt_ids[0]]
        luck = random.Random(seed)
        solved = luck.random() < self.skill(context, version)
        tokens = tuple(range(luck.randint(1, 5)))
        return Turn(
            read=request.prompt_ids,
            sampled=tokens,
            logprobs=(self.logprob,) * len(tokens),
            text="solved" if solved else "no idea",
            finished=True,
        )

    def save(self, folder: Path) -> None:
        raise AssertionError("the loop leaves saving to its checkpoint")

    load = discard = save

    def close(self) -> None:
        raise AssertionError("the loop leaves closing to those that opened it")


@dataclass(frozen=True)
class ScriptedSampler:
    """The policy as it was when it had seen ``version`` updates."""

    policy: ScriptedPolicy
    version: int
    window: int = 1000
    max_tokens: int = 10
    gives_distributions: bool = True

    def encode(self, context: Context, question: str) -> tuple[int, ...]:
        """One token a prompt, by which it is remembered; more than the window where it is long."""
        token = derive_seed(context.digest, question)
        self.policy.prompts[token] = (context, question)
        return (token,) * (self.window if "long" in context.instructions + question else 1)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        on_turn: OnTurn = ignore,
    ) -> list[list[Turn]]:
        assert self.version == self.policy.version, "weights that are gone"
        asked = [
            (*self.policy.prompts[r.prompt_ids[0]], seed) for r in requests for seed in r.seeds
        ]
        self.policy.script.note("sample", asked)
        turns = [[self.policy.answer(r, seed, self.version) for seed in r.seeds] for r in requests]
        for number, some in enumerate(turns):
            for seed, turn in enumerate(some):
                on_turn(number, seed, turn)
        return turns

    def logprobs(self, *_: Any, **__: Any) -> list[list[float]]:
        raise AssertionError("the loop leaves log-probabilities to the trainer's step")

    def drift(self, sequences: Sequence[TokenSequence]) -> list[Drift]:
        values = [(float(self.version),) * len(sequence.scored) for sequence in sequences]
        return [Drift(v, v, v, v) for v in values]


class Recorder(Observer):
    """An observer that notes what it is told."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def on_progress(self, phase: Phase, done: int, total: int) -> None:
        self._script.note("progress", (phase, done, total))

    def on_rollouts(
        self,
        phase: Phase,
        step: int,
        cycle: int,
        rollouts: Sequence[Rollout],
    ) -> None:
        self._script.note(f"rollouts {phase}", (step, cycle, list(rollouts)))

    def on_evolution(self, step: int, cycle: int, evolution: Evolution) -> None:
        self._script.note("evolution", evolution)

    def on_metrics(self, row: Mapping[str, Any]) -> None:
        self._script.note("row", {key: value for key, value in row.items() if value is not None})

    def on_anomaly(self, *details: Any) -> None:
        self._script.note("anomaly", details)

    def on_state(self, state: LoopState) -> None:
        self._script.note("state", state)


@dataclass
class FixedContexts:
    """A fast learner that keeps ``contexts``, whatever they score; more were tried."""

    script: Script
    contexts: Sequence[Context]

    def max_calls(self, anchors: int) -> int:
        return anchors * (len(self.contexts) + 1)

    def evolve(self, phase: FastPhase) -> Evolution:
        self.script.note("evolve", phase)
        rollouts: dict[tuple[str, str], Rollout] = {}
        candidates = []
        for context in [Context("Tried, and left."), *self.contexts]:
            found = phase.evaluate([(problem, context) for problem in phase.anchors])
            rollouts |= {r.key: r for r in found}
            scores = {r.problem.id: r.reward for r in found if r.is_graded}
            candidates.append(Candidate(context, cycle=phase.cycle, scores=scores))
        return Evolution(
            population=Population(tuple(candidates[1:])),
            candidates=tuple(candidates),
            rollouts=rollouts,
            metric_calls=len(rollouts),
            proposals=len(candidates) - 1,
            failed_proposals=0,
        )


@dataclass
class World:
    """A run that is put together from parts, and the script of what it does."""

    loop: FastSlowLoop
    script: Script
    policy: ScriptedPolicy
    listen: Callable[[], None] = lambda: None
    """Called where the run may be stopped."""

    def run(self, state: LoopState | None = None) -> LoopState:
        return self.loop.run(state or LoopState(0, 0, Population((Candidate(SEED_CONTEXT),))))

    def rows(self, phase: str) -> list[dict[str, Any]]:
        return [row for row in self.script.all("row") if row["phase"] == phase]


def gepa(config: RunConfig) -> Gepa:
    show = DemonstrationProposer(max_turns=4, max_tokens=400, probe=2)
    return Gepa(config.fast.population, "auto", 6, 3, [show])


def world(
    *,
    skill: Skill | None = None,
    tasks: Sequence[tuple[Task | Mapping[Task, float], int]] | None = None,
    contexts: Sequence[Context] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    checkpoint_every: int = 0,
    pool: int = 6,
    seed_context: Context = SEED_CONTEXT,
    **changes: Any,
) -> World:
    """K = 2, T = 2, G = 4, P = 3, four steps, unless told otherwise.

    With ``contexts``, these are what every fast phase keeps, and luck decides what is solved;
    without, GEPA looks for demonstrations, which decide. A stage is a task or tasks with weights,
    and its steps.
    """
    tasks = tasks or [(Sums(), changes.pop("steps", 4))]
    fast = {"population": 2, "every": 2, "reuse": True}
    slow = {
        "problems": 3,
        "group": 4,
        "baseline": "problem",
        "algorithm": "cispo",
        "truncated": "keep",
    }
    config = configuration.parse(
        {
            "model": "scripted",
            "method": changes.pop("method", "fst"),
            "seed": changes.pop("seed", 0),
            "stages": [{"task": {"name": "sums"}, "steps": steps} for _, steps in tasks],
            "fast": fast | {key: changes.pop(key) for key in list(changes) if key in fast},
            "slow": slow | {key: changes.pop(key) for key in list(changes) if key in slow},
            "eval": {"problems": 4, **(evaluation or {})},
            "log": {"checkpoint_every": checkpoint_every},
        }
    )
    assert not changes
    script = Script()
    policy = ScriptedPolicy(script, skill or (by_luck if contexts else by_demonstrations))
    mixes = [({task: 1.0} if isinstance(task, Task) else task, steps) for task, steps in tasks]
    distinct = list(dict.fromkeys(task for mix, _ in mixes for task in mix))
    curriculum = Curriculum({f"sums{number}": task for number, task in enumerate(distinct)})
    stages, start = list[Stage](), 0
    for number, (mix, steps) in enumerate(mixes):
        names = tuple(f"sums{distinct.index(task)}" for task in mix)
        shares = Shares(list(mix.values()), config.slow.problems)
        order = BatchOrder(
            [
                ProblemOrder(
                    curriculum.problems(name, "train"),
                    partial(shares.size, part),
                    shares.most(part),
                    pool,
                    seed_context,
                    derive_seed(number, part),
                    name,
                )
                for part, name in enumerate(names)
            ]
        )
        stages.append(Stage(names, order, start, start := start + steps))
    optimizer: Any = FixedContexts(script, contexts) if contexts else gepa(config)
    record = Record(Recorder(script), curriculum)
    collector = Collector(
        curriculum.grade, curriculum.task_of, record.progress, lambda: made.listen()
    )
    schedule = Schedule(
        stages,
        config.fast.every,
        config.eval.every or config.fast.every,
        config.log.checkpoint_every,
    )
    loop = FastSlowLoop(
        config=config,
        schedule=schedule,
        curriculum=curriculum,
        seed_context=seed_context,
        trainer=policy,
        fast=optimizer if config.uses_fast else None,
        slow=create(config.slow, 10, "test") if config.uses_slow else None,
        collector=collector,
        evaluate=Evaluator(config, curriculum, seed_context, collector, record),
        record=record,
        checkpoint=lambda: script.note("checkpoint"),
    )
    made = World(loop, script, policy)
    return made


TWO = (Context("First."), Context("Second."))


# Order.


def test_a_fast_phase_precedes_every_t_slow_steps() -> None:
    this = world(steps=5, evaluation={"contexts": ["seed"]})
    this.run()
    rows = [(row["phase"], row["step"], row["cycle"]) for row in this.script.all("row")]
    assert rows == [
        ("eval", 0, 0),
        ("fast", 0, 0),
        ("slow", 1, 0),
        ("slow", 2, 0),
        ("eval", 2, 1),
        ("fast", 2, 1),
        ("slow", 3, 1),
        ("slow", 4, 1),
        ("eval", 4, 2),
        ("fast", 4, 2),
        ("slow", 5, 2),
        ("eval", 5, 3),
    ]


def test_what_belongs_to_a_step_is_told_before_its_state_and_saved_after_it() -> None:
    this = world(steps=3, contexts=TWO, evaluation={"problems": 0})
    this.run()
    names = [name for name, _ in this.script.events if name not in ("progress", "sample")]
    step = ["update", "rollouts slow", "row", "state"]
    cycle = ["evolve", "rollouts fast", "evolution", "row", *step]
    assert names == ["state", *cycle, *step, "checkpoint", *cycle, "checkpoint"]
    assert [state.step for state in this.script.all("state")] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("every", "saved"), [(0, [2, 4, 5]), (1, [1, 2, 3, 4, 5]), (3, [3, 5]), (99, [5])]
)
def test_checkpoints_are_saved_when_due_and_always_at_the_end(every: int, saved: list[int]) -> None:
    this = world(steps=5, checkpoint_every=every, contexts=TWO)
    this.run()
    state, found = 0, []
    for name, details in this.script.events:
        if name == "state":
            state = details.step
        elif name == "checkpoint":
            found.append(state)
    assert found == saved


def test_the_anchors_are_the_problems_of_the_next_t_batches() -> None:
    this = world(steps=5, every=3, contexts=TWO)
    this.run()
    slow = [{r.problem.id for r in rollouts} for _, _, rollouts in this.script.all("rollouts slow")]
    phases = this.script.all("evolve")
    assert [len(batch) for batch in slow] == [3] * 5
    assert {p.id for p in phases[0].anchors} == set().union(*slow[:3])
    assert {p.id for p in phases[1].anchors} == set().union(*slow[3:])
    assert [phase.cycle for phase in phases] == [0, 1]
    for phase in phases:
        assert not {p.id for p in phase.pool} & set().union(*slow)


def test_each_fast_phase_starts_from_the_population_of_the_one_before() -> None:
    this = world(contexts=TWO)
    end = this.run()
    first, second = this.script.all("evolve")
    evolved, _ = this.script.all("evolution")
    assert first.population.contexts == (SEED_CONTEXT,)
    assert second.population is evolved.population
    assert end.population.contexts == TWO


def test_the_population_learns_from_the_policy_and_the_policy_from_the_population() -> None:
    this = world(steps=8, evaluation={"problems": 6, "samples": 4})
    end = this.run()
    assert len(end.population.contexts) <= 2
    assert len(end.population.best.context.demonstrations) >= 2
    accuracy = {(row["step"], row["context"]): row["accuracy"] for row in this.rows("eval")}
    assert accuracy[0, "seed"] == accuracy[8, "seed"] == 0
    assert accuracy[8, "best"] > accuracy[2, "best"] > 0


# Rollouts.


@pytest.mark.parametrize(
    ("contexts", "counts"),
    [
        (TWO, [2, 2]),
        ((*TWO, Context("Third."), Context("Fourth.")), [1, 1, 1, 1]),
        (TWO[:1], [4]),  # a population that is not full yet
    ],
)
def test_g_rollouts_of_each_problem_spread_evenly(
    contexts: Sequence[Context], counts: list[int]
) -> None:
    this = world(contexts=contexts, population=len(contexts))
    this.run()
    for _, _, rollouts in this.script.all("rollouts slow"):
        by_problem: dict[str, Counter[str]] = {}
        for rollout in rollouts:
            by_problem.setdefault(rollout.problem.id, Counter())[rollout.context.digest] += 1
        assert len(by_problem) == 3
        for counter in by_problem.values():
            assert set(counter) == {context.digest for context in contexts}
            assert sorted(counter.values()) == counts


def test_what_does_not_divide_goes_to_different_contexts_in_turn() -> None:
    third = Context("Third.")  # a population of 3 on a G of 4, as after an early cycle
    this = world(contexts=(*TWO, third), population=4)
    this.run()
    extra = Counter[str]()
    for _, _, rollouts in this.script.all("rollouts slow"):
        for (_, context), count in Counter(r.key for r in rollouts).items():
            assert count in (1, 2)
            extra[context] += count - 1
    assert set(extra.values()) == {4}


def test_no_two_completions_share_a_seed_and_runs_of_other_seeds_none_at_all() -> None:
    seeds = []
    for seed in (0, 1):
        # The same four problems in every step.
        this = world(
            tasks=[(Sums(4), 4)],
            pool=0,
            problems=4,
            contexts=TWO,
            seed=seed,
            evaluation={"problems": 0},
        )
        this.run()
        asked = [seed for call in this.script.all("sample") for _, _, seed in call]
        assert len(set(asked)) == len(asked)
        seeds.append(set(asked))
    assert not seeds[0] & seeds[1]


def test_advantages_are_formed_once_per_problem_over_all_contexts() -> None:
    """One context always solves and the other never: within a context nothing would be learned."""
    this = world(contexts=TWO, skill=lambda context, _: float(context == TWO[0]))
    this.run()
    updates = this.script.all("update")
    assert len(updates) == 4
    for data in updates:
        assert len(data) == 3 * 4
        assert Counter(advantage_of(d) > 0 for d in data) == {True: 6, False: 6}
        assert {round(abs(advantage_of(d)), 3) for d in data} == {0.866}  # 0.5 / sqrt(1/3)
        assert sum(sum(d.weights) for d in data) == pytest.approx(1)


def test_a_batch_without_variance_moves_nothing() -> None:
    this = world(contexts=TWO, skill=lambda *_: 1.0)
    end = this.run()
    assert not this.script.all("update")
    assert this.policy.version == 0
    assert end.step == 4
    for row in this.rows("slow"):
        assert (row["reward/mean"], row["reward/std"]) == (1, 0)
        assert (row["groups/kept"], row["groups/dropped"]) == (0, 3)
        assert "loss" not in row


def test_groups_without_variance_are_dropped_one_by_one() -> None:
    this = world(contexts=TWO, skill=lambda *_: 0.2)
    this.run()
    kept = [row["groups/kept"] for row in this.rows("slow")]
    assert any(0 < count < 3 for count in kept)
    assert [len(data) for data in this.script.all("update")] == [4 * k for k in kept if k]


# Verdicts that fail.


class Moody(Sums):
    """Fails on every completion of some problems, or of all."""

    def __init__(self, moods: Callable[[Problem], bool]) -> None:
        super().__init__()
        self.moods = moods

    def grade(self, problem: Problem, completion: str) -> Verdict:
        if self.moods(problem):
            raise ValueError("not today")
        return super().grade(problem, completion)


def test_failed_verdicts_are_left_out_and_counted() -> None:
    this = world(tasks=[(Moody(lambda problem: problem.id[-1] in "13579"), 4)], contexts=TWO)
    this.run()
    for phase in ("fast", "slow", "eval"):
        found = this.script.all(f"rollouts {phase}")
        rows = this.rows(phase)
        assert len(found) == len(rows) or phase == "eval"
        for (_, _, rollouts), row in zip(found, rows, strict=True):
            failed = [r for r in rollouts if not r.is_graded]
            assert row.get("verdicts/failed", 0) == len(failed)
            rewards = [r.reward for r in rollouts if r.is_graded]
            if phase == "eval":
                assert row["accuracy"] == pytest.approx(sum(rewards) / len(rewards))
            if phase == "slow":
                assert row["reward/mean"] == pytest.approx(sum(rewards) / len(rewards))
    assert any("verdicts/failed" in row for row in this.rows("slow"))
    for data in this.script.all("update"):
        assert not any(int(datum.source.split()[1][3:]) % 2 for datum in data)


def test_a_batch_without_a_verdict_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = True

    def moods(problem: Problem) -> bool:
        return not healthy

    this = world(tasks=[(Moody(moods), 4)], contexts=TWO, reuse=False)
    evolve = this.loop.fast.evolve
    calls = 0

    def break_then_evolve(phase: FastPhase) -> Evolution:
        nonlocal healthy, calls
        calls += 1
        healthy = calls < 2
        return evolve(phase)

    monkeypatch.setattr(this.loop.fast, "evolve", break_then_evolve)
    with pytest.raises(
        RunError, match=r"every verdict of a batch failed, 6 of 6\. The first: task"
    ):
        this.run()
    assert [row["step"] for row in this.rows("slow")] == [1, 2]


@pytest.mark.parametrize(("truncated", "trained"), [("keep", 4), ("mask", 0), ("zero", 0)])
def test_completions_that_are_cut_off(truncated: str, trained: int) -> None:
    this = world(contexts=TWO, truncated=truncated)
    answer = this.policy.answer
    this.policy.answer = lambda *asked: replace(answer(*asked), finished=False)
    this.run()
    assert len(this.script.all("update")) == trained
    for row in this.rows("slow"):
        assert row["truncated/fraction"] == 1.0
        assert (row["reward/mean"] == 0) == (truncated == "zero")
    assert any(r.reward for *_, some in this.script.all("rollouts slow") for r in some)


# Numbers gone wrong.


def test_a_batch_without_signal_neither_adds_to_skipped_steps_nor_excuses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second of four batches, of 12 rollouts each, is all solved; no update can be made."""
    numbers = itertools.count()

    def skill(*_: Any) -> float:
        number = next(numbers)
        return 1.0 if number // 12 == 1 else float(number % 2)

    def refuse(data: Sequence[Datum], _: SlowLearner) -> StepResult:
        return StepResult(refused=Anomaly("a loss is not finite") if data else None)

    this = world(method="rl", skill=skill, evaluation={"problems": 0})
    monkeypatch.setattr(this.policy, "step", refuse)
    with pytest.raises(RunError, match=r"^step 4: .* updates of 3 steps in a row"):
        this.run()
    assert [state.skipped for state in this.script.all("state")] == [0, 1, 1, 2]
    assert [row["step"] for row in this.rows("slow") if "skipped" in row] == [1, 3, 4]


def test_a_policy_without_numbers_is_found_out_though_all_its_rollouts_earn_the_same() -> None:
    this = world(method="rl", skill=lambda *_: 1.0, evaluation={"problems": 0})
    this.policy.logprob = math.nan
    with pytest.raises(RunError, match=r"^step 3: a log-probability at sampling is not finite"):
        this.run()
    assert [row["groups/kept"] for row in this.rows("slow")] == [0, 0, 0]
    assert len(this.script.all("anomaly")) == 3


@pytest.mark.parametrize(("problems", "asked"), [(0, 3), (4, 4)], ids=["fast phase", "evaluation"])
def test_it_is_found_out_where_there_is_no_update_to_skip(problems: int, asked: int) -> None:
    this = world(contexts=TWO, every=1, evaluation={"problems": problems})
    this.policy.logprob = math.nan
    with pytest.raises(RunError, match=f"is not finite in {asked} of {asked} rollouts"):
        this.run()
    assert not this.rows("slow")


# Reuse.


def test_a_fast_rollout_fills_one_slot_of_its_problem_and_context() -> None:
    this = world(contexts=TWO, steps=2, evaluation={"problems": 0})
    this.run()
    ((_, _, sampled),) = this.script.all("rollouts fast")
    fast = {r.key: r for r in sampled}
    for _, _, rollouts in this.script.all("rollouts slow"):
        by_pair: dict[tuple[str, str], list[Rollout]] = {}
        for rollout in rollouts:
            by_pair.setdefault(rollout.key, []).append(rollout)
        assert len(by_pair) == 3 * 2
        for pair, group in by_pair.items():
            assert [rollout is fast[pair] for rollout in group].count(True) == 1
            assert len(group) == 2
    for row in this.rows("slow"):
        assert row["rollouts/reused"] == 3 * 2
    _, *slow_calls = [len(call) for call in this.script.all("sample")][2:]
    assert slow_calls == [3 * 2, 3 * 2]  # P * (G - K), after three passes over the anchors


def test_reuse_can_be_switched_off() -> None:
    this = world(contexts=TWO, reuse=False, evaluation={"problems": 0})
    this.run()
    assert [row["rollouts/reused"] for row in this.rows("slow")] == [0] * 4
    assert not any(state.rollouts for state in this.script.all("state"))
    slow = [r for _, _, rollouts in this.script.all("rollouts slow") for r in rollouts]
    fast = {id(r) for _, _, rollouts in this.script.all("rollouts fast") for r in rollouts}
    assert not fast & set(map(id, slow))


def test_nothing_is_reused_in_a_later_cycle_though_the_problems_come_again() -> None:
    few = Sums(4)
    this = world(tasks=[(few, 6)], pool=0, problems=4, contexts=TWO)
    this.run()
    fast = {
        id(rollout): cycle
        for _, cycle, rollouts in this.script.all("rollouts fast")
        for rollout in rollouts
    }
    for _, cycle, rollouts in this.script.all("rollouts slow"):
        reused = [fast[id(rollout)] for rollout in rollouts if id(rollout) in fast]
        assert reused == [cycle] * 4 * 2
    held = [len(state.rollouts) for state in this.script.all("state")]
    assert held == [0, 8, 0, 8, 0, 8, 0]


def test_rollouts_of_rejected_contexts_and_of_the_pool_are_not_held() -> None:
    this = world(steps=3)
    this.run()
    for state, evolution in zip(
        this.script.all("state")[1:2], this.script.all("evolution"), strict=False
    ):
        assert state.rollouts
        assert {context for _, context in state.rollouts} <= set(evolution.population.digests)
        pool = {problem.id for problem in this.loop.schedule.stages[0].order.pool}
        assert not {problem for problem, _ in state.rollouts} & pool
        assert len(evolution.rollouts) > len(state.rollouts)


# Methods.


def test_rl_has_no_fast_phase_and_one_fixed_context() -> None:
    this = world(method="rl", skill=by_luck)
    end = this.run()
    assert not this.rows("fast")
    assert not this.script.all("evolution")
    assert [row["step"] for row in this.rows("slow")] == [1, 2, 3, 4]
    assert {context for call in this.script.all("sample") for context, _, _ in call} == {
        SEED_CONTEXT
    }
    assert {row["context"] for row in this.rows("eval")} == {"seed"}
    assert end.population.contexts == (SEED_CONTEXT,)


def test_fast_alone_evolves_on_the_same_anchors_and_never_updates() -> None:
    alone, both = (world(method=method, steps=5, contexts=TWO) for method in ("fast", "fst"))
    end = alone.run()
    both.run()
    assert not alone.script.all("update")
    assert not alone.rows("slow")
    assert alone.policy.version == 0
    assert [state.step for state in alone.script.all("state")] == [0, 1, 2, 3, 4, 5]
    assert end.cycle == 3
    assert not end.rollouts
    anchors = [[phase.anchors for phase in this.script.all("evolve")] for this in (alone, both)]
    assert anchors[0] == anchors[1]


# Stages and evaluation.


def test_distilling_samples_without_a_context_and_teaches_with_each_in_turn() -> None:
    this = world(algorithm="distill", contexts=TWO)
    this.run()
    lessons = this.script.all("update")
    assert len(lessons) == 4
    asked = {prompt: context for prompt, (context, _) in this.policy.prompts.items()}
    for some in lessons:
        assert len(some) == 3 * 4
        assert {asked[lesson.tokens[0]] for lesson in some} == {SEED_CONTEXT}
        teachers = [asked[lesson.teacher_prompt[0]] for lesson in some]
        assert [teachers.count(context) for context in TWO] == [6, 6]
        for lesson in some:
            question = this.policy.prompts[lesson.tokens[0]][1]
            assert this.policy.prompts[lesson.teacher_prompt[0]][1] == question
        assert sum(sum(x.weights) for x in some) == pytest.approx(1)
    assert {row["rollouts/reused"] for row in this.rows("slow")} == {0}
    assert len(this.rows("fast")) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_a_context_that_the_window_does_not_hold_teaches_nothing(count: int) -> None:
    contexts = (Context("A long one."), Context("A short one."))[:count]
    this = world(algorithm="distill", contexts=contexts)
    this.run()
    asked = {prompt: context for prompt, (context, _) in this.policy.prompts.items()}
    teachers = {
        asked[lesson.teacher_prompt[0]]
        for lessons in this.script.all("update")
        for lesson in lessons
    }
    assert teachers == set(contexts[1:])


def test_a_baseline_per_context_reaches_the_update() -> None:
    by_problem, by_context = (world(contexts=TWO, baseline=name) for name in ("problem", "context"))
    by_problem.run()
    by_context.run()
    first, second = by_problem.script.all("update")[0], by_context.script.all("update")[0]
    assert {prompt_of(d) for d in second} < {prompt_of(d) for d in first}


def test_drift_is_measured_on_what_an_evaluation_sampled() -> None:
    this = world(contexts=TWO, evaluation={"drift": True})
    this.run()
    updates = 0
    for what, details in this.script.events:
        updates += what == "update"
        if what == "row" and details["phase"] == "eval":
            assert details["drift/exact"] == details["entropy"] == updates
    assert updates > 2


def test_stages_come_in_order_and_every_task_met_so_far_is_evaluated() -> None:
    first, second = Sums(), Sums(offset=100)
    this = world(tasks=[(first, 3), (second, 2), (first, 1)], evaluation={"contexts": ["seed"]})
    this.run()
    slow = [
        {r.problem.id.startswith("sums1/") for r in rollouts}
        for _, _, rollouts in this.script.all("rollouts slow")
    ]
    assert slow == [{False}, {False}, {False}, {True}, {True}, {False}]
    # A stage ends its last cycle early: T is 2.
    assert [row["step"] for row in this.rows("fast")] == [0, 2, 3, 5]
    assert [row["cycle"] for row in this.rows("slow")] == [0, 0, 1, 2, 2, 3]
    assert [(row["step"], row["task"]) for row in this.rows("eval")] == [
        (0, "sums0"),
        (2, "sums0"),
        (3, "sums0"),
        (3, "sums1"),
        (5, "sums0"),
        (5, "sums1"),
        (6, "sums0"),
        (6, "sums1"),
    ]


def test_every_stage_starts_at_the_beginning_of_its_own_problems() -> None:
    this = world(tasks=[(Sums(), 3), (Sums(offset=100), 3)], contexts=TWO)
    this.run()
    asked = [
        {r.problem.id for r in rollouts} for _, _, rollouts in this.script.all("rollouts slow")
    ]
    expected = [
        stage.order.batch(index) for stage in this.loop.schedule.stages for index in range(3)
    ]
    assert asked == [{problem.id for problem in batch} for batch in expected]


def test_every_task_has_the_context_of_its_own_when_the_run_has_moved_on() -> None:
    this = world(
        tasks=[(Sums(), 2), (Sums(offset=100), 2)],
        skill=by_demonstrations,
        evaluation={"contexts": ["best", "own"]},
    )
    end = this.run()
    (between,) = {s.population.best.context for s in this.script.all("state") if s.step == 2}
    assert end.own == {"sums0": between, "sums1": end.population.best.context}
    assert between != end.population.best.context
    rows = [row for row in this.rows("eval") if row["step"]]
    asked = [
        {r.context.digest for r in rollouts}
        for step, _, rollouts in this.script.all("rollouts eval")
        if step
    ]
    found = [(row["step"], row["task"], row["context"]) for row in rows]
    now = end.population.best.context.digest
    assert dict(zip(found, asked, strict=True)) == {
        (2, "sums0", "best"): {between.digest},
        (2, "sums0", "own"): {between.digest},
        (2, "sums1", "best"): {between.digest},  # it has none of its own yet
        (4, "sums0", "best"): {now},
        (4, "sums0", "own"): {between.digest},
        (4, "sums1", "best"): {now},
        (4, "sums1", "own"): {now},
    }


def test_tasks_of_a_stage_share_its_batches_and_its_contexts() -> None:
    """Both tasks have problems of the same ids, to which each has an answer of its own."""
    plain, squares = Sums(), Squares()
    this = world(
        tasks=[({plain: 2, squares: 1}, 4), (squares, 2)],
        skill=lambda context, version: by_demonstrations(context, version) or 0.05,
        evaluation={"contexts": ["best"]},
    )
    this.run()
    rollouts = [r for _, _, some in this.script.all("rollouts slow") for r in some]
    told = {r.verdict.feedback.split()[0]: r.problem.id.split("/")[0] for r in rollouts}
    assert told == {"expected": "sums0", "squared": "sums1"}
    batches = [{r.problem.id for r in some} for _, _, some in this.script.all("rollouts slow")]
    assert [sum(name.startswith("sums1/") for name in batch) for batch in batches] == [1] * 4 + [
        3
    ] * 2
    anchors = this.script.all("evolution")[0].population.candidates[0].scores
    assert {name.split("/")[0] for name in anchors} == {"sums0", "sums1"}
    for row, (_, _, some) in zip(this.rows("slow"), this.script.all("rollouts slow"), strict=True):
        for task in {r.problem.id.split("/")[0] for r in some}:
            own = [r.reward for r in some if r.problem.id.startswith(task)]
            assert row[f"reward/mean/{task}"] == pytest.approx(sum(own) / len(own))
    assert [row["task"] for row in this.rows("eval")[-2:]] == ["sums0", "sums1"]
    shown = {
        (d.problem_id or "").split("/")[0]: d.answer
        for evolution in this.script.all("evolution")
        for candidate in evolution.candidates
        for d in candidate.context.demonstrations
    }
    assert set(shown) == {"sums0", "sums1"}
    assert shown["sums1"].startswith("squared ")


@pytest.mark.parametrize(
    ("every", "steps"), [(0, [0, 2, 4, 5]), (1, [0, 1, 2, 3, 4, 5]), (3, [0, 3, 5]), (9, [0, 5])]
)
def test_evaluations_come_when_due_and_at_both_ends(every: int, steps: list[int]) -> None:
    this = world(steps=5, contexts=TWO, evaluation={"every": every, "contexts": ["seed"]})
    this.run()
    assert [row["step"] for row in this.rows("eval")] == steps


def test_an_evaluation_asks_the_first_problems_under_each_kind_of_context() -> None:
    names = ["seed", "best", "population"]
    this = world(
        contexts=TWO,
        steps=2,
        skill=lambda context, _: float(context == TWO[0]),
        evaluation={"problems": 5, "samples": 2, "contexts": names},
    )
    this.run()
    rows = [row for row in this.rows("eval") if row["step"] == 2]
    found = {row["context"]: (row["accuracy"], row["n"], row["split"]) for row in rows}
    assert found == {
        "seed": (0.0, 10, "validation"),
        "best": (1.0, 10, "validation"),
        "population": (0.5, 10, "validation"),
    }
    assert [row["context"] for row in this.rows("eval") if row["step"] == 0] == ["seed"]
    asked = {r.problem.id for _, _, rollouts in this.script.all("rollouts eval") for r in rollouts}
    assert asked == {f"sum{1000 + n}" for n in range(5)}


def test_evaluating_or_not_changes_nothing_of_the_training() -> None:
    often, never = (
        world(evaluation=evaluation) for evaluation in ({"every": 1, "samples": 3}, {"problems": 0})
    )
    assert often.run() == never.run()
    assert not never.rows("eval")
    assert without_times(often.rows("slow")) == without_times(never.rows("slow"))


# Rows.


def without_times(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]


def test_rows_have_their_fields() -> None:
    this = world(contexts=TWO)
    this.run()
    place = {"step", "cycle", "phase"}
    expected = {
        "eval": {
            "task",
            "split",
            "context",
            "accuracy",
            "accuracy/low",
            "accuracy/high",
            "problems",
            "n",
            "truncated/fraction",
        },
        "fast": {
            "metric_calls",
            "proposals",
            "proposals/failed",
            "population/size",
            "score/best",
            "rollouts/sampled",
            "tokens/sampled",
            "seconds/fast",
        },
        "slow": {
            "reward/mean",
            "reward/std",
            "groups/kept",
            "groups/dropped",
            "truncated/fraction",
            "rollouts/reused",
            "rollouts/sampled",
            "tokens/sampled",
            "tokens/reused",
            "seconds/rollout",
            "seconds/update",
            "loss",  # and what else the policy's update measures
        },
    }
    for phase, fields in expected.items():
        assert this.rows(phase)
        for row in this.rows(phase):
            assert set(row) == place | fields


def test_the_numbers_of_a_row_are_those_of_its_rollouts() -> None:
    this = world(contexts=TWO)
    this.run()
    fast = {id(r) for _, _, rollouts in this.script.all("rollouts fast") for r in rollouts}
    slow = zip(this.rows("slow"), this.script.all("rollouts slow"), strict=True)
    for row, (step, cycle, rollouts) in slow:
        rewards = [rollout.reward for rollout in rollouts]
        mean = sum(rewards) / 12
        fresh = [rollout for rollout in rollouts if id(rollout) not in fast]
        assert (row["step"], row["cycle"]) == (step, cycle)
        assert row["reward/mean"] == pytest.approx(mean)
        assert row["reward/std"] == pytest.approx((mean * (1 - mean)) ** 0.5)
        assert row["tokens/sampled"] == sum(len(r.sampled) for r in fresh)
        assert row["rollouts/reused"] == 12 - len(fresh)
    for row, (_, _, rollouts) in zip(
        this.rows("fast"), this.script.all("rollouts fast"), strict=True
    ):
        assert row["metric_calls"] == len(rollouts)
        assert row["tokens/sampled"] == sum(len(r.sampled) for r in rollouts)


def test_progress_counts_up_to_what_is_sampled() -> None:
    this = world(contexts=TWO, reuse=False)
    this.run()
    by_phase: dict[str, list[tuple[int, int]]] = {}
    for phase, done, total in this.script.all("progress"):
        by_phase.setdefault(phase, []).append((done, total))
    assert all(0 < done <= total for pairs in by_phase.values() for done, total in pairs)
    assert by_phase["fast"][-1] == (18, 18)  # three contexts, six anchors
    assert by_phase["slow"][-1] == (12, 12)
    assert by_phase["eval"][-1] == (4, 4)


# Nobody is asked a question whose answer stands in the context (invariant 8).

questions = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["", " ", "\n"]), st.booleans()),
    min_size=8,
    max_size=16,
)


@given(
    train=questions,
    validation=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    shown=st.none() | st.integers(0, 5),
    pool=st.integers(1, 4),
    method=st.sampled_from(["fst", "rl", "fast"]),
)
@settings(max_examples=40)
def test_no_context_ever_shows_the_problem_it_is_asked_under(
    train: list[tuple[int, str, bool]],
    validation: list[int],
    shown: int | None,
    pool: int,
    method: str,
) -> None:
    """Small sets in which questions come again in other case and spacing, under other ids, and in
    the validation split too."""
    problems = [
        Problem(
            f"t{i}", f"{space}What is {n}?{space}".upper() if loud else f"What is{space} {n}?", n
        )
        for i, (n, space, loud) in enumerate(train)
    ]
    task = Sums(problems)
    task._validation = [Problem(f"v{i}", f"what is {n}?", n) for i, n in enumerate(validation)]
    turns = () if shown is None else (Demonstration(f"What is {shown}?", "x"),)
    seed_context = Context("Answer.", turns)
    usable = [problem for problem in problems if not seed_context.shows(problem)]
    left = len(usable) - min(pool, len(usable) // 4)
    if left < 1:
        return
    this = world(
        tasks=[(task, 4)],
        pool=pool,
        problems=min(2, left),
        method=method,
        seed_context=seed_context,
        evaluation={"contexts": ["seed", "best", "population"]},
    )
    this.run(LoopState(0, 0, Population((Candidate(seed_context),))))
    for call in this.script.all("sample"):
        for context, question, _ in call:
            assert not context.shows(Problem("asked", question))
    for name, details in this.script.events:
        if name.startswith("rollouts"):
            for rollout in details[2]:
                assert not rollout.context.shows(rollout.problem)


def test_a_problem_that_every_context_shows_is_passed_over() -> None:
    problems = [sum_of(n) for n in range(6)]
    telling = Context("Telling.", (Demonstration(problems[0].question, "1"),))
    this = world(tasks=[(Sums(problems), 2)], pool=0, problems=6, method="rl", skill=by_luck)
    this.run(LoopState(0, 0, Population((Candidate(telling),))))
    for row in this.rows("slow"):
        assert row["groups/kept"] + row["groups/dropped"] == 6
    for _, _, rollouts in this.script.all("rollouts slow"):
        assert {r.problem.id for r in rollouts} == {p.id for p in problems[1:]}


def test_a_problem_beyond_the_window_alone_is_left_out() -> None:
    problems = [Problem("long", "long"), *(sum_of(n) for n in range(5))]
    this = world(
        tasks=[(Sums(problems), 2)], pool=0, problems=6, contexts=TWO, evaluation={"problems": 6}
    )
    this.run()
    for row in this.rows("slow"):
        assert row["problems/left_out"] == 1
        assert row["groups/kept"] + row["groups/dropped"] == 5
    for data in this.script.all("update"):
        assert all(any(datum.mask) for datum in data)
    for _, _, rollouts in this.script.all("rollouts slow"):
        silent = [r for r in rollouts if not r.is_sampled]
        assert {r.problem.id for r in silent} == {"long"}, "told of, with the reason"
        assert all("window" in r.verdict.feedback for r in silent)


def test_nothing_is_left_out_where_everything_fits() -> None:
    this = world(contexts=TWO)
    this.run()
    assert all("problems/left_out" not in row for row in this.rows("slow"))


def test_a_batch_of_which_nothing_can_be_asked_measures_nothing() -> None:
    problem = sum_of(0)
    telling = Context("Telling.", (Demonstration(problem.question, "1"),))
    this = world(tasks=[(Sums([problem]), 2)], pool=0, problems=1, contexts=TWO)
    this.loop.fast.contexts = [telling]  # type: ignore[union-attr]
    end = this.run(LoopState(0, 0, Population((Candidate(telling),))))
    assert end.step == 2
    assert not this.rows("fast")
    for row in this.rows("slow"):
        assert "reward/mean" not in row
        assert "reward/std" not in row
        assert "loss" not in row


# Stopping and going on.


class StoppedError(Exception):
    pass


def test_once_it_is_asked_to_stop_nothing_more_is_sampled() -> None:
    this = world()

    def stop() -> None:
        raise StoppedError

    this.listen = stop
    with pytest.raises(StoppedError):
        this.run()
    assert not this.script.all("sample")


def continual() -> World:
    return world(
        tasks=[(Sums(), 3), ({Sums(offset=100): 1, Squares(): 3}, 2)],
        evaluation={"every": 2, "contexts": ["seed", "population"]},
        skill=lambda context, version: by_demonstrations(context, version) or 0.05,
    )


def told(script: Script) -> list[tuple[str, Any]]:
    """What a run's folder keeps, without times."""
    kept = {"row", "rollouts fast", "rollouts slow", "rollouts eval", "evolution", "state"}
    return [
        (name, without_times([details])[0] if name == "row" else details)
        for name, details in script.events
        if name in kept
    ]


def test_a_run_stopped_anywhere_goes_on_as_if_it_had_not_been() -> None:
    """Stop at the n-th place where the loop listens, for many n, and go on from the last state."""
    undisturbed = continual()
    end = undisturbed.run()
    for moment in itertools.count(start=1, step=11):
        stopped = continual()
        places = itertools.count(start=1)

        def listen(moment: int = moment, places: Iterator[int] = places) -> None:
            if next(places) == moment:
                raise StoppedError

        stopped.listen = listen
        state = LoopState(0, 0, Population((Candidate(SEED_CONTEXT),)))
        try:
            stopped.loop.run(state)
        except StoppedError:
            pass
        else:
            break
        kept = told(stopped.script)
        last = max(i for i, (name, _) in enumerate(kept) if name == "state")
        goes_on = continual()
        goes_on.policy.version = stopped.policy.version
        assert goes_on.run(kept[last][1]) == end
        assert kept[:last] + told(goes_on.script) == told(undisturbed.script)
    assert moment > 100
