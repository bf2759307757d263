"""The loop's state as plain JSON and back, without loss.

Python writes a float with as many digits as bring the same float back, so log-probabilities
survive exactly. Numbers that JSON lacks are spelled as strings, in protobuf's JSON convention:
``"NaN"``, ``"Infinity"``, ``"-Infinity"``; Python's ``float`` and SQL casts read all three.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastslow.run.state import LoopState
from fastslow.types import (
    Candidate,
    Context,
    Demonstration,
    Failure,
    Population,
    Problem,
    Rollout,
    Turn,
    Verdict,
)

Json = dict[str, Any]

NON_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
"""How the three numbers that JSON cannot say are spelled."""


def dumps(value: Any) -> str:
    """Strict JSON on one line, in ASCII, so that any text a model wrote passes unchanged."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:  # some number is not finite; seldom, so only then is the value walked
        return json.dumps(_spell_non_finite(value), allow_nan=False)


def _spell_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _spell_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell_non_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def state_to_json(state: LoopState) -> Json:
    """``LoopState`` as JSON; ``state_from_json`` gives an equal one back.

    Of the problems of reusable rollouts only the ids are written: a reference may be any object.
    """
    return {
        "step": state.step,
        "cycle": state.cycle,
        "population": [candidate_to_json(c) for c in state.population.candidates],
        "own": {task: context_to_json(context) for task, context in state.own.items()},
        "rollouts": [rollout_to_json(r) for r in state.rollouts.values()],
        "skipped": state.skipped,
    }


def state_from_json(data: Json, problems: Mapping[str, Problem]) -> LoopState:
    """The state, with the reusable rollouts of the given problems by id.

    Raises: KeyError, TypeError, ValueError if ``data`` is no state.
    """
    population = Population(tuple(candidate_from_json(item) for item in data["population"]))
    contexts = {context.digest: context for context in population.contexts}
    rollouts = [
        rollout_from_json(item, problems[item["problem_id"]], contexts[item["context"]])
        for item in data["rollouts"]
        if item["problem_id"] in problems
    ]
    return LoopState(
        step=int(data["step"]),
        cycle=int(data["cycle"]),
        population=population,
        own={task: context_from_json(item) for task, item in data["own"].items()},
        rollouts={rollout.key: rollout for rollout in rollouts},
        skipped=int(data["skipped"]),
    )


def context_to_json(context: Context) -> Json:
    return {
        "instructions": context.instructions,
        "demonstrations": [
            {"question": d.question, "answer": d.answer, "problem_id": d.problem_id}
            for d in context.demonstrations
        ],
    }


def context_from_json(data: Json) -> Context:
    """Reads a line of ``contexts.jsonl`` as well: further keys are passed over."""
    return Context(
        instructions=data["instructions"],
        demonstrations=tuple(Demonstration(**item) for item in data["demonstrations"]),
    )


def candidate_to_json(candidate: Candidate) -> Json:
    return {
        **context_to_json(candidate.context),
        "parents": candidate.parents,
        "origin": candidate.origin,
        "cycle": candidate.cycle,
        "scores": dict(candidate.scores),
        "shown": sorted(candidate.shown),
    }


def candidate_from_json(data: Json) -> Candidate:
    return Candidate(
        context=context_from_json(data),
        parents=tuple(data["parents"]),
        origin=data["origin"],
        cycle=int(data["cycle"]),
        scores={problem: float(score) for problem, score in data["scores"].items()},
        shown=frozenset(data["shown"]),
    )


def rollout_to_json(rollout: Rollout) -> Json:
    return {
        "problem_id": rollout.problem.id,
        "context": rollout.context.digest,
        "verdict": verdict_to_json(rollout.verdict),
        "turns": [asdict(turn) for turn in rollout.turns],
        "policy_version": rollout.policy_version,
    }


def rollout_from_json(data: Json, problem: Problem, context: Context) -> Rollout:
    return Rollout(
        problem=problem,
        context=context,
        turns=tuple(turn_from_json(item) for item in data["turns"]),
        verdict=verdict_from_json(data["verdict"]),
        policy_version=int(data["policy_version"]),
    )


def turn_from_json(data: Json) -> Turn:
    return Turn(
        read=tuple(data["read"]),
        sampled=tuple(data["sampled"]),
        logprobs=tuple(float(value) for value in data["logprobs"]),
        text=data["text"],
        finished=data["finished"],
    )


def verdict_to_json(verdict: Verdict | Failure) -> Json:
    if isinstance(verdict, Failure):
        return {"failure": verdict.reason, "trace": verdict.trace, "stopped": verdict.stopped}
    return {"score": verdict.score, "feedback": verdict.feedback}


def verdict_from_json(data: Json) -> Verdict | Failure:
    if "failure" in data:
        return Failure(data["failure"], data["trace"], data["stopped"])
    return Verdict(score=float(data["score"]), feedback=data["feedback"])
