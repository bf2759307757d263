"""Copies of weights that outlived the weights: the inputs that were found, by their ids."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

import fastslow
from architectures import build_architecture
from fastslow.config import PolicyConfig, SlowConfig
from fastslow.engine.select import choose_engine
from fastslow.errors import InputError
from fastslow.models import load_model
from fastslow.policy.base import SampleRequest
from fastslow.types import TokenSequence
from one_turn import one_turn
from opened import Opened, data_of, sequence_of

SEQUENCE = TokenSequence.of([5, 6, 7, 8, 9], [10, 11, 12])
ARCHITECTURES: list[tuple[str, str, dict[str, Any]]] = [
    ("F029", "granite", {"logits_scaling": 4.0}),
    ("F030", "cohere", {}),
    ("F031", "cohere2", {}),
    ("F032", "bloom", {}),
    ("F033", "mpt", {}),
    ("F034", "exaone4", {"sliding_window_pattern": 1}),
    ("F035", "gpt_oss", {}),
    ("F036", "mamba", {}),
    ("F037", "mamba2", {}),
    ("F038", "recurrent_gemma", {}),
    ("F039", "rwkv", {}),
    ("F040", "minimax", {}),
]


@torch.no_grad()
def by_transformers(model: PreTrainedModel, sequence: TokenSequence) -> torch.Tensor:
    """Log-probabilities of the completion, by the model alone."""
    tokens = torch.tensor([list(sequence.tokens)])
    logits = model(input_ids=tokens, use_cache=False).logits[0].float()
    places = [position - 1 for position in sequence.scored]
    return logits[places].log_softmax(-1)[range(len(places)), sequence.targets]


@pytest.mark.parametrize(
    ("model_type", "options"),
    [pytest.param(name, options, id=case) for case, name, options in ARCHITECTURES],
)
def test_scores_are_those_of_the_weights_as_they_are(
    model_type: str, options: dict[str, Any]
) -> None:
    engine = choose_engine(build_architecture(model_type, **options), 512)
    (before,) = engine.score([SEQUENCE], 1.0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    engine.weights_changed()
    (after,) = engine.score([SEQUENCE], 1.0)
    fresh = build_architecture(model_type, **options)
    fresh.load_state_dict(engine.model.state_dict())
    expected = by_transformers(fresh, SEQUENCE)
    torch.testing.assert_close(after.logprobs, expected, rtol=0, atol=2e-4)
    assert (after.logprobs - before.logprobs).abs().max() > 0.01


@pytest.fixture
def write_model(tiny_model_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny chat model of another architecture, with the tests' tokenizer."""

    def write(model_type: str, **options: Any) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny_model_dir, folder)
        vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
        for file in folder.glob("model*"):
            file.unlink()
        ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
        sizes = {"vocab_size": vocabulary, "max_position_embeddings": 2048, **ends}
        build_architecture(model_type, **{**sizes, **options}).save_pretrained(folder)
        return folder

    return write


def trained(folder: Path, updates: int, **slow: Any) -> Opened:
    """A policy after some updates with a large learning rate."""
    model, tokenizer = load_model(str(folder))
    policy = Opened.of(
        model,
        tokenizer,
        PolicyConfig(max_tokens=8),
        SlowConfig(lr=0.02, warmup=0, kl=0.0, **slow),
        trainable=True,
    )
    prompt = tuple(tokenizer("How many?").input_ids)
    for _ in range(updates):
        (turns,) = policy.sampler.sample([SampleRequest(prompt, (1, 2, 3, 4))])
        policy.step(data_of(turns, policy.trainer.version))
    return policy


@pytest.mark.parametrize(
    ("model_type", "slow"),
    [
        pytest.param("mamba", {}, id="F041-mamba"),
        pytest.param("gpt_oss", {}, id="F041-gpt_oss"),
        pytest.param(
            "llama", {"lora": {"rank": 4, "targets": ("q_proj", "lm_head")}}, id="F041-lora-lm_head"
        ),
    ],
)
def test_samples_carry_the_log_probabilities_of_the_updated_weights(
    write_model: Callable[..., Path], model_type: str, slow: dict[str, Any]
) -> None:
    policy = trained(write_model(model_type), updates=3, **slow)
    (turns,) = policy.sampler.sample([SampleRequest((5, 6, 7, 8), (5, 6, 7))])
    found = policy.sampler.logprobs([sequence_of(turn) for turn in turns])
    for turn, logprobs in zip(turns, found, strict=True):
        assert turn.logprobs == pytest.approx(logprobs, abs=1e-4)
    # The update recomputes them with gradient: its own guard sees the same.
    data = [one_turn(t.read, t.sampled, t.logprobs, 1.0, 1 / 24, 3) for t in turns]
    assert policy.step(data)["logprob/mismatch"] < 1e-4


@pytest.mark.parametrize("model_type", [pytest.param("gpt_oss", id="F042")])
def test_a_run_on_the_padded_engine_resumes_bit_for_bit(
    write_model: Callable[..., Path], model_type: str, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    rows = [{"question": f"{n} plus 1?", "answer": str(n + 1)} for n in range(20)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "model": str(write_model(model_type)),
        "method": "rl",
        "steps": 4,
        "task": {"name": "jsonl", "path": str(questions), "verifier": "exact"},
        "fast": {"every": 2},
        # Of no use to the task, but the KL term moves the weights at every step.
        "slow": {"problems": 2, "group": 2, "lr": 0.02, "warmup": 0, "kl": 1.0},
        "policy": {"max_tokens": 4},
        "eval": {"problems": 2},
        "log": {"folder": str(tmp_path / "runs"), "tensorboard": False},
    }
    whole = fastslow.train(config, ["name=whole"], console=False).folder
    part = fastslow.train(config, ["name=part", "steps=2"], console=False).folder
    fastslow.resume(part, ["steps=4"], console=False)
    for file in ("model/model.safetensors", "optimiser.safetensors"):
        ours = (part / "checkpoints" / "step_000004" / file).read_bytes()
        assert ours == (whole / "checkpoints" / "step_000004" / file).read_bytes()


@pytest.mark.parametrize(
    "target", [pytest.param(name, id=f"F043-{name}") for name in ("embed_tokens", "lm_head")]
)
def test_an_adapter_on_tied_embeddings_is_refused(
    write_model: Callable[..., Path], target: str
) -> None:
    folder = write_model("llama", tie_word_embeddings=True)
    with pytest.raises(InputError, match=rf"slow\.lora\.targets: '.*{target}' shares its weight"):
        trained(folder, updates=0, lora={"targets": ("q_proj", target)})


@pytest.mark.parametrize("targets", ["all-linear", ("embed_tokens",), ("lm_head",)])
def test_the_exported_adapter_is_the_trained_one(
    write_model: Callable[..., Path], targets: str | tuple[str, ...], tmp_path: Path
) -> None:
    from peft import PeftModel

    folder = write_model("llama", tie_word_embeddings=targets == "all-linear")
    policy = trained(folder, updates=2, lora={"rank": 4, "targets": targets})
    (turns,) = policy.sampler.sample([SampleRequest((5, 6, 7, 8), (5, 6, 7))])
    (saved := tmp_path / "saved").mkdir()
    policy.trainer.save(saved)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    merged = PeftModel.from_pretrained(base, saved / "model").merge_and_unload().eval()
    for turn in turns:
        expected = by_transformers(merged, sequence_of(turn))
        torch.testing.assert_close(torch.tensor(turn.logprobs), expected, rtol=0, atol=1e-4)
