"""Environments that a module's ``load_environment`` returns (verifiers below 0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from fastslow.errors import InputError
from fastslow.tasks.environment_rows import Reward, Row, text_of


class ClassicEnvironment:
    """A ``SingleTurnEnv``: rows of its data sets, scored by its rubric.

    Raises:
        InputError: it is another kind of environment, or scores completions against each other.
    """

    def __init__(
        self, verifiers: ModuleType, name: str, module: ModuleType, arguments: Mapping[str, Any]
    ) -> None:
        environment = module.load_environment(**arguments)
        if not isinstance(environment, verifiers.SingleTurnEnv):
            raise InputError(
                f"task.environment: {name!r} is a {type(environment).__name__}; only a "
                "SingleTurnEnv can be asked in one turn"
            )
        if environment.rubric.has_group_rewards:
            raise InputError(
                f"task.environment: the rubric of {name!r} scores completions against each other, "
                "but a verdict is one of a single completion"
            )
        self._name, self._environment, self._state = name, environment, verifiers.State
        self.has_evaluation = environment.build_eval_dataset() is not None
        self.best = sum(max(weight, 0.0) for weight in _weights(environment.rubric))

    def rows(self, evaluation: bool) -> Iterator[Row]:
        environment = self._environment
        for row in environment.get_eval_dataset() if evaluation else environment.get_dataset():
            prompt, answer = row["prompt"], row.get("answer")
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            messages = [(turn["role"], text_of(turn["content"], self._name)) for turn in turns]
            yield Row(tuple(messages), dict(row), str(answer) if answer else None)

    async def score(self, data: dict[str, Any], completion: str) -> Reward:
        state = self._state(
            input=dict(data),
            completion=[{"role": "assistant", "content": completion}],
            trajectory=[],
            is_completed=True,
        )
        await self._environment.rubric.score_rollout(state)
        return Reward(float(state["reward"]), dict(state["metrics"]))


def _weights(rubric: Any) -> list[float]:
    """The weights of a rubric's functions, or of those of a group's rubrics."""
    members = getattr(rubric, "rubrics", None)
    if members is None:
        return list(rubric.weights)
    return [weight for member in members for weight in _weights(member)]
