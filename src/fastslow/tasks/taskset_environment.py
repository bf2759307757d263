"""Environments that are tasksets (verifiers from 0.3 on)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from fastslow.errors import InputError
from fastslow.tasks.environment_rows import Reward, Row, text_of


class TasksetEnvironment:
    """A taskset whose tasks one completion answers, and whose rewards need nothing but that.

    Raises:
        InputError: its tasks need tools, a container or control flow of their own, or the taskset's
            configuration refuses the arguments.
    """

    has_evaluation = False

    def __init__(self, vf: ModuleType, name: str, arguments: dict[str, Any]) -> None:
        config = vf.taskset_config_type(name).model_validate({**arguments, "id": name})
        self._vf, self._name = vf, name
        self._taskset = vf.load_taskset(config)
        self._task = type(self._taskset).task_type()
        if missing := list(self._wants()):
            raise InputError(
                f"task.environment: {name!r} cannot be asked in one turn: it has "
                f"{', '.join(missing)}"
            )
        first = next(iter(self._taskset), None)
        if first is None:
            raise InputError(f"task.environment: {name!r} holds no task")
        rewards = first.hooks("reward")
        if needy := [fn.__name__ for fn in rewards if _needs_runtime(fn)]:
            raise InputError(
                f"task.environment: {name!r} scores in a container ({', '.join(needy)}), of which "
                "there is none here"
            )
        weights = [getattr(fn, "_vf_weight", 1.0) for fn in rewards]
        weights += [judge.config.weight for judge in first.plugged_judges()]
        self.best = sum(max(weight, 0.0) for weight in weights)

    def rows(self, evaluation: bool) -> Iterator[Row]:
        for task in self._taskset:
            data = task.data
            messages = [("system", data.system_prompt)] if data.system_prompt else []
            prompt = data.prompt or []
            if isinstance(prompt, str):
                messages.append(("user", prompt))
            else:
                messages += [(turn.role, text_of(turn.content, self._name)) for turn in prompt]
            answer = getattr(data, "answer", None)
            yield Row(
                tuple(messages), data.model_dump(mode="json"), str(answer) if answer else None
            )

    async def score(self, data: dict[str, Any], completion: str) -> Reward:
        vf = self._vf
        task = self._task(self._task.data_type().model_validate(data), self._taskset.config.task)
        trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            nodes=[
                vf.MessageNode(message=vf.UserMessage(content=task.data.prompt_text)),
                vf.MessageNode(
                    parent=0, message=vf.AssistantMessage(content=completion), sampled=True
                ),
            ],
            is_completed=True,
            ok=True,
        )
        await task.score(trace)
        parts = {name: reward.score for name, reward in trace.rewards.items() if reward}
        metrics = {name: value for name, value in trace.metrics.items() if value is not None}
        return Reward(float(trace.reward), {**parts, **metrics})

    def _wants(self) -> Iterator[str]:
        """What the taskset has that takes more than a completion."""
        vf, taskset, task = self._vf, self._taskset, self._task
        if vf.environment_class(self._name) is not vf.SingleAgentEnv:
            yield "an environment of its own"
        if type(taskset).toolsets(taskset.config) or task.toolsets(taskset.config.task):
            yield "tools"
        if task.NEEDS_CONTAINER:
            yield "a container"
        for hook in ("setup", "finalize"):
            if getattr(task, hook) is not getattr(vf.Task, hook):
                yield f"a hook {hook!r}"


def _needs_runtime(function: Any) -> bool:
    parameter = inspect.signature(function).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty
