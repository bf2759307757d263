"""A whole step, rollouts and update, beside TRL's GRPOTrainer: `python benchmarks/against_trl.py`.

Both sides train the same model on the same prompts with as many rollouts of the same length limit:
full fine-tuning in fp32 with CISPO, AdamW and no KL term. Steps alternate in one process: TRL's
trainer runs, and each time it has finished a step, ours takes one.

TRL knows no population of contexts. It gets every (context, problem) pair as a prompt, with G/K
generations of each, which makes the same rollouts; only its advantages are formed per pair.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from common import (
    MODEL,
    SLOW,
    Row,
    Shape,
    Step,
    build_backend,
    matrix_peak,
    median,
    publish,
    versions,
)
from fastslow.models import load_model
from fastslow.policy.trainer import GradientTrainer

SHAPES = {
    "fst-160": Shape("FST, K=4 contexts of about 160 tokens", 4, 4, 16, 8, 16),
    "fst-600": Shape("FST, K=4 contexts of about 600 tokens", 4, 19, 16, 8, 16),
    "rl": Shape("plain RL, one context of 30 tokens, 128 new tokens", 1, 0, 16, 8, 128, end=False),
    "rl-ending": Shape("plain RL, the same, ending where the model ends", 1, 0, 16, 8, 128),
}
MICRO_BATCH = {"fst-160": 16, "fst-600": 8, "rl": 16, "rl-ending": 16}
"""Sequences of TRL's forward pass, by shape: see ``--scan``."""


def measure(name: str, steps: int, micro_batch: int) -> list[Row]:
    """Alternate ``steps`` steps of both, after one of ours to warm up the process."""
    shape = SHAPES[name]
    ours = Step(GradientTrainer(build_backend(shape), SLOW), shape)
    answers = shape.answers()
    verified = Step(ours._trainer, shape, lambda n, text: answers[n] in text)
    found: dict[str, list[dict[str, float]]] = {"ours": [], "verified": []}
    theirs: list[dict[str, float]] = []
    ours()

    def on_end(trainer: Any, seconds: float) -> None:
        theirs.append(
            {
                "seconds": seconds,
                "completion_tokens": trainer._metrics["train"]["completions/mean_length"][-1],
            }
        )
        print(f"{name}: TRL {theirs[-1]}", flush=True)
        found["ours"].append(ours())
        print(f"{name}: ours {found['ours'][-1]}", flush=True)
        if shape.contexts > 1:
            found["verified"].append(verified())
            print(f"{name}: ours, real rewards {found['verified'][-1]}", flush=True)

    train_by_trl(shape, steps, micro_batch, on_end)
    settings: dict[str, Any] = {
        "model": MODEL,
        "rollouts": shape.problems * shape.group,
        "prompt_tokens": ours.prompt_tokens,
        "max_tokens": shape.max_tokens,
        "trl": {
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": shape.problems * shape.group // micro_batch,
            "loss_type": "cispo",
            "beta": 0.0,
            "gradient_checkpointing": False,
            "attn_implementation": "sdpa",
            "dtype": "float32",
            "optim": "adamw_torch_fused",
            "steps": theirs,
        },
        "ours": {"tokens_per_pass": 4096, "rows": 128, "steps": found["ours"]},
        "flops_peak": matrix_peak(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    rows = []
    for measured in ("ours", "verified"):
        if not found[measured]:
            continue
        kept = median([s["groups/kept"] for s in found[measured]])
        label = f"; {kept:g} of {shape.problems} groups have variance"
        own = median([s["seconds"] for s in found[measured]])
        their = median([s["seconds"] for s in theirs])
        extra = {**settings, "ours": {**settings["ours"], "steps": found[measured]}}
        rows.append(Row(shape.name + label, "seconds per step", own, their, their / own, extra))
    return rows


def train_by_trl(
    shape: Shape, steps: int, micro_batch: int, on_end: Callable[[Any, float], None]
) -> None:
    """Let TRL's trainer take steps; after each ``on_end`` gets the trainer and its seconds."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from transformers.utils.logging import set_verbosity_error
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    set_verbosity_error()  # type: ignore[no-untyped-call]
    model, tokenizer = load_model(MODEL)
    model.set_attn_implementation("sdpa")
    rollouts = shape.problems * shape.group
    prompts = [
        [*context.messages(question)]
        for question in shape.questions()
        for context in shape.population()
    ]
    dataset = Dataset.from_list([{"prompt": prompt} for prompt in prompts] * (steps + 1))

    class Clock(TrainerCallback):
        begin = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            on_end(trainer, time.perf_counter() - self.begin)

    endless = {} if shape.end else {"min_new_tokens": shape.max_tokens}
    config = GRPOConfig(
        output_dir=tempfile.gettempdir(),  # nothing is saved
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rollouts // micro_batch,
        num_generations=shape.group // shape.contexts,
        max_completion_length=shape.max_tokens,
        temperature=1.0,
        top_k=0,
        generation_kwargs=endless,
        loss_type="cispo",
        epsilon_high=4.0,
        beta=0.0,
        learning_rate=1e-6,
        optim="adamw_torch_fused",
        max_steps=steps,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=10**6,
        dataloader_pin_memory=False,
        seed=0,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=_varied,
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()


def _varied(completions: list[Any], **_: Any) -> list[float | None]:
    """Rewards that differ within every group."""
    return [
        (n % 2) + hashlib.sha256(str(c).encode()).digest()[0] / 1e4
        for n, c in enumerate(completions)
    ]


def scan(name: str) -> None:
    """Seconds of TRL's forward and backward pass per sequence, by sequences side by side."""
    shape = SHAPES[name]
    ours = Step(GradientTrainer(build_backend(shape), SLOW), shape)
    length = round(ours.prompt_tokens) + shape.max_tokens
    model, _ = load_model(MODEL)
    model.set_attn_implementation("sdpa")
    for size in (4, 8, 16, 32):
        if size * length > 12_000:
            continue
        tokens = torch.randint(0, 1000, (size, length))
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            logits = model(tokens, logits_to_keep=shape.max_tokens + 1, use_cache=False).logits
            logits.float().log_softmax(-1)[:, :, 5].mean().backward()
            model.zero_grad()
            seconds.append(time.perf_counter() - started)
        print(f"{name}: {size} sequences of {length}: {median(seconds) / size:.3f} s each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []], help="default: all")
    parser.add_argument("--steps", type=int, default=2, help="steps of each side")
    parser.add_argument("--scan", action="store_true", help="look for TRL's best micro-batch")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.shapes or SHAPES:
        if arguments.scan:
            scan(name)
            continue
        rows += measure(name, arguments.steps, MICRO_BATCH[name])
        publish("against_trl" if not arguments.shapes else f"against_trl-{name}", "TRL", rows)


if __name__ == "__main__":
    main()
