"""What a configuration would do, found out without doing any of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastslow import config as configuration
from fastslow.build import build_curriculum, build_stages
from fastslow.config import FastConfig, RunConfig, StageConfig
from fastslow.curriculum import Curriculum
from fastslow.errors import InputError
from fastslow.models import resolve
from fastslow.run.folder import folder_of
from fastslow.run.toml import to_toml
from fastslow.schedule import Stage
from fastslow.slow import registry as slow_registry
from fastslow.types import SPLITS, Split


def describe(path: Path, overrides: Sequence[str]) -> str:
    """The resolved configuration as TOML, with what each part resolves to as comments.

    Reads the data; loads no model, writes nothing. Raises: InputError, as ``train`` would.
    """
    config = configuration.load(path, overrides)
    configuration.refuse_other_keys(config, overrides, str(path))
    lines = [
        f"# run:    {folder_of(config, str(path))}",
        f"# model:  {resolve(config.model).description}",
    ]
    curriculum = build_curriculum(config, str(path))
    stages = build_stages(config, curriculum, str(path))
    lines += [f"# task:   {name}: {_sizes(curriculum, name)}" for name in config.tasks]
    for stage, of in zip(stages, config.all_stages, strict=True):
        lines.append(
            f"# stage:  steps {stage.start + 1}-{stage.stop} on {_mix(stage, of)}; "
            f"{len(stage.order.pool)} of train set aside for demonstrations"
        )
    slow_registry.create(config.slow, config.policy.max_tokens, str(path))
    lines.append(f"# method: {_method(config)}")
    return "\n".join([*lines, "", to_toml(config)])


def _sizes(curriculum: Curriculum, task: str) -> str:
    return ", ".join(f"{_count(curriculum, task, split)} {split}" for split in SPLITS)


def _mix(stage: Stage, config: StageConfig) -> str:
    """The tasks of a stage, with their parts of every batch if there are several."""
    if len(stage.tasks) == 1:
        return stage.tasks[0]
    weights = [share.weight for share in config.shares]
    parts = zip(stage.tasks, weights, strict=True)
    return ", ".join(f"{name} {weight / sum(weights):.1%}" for name, weight in parts)


def _count(curriculum: Curriculum, task: str, split: Split) -> int:
    """Problems of a split. Those that the run needs are there, or there would be no stages."""
    try:
        return len(curriculum.problems(task, split))
    except InputError:
        return 0


def _searched(fast: FastConfig) -> str:
    over = f" over {', '.join(fast.components)}" if fast.algorithm == "gepa" else ""
    return f"{fast.algorithm}{over}"


def _method(config: RunConfig) -> str:
    slow, fast = config.slow, config.fast
    trained = "LoRA" if slow.lora else "all weights"
    updates = f"{slow.algorithm} on {trained}, {slow.problems} problems x {slow.group} rollouts"
    contexts = f"{_searched(fast)}: {fast.population} contexts, evolved every {fast.every} steps"
    parts = [*([contexts] if config.uses_fast else []), *([updates] if config.uses_slow else [])]
    return f"{config.method}: {'; '.join(parts)}"
