"""What a configuration would do, found out without doing any of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastslow import config as configuration
from fastslow.config import RunConfig
from fastslow.errors import InputError
from fastslow.models import resolve
from fastslow.run.toml import to_toml
from fastslow.tasks.protocol import Task
from fastslow.training import build_stages
from fastslow.types import Split


def describe(path: Path, overrides: Sequence[str]) -> str:
    """The resolved configuration as TOML, with what each part resolves to as comments.

    Reads the data; loads no model, writes nothing. Raises: InputError, as ``train`` would.
    """
    config = configuration.load(path, overrides)
    lines = [
        f"# run:    {config.log.folder / config.run_name}",
        f"# model:  {resolve(config.model).description}",
    ]
    for stage in build_stages(config, str(path)):
        sizes = ", ".join(
            f"{_count(stage.task, split)} {split}" for split in ("train", "validation", "test")
        )
        lines.append(
            f"# task:   {stage.name}, steps {stage.start + 1}-{stage.stop}: {sizes}; "
            f"{len(stage.order.pool)} of train set aside for demonstrations"
        )
    lines.append(f"# method: {_method(config)}")
    return "\n".join([*lines, "", to_toml(config)])


def _count(task: Task, split: Split) -> int:
    """Problems of a split. Those that the run needs are there, or there would be no stages."""
    try:
        return len(task.problems(split))
    except InputError:
        return 0


def _method(config: RunConfig) -> str:
    slow, fast = config.slow, config.fast
    trained = "LoRA" if slow.lora else "all weights"
    updates = f"{slow.algorithm} on {trained}, {slow.problems} problems x {slow.group} rollouts"
    contexts = (
        f"{fast.algorithm} over {', '.join(fast.components)}: {fast.population} contexts, "
        f"evolved every {fast.every} steps"
    )
    parts = [*([contexts] if config.uses_fast else []), *([updates] if config.uses_slow else [])]
    return f"{config.method}: {'; '.join(parts)}"
