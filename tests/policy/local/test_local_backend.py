"""The local policy: template, versions, base, adapters, checkpoints."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastslow.config import PolicyConfig, SlowConfig
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.errors import InputError, RunError
from fastslow.models import load_model
from fastslow.policy.base import Drift, SampleRequest
from fastslow.policy.local import choose_device
from fastslow.slow.registry import create
from fastslow.types import Context, Demonstration, Turn
from one_turn import one_turn
from opened import Opened, data_of, sequence_of

CONTEXT = Context("Be brief.", (Demonstration("1+1?", "2"),))
LORA = {"rank": 4, "alpha": 8.0}
DISTILL = create(SlowConfig(algorithm="distill"), 64, "test")

Open = Callable[..., Opened]


@pytest.fixture
def open_policy(tiny_model_dir: Path) -> Open:
    def make(
        *,
        trainable: bool = True,
        keep_base: bool = False,
        seed: int = 0,
        dtype: str = "float32",
        **slow: Any,
    ) -> Opened:
        model, tokenizer = load_model(str(tiny_model_dir))
        return Opened.of(
            model,
            tokenizer,
            PolicyConfig(max_tokens=8, temperature=0.7, rows=5, dtype=dtype),
            SlowConfig(**{"lr": 1e-2, "warmup": 0, "kl": 0.01, **slow}),
            trainable=trainable,
            keep_base=keep_base,
            seed=seed,
        )

    return make


def rollouts(policy: Opened, seed: int = 0) -> list[Turn]:
    sampler = policy.sampler
    requests = [
        SampleRequest(sampler.encode(CONTEXT, question), (seed + place, seed + place + 10))
        for place, question in enumerate(("2+2?", "How many?"))
    ]
    return [turn for some in sampler.sample(requests) for turn in some]


def step(policy: Opened, seed: int = 0) -> dict[str, Any]:
    """A whole slow step: sample and update."""
    return policy.step(data_of(rollouts(policy, seed), policy.trainer.version))


def drift(policy: Opened, turns: Sequence[Turn]) -> list[Drift]:
    return policy.sampler.drift([sequence_of(turn) for turn in turns])


def logprobs(policy: Opened, turns: Sequence[Turn], **options: bool) -> Tensor:
    scores = policy.sampler.logprobs([sequence_of(turn) for turn in turns], **options)
    return torch.tensor([value for score in scores for value in score])


# --- text and tokens --------------------------------------------------------------------------


def test_a_context_is_read_in_the_chat_template(open_policy: Open) -> None:
    policy = open_policy(trainable=False)
    prompt = policy.sampler.encode(CONTEXT, "2+2?")
    assert policy.tokenizer.decode(prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n1+1?<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    # Turns are marked by single tokens, and the template's own first token is not doubled.
    begin = policy.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert [prompt.count(begin), prompt[0] == begin, prompt[1] == begin] == [5, True, False]


def test_texts_are_counted_without_a_template(open_policy: Open) -> None:
    policy = open_policy(trainable=False)
    assert policy.sampler.count_tokens("") == 0
    assert policy.sampler.count_tokens("2 + 2") == 5  # the tiny tokenizer has one token per byte


def test_the_window_is_the_model_s(open_policy: Open) -> None:
    policy = open_policy(trainable=False)
    assert (policy.sampler.window, policy.sampler.max_tokens) == (2048, 8)


def test_completions_end_with_the_turn(open_policy: Open) -> None:
    policy = open_policy(trainable=False)
    end = policy.tokenizer.eos_token_id
    request = SampleRequest(policy.sampler.encode(CONTEXT, "2+2?"), tuple(range(40)))
    (completions,) = policy.sampler.sample([request], max_tokens=40)
    finished = [c for c in completions if c.finished]
    assert finished, "one of them ends"
    assert all((c.sampled[-1] == end) == c.finished for c in completions)
    for completion in finished:
        assert completion.text == policy.tokenizer.decode(completion.sampled[:-1])
        assert completion.read == request.prompt_ids


def test_a_stop_string_ends_a_completion(open_policy: Open, tiny_model_dir: Path) -> None:
    """The tiny tokenizer has a token per byte: the text spans two."""
    model, tokenizer = load_model(str(tiny_model_dir))
    free = open_policy(trainable=False)
    request = SampleRequest(free.sampler.encode(CONTEXT, "2+2?"), tuple(range(12)))
    (expected,) = free.sampler.sample([request], max_tokens=30)
    text = next(c.text for c in expected if len(c.text) > 8 and "\ufffd" not in c.text[4:6])[4:6]
    policy = Opened.of(
        model,
        tokenizer,
        PolicyConfig(max_tokens=30, temperature=0.7, rows=5, stop=(text,)),
        SlowConfig(),
        trainable=False,
    )
    (completions,) = policy.sampler.sample([request])
    assert any(text in c.text for c in completions)
    for completion, whole in zip(completions, expected, strict=True):
        assert whole.sampled[: len(completion.sampled)] == completion.sampled
        assert text not in policy.tokenizer.decode(completion.sampled[:-1])
        if text in whole.text:
            assert text in completion.text
            assert completion.finished
        else:
            assert completion.sampled == whole.sampled
            assert completion.logprobs == pytest.approx(whole.logprobs, abs=1e-4)


def test_limits_are_the_policy_s_unless_given(open_policy: Open) -> None:
    policy = open_policy(trainable=False)
    request = SampleRequest(policy.sampler.encode(CONTEXT, "2+2?"), tuple(range(6)))
    assert max(len(c.sampled) for c in policy.sampler.sample([request])[0]) == 8
    assert max(len(c.sampled) for c in policy.sampler.sample([request], max_tokens=3)[0]) == 3
    cold = policy.sampler.sample([request], temperature=1e-3)[0]
    assert len({c.sampled for c in cold}) == 1


# --- devices and types ------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    for name in ("cuda", "mps"):
        message = f"policy.device: '{name}' is not there; available here: auto, cpu"
        with pytest.raises(InputError, match=re.escape(message)):
            choose_device(name)


def test_auto_prefers_cuda_then_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_bfloat16_weights_compute_nearly_the_same_and_are_trained_in_fp32(
    open_policy: Open,
) -> None:
    exact, rounded = open_policy(), open_policy(dtype="bfloat16")
    assert isinstance(rounded.backend._engine, SharedPrefixEngine)
    assert {p.dtype for p in rounded.weights().values()} == {torch.bfloat16}
    completions = rollouts(rounded)
    stored = torch.tensor([p for c in completions for p in c.logprobs])
    found, expected = logprobs(rounded, completions), logprobs(exact, completions)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-2)
    torch.testing.assert_close(stored, expected, rtol=0, atol=2e-2)
    assert not torch.equal(found, expected), "it does compute in another type"
    # bfloat16 has 8 bits: values that were rounded to it would all survive the trip there.
    assert not torch.equal(found, found.bfloat16().float())
    measures = rounded.step(data_of(completions))
    assert measures["logprob/mismatch"] < 2e-2
    assert {p.dtype for p in rounded.weights().values()} == {torch.bfloat16}
    state = rounded.backend._trained._adam.state
    assert {p.dtype for p in state} == {torch.float32}
    assert {entry["exp_avg"].dtype for entry in state.values()} == {torch.float32}


def test_adapters_of_bfloat16_weights_stay_in_fp32(open_policy: Open) -> None:
    policy = open_policy(dtype="bfloat16", lora=LORA)
    before = policy.weights()
    for seed in range(2):
        step(policy, seed)
    for name, value in policy.weights().items():
        is_adapter = "lora_" in name
        assert value.dtype == (torch.float32 if is_adapter else torch.bfloat16)
        assert torch.equal(value, before[name]) != is_adapter


# --- updates and versions ---------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA])
def test_stored_logprobs_are_found_again(open_policy: Open, lora: Any) -> None:
    policy = open_policy(lora=lora)
    for seed in range(2):
        assert step(policy, seed)["logprob/mismatch"] < 1e-4
    completions = rollouts(policy)
    stored = torch.tensor([p for c in completions for p in c.logprobs])
    torch.testing.assert_close(logprobs(policy, completions), stored, rtol=0, atol=1e-4)


def test_the_version_counts_updates(open_policy: Open) -> None:
    policy = open_policy()
    before = policy.sampler
    assert before.version == 0
    policy.step(data_of(rollouts(policy)))
    assert before.version == 0
    assert policy.sampler.version == 1
    stale = data_of(rollouts(policy), version=0)
    assert "logprob/mismatch" not in policy.step(stale)


def test_a_sampler_whose_weights_have_moved_says_so(open_policy: Open, tmp_path: Path) -> None:
    policy = open_policy(keep_base=True)
    turns = rollouts(policy)
    policy.trainer.save(tmp_path)
    request = SampleRequest(policy.sampler.encode(CONTEXT, "2+2?"), (1,))
    for move in (lambda: policy.step(data_of(turns)), lambda: policy.trainer.load(tmp_path)):
        old = policy.sampler
        move()
        for use in (
            lambda old=old: old.sample([request]),
            lambda old=old: old.logprobs([sequence_of(turns[0])]),
            lambda old=old: old.logprobs([sequence_of(turns[0])], base=True),
            lambda old=old: old.drift([sequence_of(turns[0])]),
        ):
            with pytest.raises(RuntimeError, match="weights are gone"):
                use()
        assert old.encode(CONTEXT, "2+2?") == policy.sampler.encode(CONTEXT, "2+2?")


def test_a_sampler_lasts_as_long_as_no_step_is_taken(open_policy: Open) -> None:
    policy = open_policy()
    first, second = policy.sampler, policy.sampler
    request = SampleRequest(first.encode(CONTEXT, "2+2?"), (1, 2))
    assert first.sample([request]) == second.sample([request])
    refused = policy.trainer.step(
        data_of([replace(t, logprobs=(float("nan"),) * len(t.sampled)) for t in rollouts(policy)]),
        policy.learner,
    )
    assert refused.refused is not None
    assert first.sample([request]) == second.sample([request])


def test_an_update_raises_what_was_rewarded(open_policy: Open) -> None:
    policy = open_policy()
    good, *others = rollouts(policy)
    before = logprobs(policy, [good]).sum()
    policy.step([one_turn(good.read, good.sampled, good.logprobs, 1.0, 1 / 8)])
    assert logprobs(policy, [good]).sum() > before + 0.1
    assert others


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, LORA])
def test_samples_after_an_update_are_those_of_the_new_weights(
    open_policy: Open, tmp_path: Path, lora: Any, dtype: str
) -> None:
    """What sampling keeps between calls, keys and packed weights, is that of the old ones."""
    policy = open_policy(lora=lora, dtype=dtype)
    before = rollouts(policy)
    for seed in range(2):
        step(policy, seed)
    after = rollouts(policy)
    assert [c.sampled for c in after] != [c.sampled for c in before]
    stored = torch.tensor([p for c in after for p in c.logprobs])
    atol = 1e-4 if dtype == "float32" else 3e-2
    torch.testing.assert_close(stored, logprobs(policy, after), rtol=0, atol=atol)
    policy.trainer.save(tmp_path)
    fresh = open_policy(trainable=False, lora=lora, dtype=dtype)
    fresh.trainer.load(tmp_path)
    assert [c.sampled for c in rollouts(fresh)] == [c.sampled for c in after]


def test_samples_after_loading_are_those_of_the_loaded_weights(
    open_policy: Open, tmp_path: Path
) -> None:
    policy = open_policy()
    policy.trainer.save(tmp_path)
    before = rollouts(policy)
    for seed in range(2):
        step(policy, seed)
    changed = rollouts(policy)
    policy.trainer.load(tmp_path)
    again = rollouts(policy)
    assert [c.sampled for c in again] == [c.sampled for c in before]
    assert [c.sampled for c in again] != [c.sampled for c in changed]


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_base_stays_what_training_began_from(open_policy: Open, lora: Any) -> None:
    policy, untrained = open_policy(lora=lora), open_policy(trainable=False)
    completions = rollouts(untrained)
    expected = logprobs(untrained, completions)
    first, *_, last = [step(policy, seed) for seed in range(3)]
    torch.testing.assert_close(logprobs(policy, completions, base=True), expected)
    assert (logprobs(policy, completions) - expected).abs().max() > 1e-2
    assert first["kl/base"] == pytest.approx(0, abs=1e-6)
    assert last["kl/base"] > 1e-3


def test_without_a_kl_term_no_base_is_kept(open_policy: Open) -> None:
    policy = open_policy(kl=0)
    assert policy.backend._base_engine is None
    completions = rollouts(policy)
    assert torch.equal(logprobs(policy, completions, base=True), logprobs(policy, completions)), (
        "before the first update they are the same weights"
    )
    assert "kl/base" not in step(policy)
    with pytest.raises(RuntimeError, match=r"base weights were not kept: slow\.kl is 0"):
        logprobs(policy, completions, base=True)


def test_a_policy_for_sampling_is_not_trained(open_policy: Open) -> None:
    policy = open_policy(trainable=False)
    with pytest.raises(RuntimeError, match="sampling only"):
        policy.step(data_of(rollouts(policy)))
    assert not any(p.requires_grad for p in policy.model.parameters())


# --- adapters ---------------------------------------------------------------------------------


def test_only_the_adapter_moves(open_policy: Open) -> None:
    policy = open_policy(lora=LORA)
    before = policy.weights()
    for seed in range(2):  # an adapter's first factor moves once its second is not zero
        step(policy, seed)
    moved = {name for name, value in policy.weights().items() if not value.equal(before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert any("q_proj" in name for name in moved)
    assert any("down_proj" in name for name in moved)


def test_a_new_adapter_depends_on_the_seed_alone(open_policy: Open) -> None:
    def adapter(seed: int) -> list[Tensor]:
        torch.manual_seed(torch.initial_seed() + 1)
        policy = open_policy(lora=LORA, seed=seed)
        return [value for name, value in policy.weights().items() if "lora_A" in name]

    one, same, other = adapter(1), adapter(1), adapter(2)
    assert all(map(torch.equal, one, same))
    assert not any(map(torch.equal, one, other))


def test_adapters_go_where_they_are_told(open_policy: Open) -> None:
    policy = open_policy(lora={**LORA, "targets": ("v_proj",)})
    adapted = {name for name in policy.weights() if "lora_" in name}
    assert adapted
    assert all("v_proj" in name for name in adapted)
    with pytest.raises(InputError, match=r"^slow\.lora\.targets: .*no_such_layer"):
        open_policy(lora={**LORA, "targets": ("no_such_layer",)})


# --- checkpoints ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lora", "dtype"), [(None, "float32"), (LORA, "float32"), (None, "bfloat16")]
)
def test_a_loaded_policy_goes_on_bit_for_bit(
    open_policy: Open, tmp_path: Path, lora: Any, dtype: str
) -> None:
    policy = open_policy(lora=lora, dtype=dtype)
    for seed in range(2):
        step(policy, seed)
    policy.trainer.save(tmp_path)
    resumed = open_policy(lora=lora, dtype=dtype, seed=99)  # the adapter is read, not drawn again
    resumed.trainer.load(tmp_path)
    assert resumed.trainer.version == 2
    for seed in (2, 3):
        assert rollouts(resumed, seed) == rollouts(policy, seed)
        assert step(resumed, seed) == step(policy, seed)
    expected = policy.weights()
    assert all(torch.equal(expected[name], value) for name, value in resumed.weights().items())


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_checkpoint_can_be_opened_for_sampling(
    open_policy: Open, tmp_path: Path, lora: Any
) -> None:
    policy = open_policy(lora=lora)
    step(policy)
    policy.trainer.save(tmp_path)
    reader = open_policy(trainable=False, lora=lora)
    reader.trainer.load(tmp_path)
    assert reader.trainer.version == 1
    assert rollouts(reader) == rollouts(policy)


def test_others_can_load_the_weights(open_policy: Open, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy = open_policy()
    step(policy)
    policy.trainer.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    expected = policy.weights()
    assert all(torch.equal(expected[name], p) for name, p in model.named_parameters())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template == policy.tokenizer.chat_template


def test_others_can_load_the_adapter(
    open_policy: Open, tmp_path: Path, tiny_model_dir: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    policy = open_policy(lora=LORA)
    for seed in range(2):
        step(policy, seed)
    policy.trainer.save(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    model = PeftModel.from_pretrained(base, tmp_path / "model").eval()
    (completion, *_) = rollouts(policy)
    ids = [*completion.read, *completion.sampled]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(completion.read) - 1 : -1]
    tokens = list(completion.sampled)
    expected = (logits / 0.7).log_softmax(-1)[range(len(tokens)), tokens]
    torch.testing.assert_close(logprobs(policy, [completion]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("lora", [None, LORA])
def test_incomplete_weights_are_refused(open_policy: Open, tmp_path: Path, lora: Any) -> None:
    from safetensors.torch import load_file, save_file

    policy = open_policy(lora=lora)
    policy.trainer.save(tmp_path)
    (file,) = (tmp_path / "model").glob("*.safetensors")
    tensors = load_file(file)
    lost = next(name for name in tensors if "q_proj" in name)
    save_file({k: v for k, v in tensors.items() if k != lost}, file, {"format": "pt"})
    with pytest.raises(RunError, match=r"the weights are incomplete: .*q_proj.* missing"):
        open_policy(lora=lora).trainer.load(tmp_path)


@pytest.mark.parametrize(("lora", "holds"), [(None, "model"), (LORA, "adapter")])
def test_a_checkpoint_without_its_weights_is_never_taken_for_the_base(
    open_policy: Open, tmp_path: Path, lora: Any, holds: str
) -> None:
    policy = open_policy(lora=lora)
    policy.trainer.save(tmp_path)
    assert json.loads((tmp_path / "policy.json").read_text()) == {"version": 0, "holds": holds}
    shutil.rmtree(tmp_path / "model")
    for trainable in (True, False):
        with pytest.raises(InputError, match=r"model/ is missing"):
            open_policy(lora=lora, trainable=trainable).trainer.load(tmp_path)


def test_a_checkpoint_of_another_kind_is_refused(open_policy: Open, tmp_path: Path) -> None:
    open_policy(lora=LORA).trainer.save(tmp_path)
    with pytest.raises(InputError, match=r"holds 'adapter', and slow\.lora is not set"):
        open_policy().trainer.load(tmp_path)


def test_weights_that_are_not_trained_are_not_saved(open_policy: Open, tmp_path: Path) -> None:
    open_policy(trainable=False).trainer.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]
    reader = open_policy(trainable=False)
    reader.trainer.load(tmp_path)
    assert reader.trainer.version == 0


def test_nothing_is_kept_elsewhere(open_policy: Open, tmp_path: Path) -> None:
    policy = open_policy()
    policy.trainer.save(tmp_path)
    files = sorted(tmp_path.rglob("*"))
    policy.trainer.discard(tmp_path)
    policy.trainer.close()
    assert sorted(tmp_path.rglob("*")) == files
    assert rollouts(policy)


# --- drift and distillation -------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA])
def test_drift_is_nothing_at_first_and_then_what_the_base_says(
    open_policy: Open, lora: dict[str, Any] | None
) -> None:
    policy = open_policy(keep_base=True, kl=0.0, lora=lora)
    completions = rollouts(policy)
    for one in drift(policy, completions):
        assert one.divergences == pytest.approx([0.0] * len(one.divergences), abs=1e-5)
        assert one.logprobs == pytest.approx(one.base_logprobs, abs=1e-5)
    for seed in range(3):
        step(policy, seed)
    found = drift(policy, completions)
    own = [p for one in found for p in one.logprobs]
    base = [p for one in found for p in one.base_logprobs]
    assert own == pytest.approx(logprobs(policy, completions).tolist(), abs=1e-5)
    assert base == pytest.approx(logprobs(open_policy(kl=0.0), completions).tolist(), abs=1e-5)
    assert max(abs(a - b) for a, b in zip(own, base, strict=True)) > 1e-2
    assert all(value > 0 for one in found for value in one.divergences)


def test_drift_needs_the_base(open_policy: Open) -> None:
    policy = open_policy(kl=0.0)
    completions = rollouts(policy)
    assert drift(policy, completions), "nothing was trained yet"
    step(policy)
    with pytest.raises(RuntimeError, match="base"):
        drift(policy, completions)


def test_drift_of_a_policy_that_is_only_sampled(open_policy: Open, tmp_path: Path) -> None:
    trained = open_policy()
    for seed in range(3):
        step(trained, seed)
    trained.trainer.save(tmp_path)
    opened = open_policy(trainable=False, keep_base=True)
    opened.trainer.load(tmp_path)
    completions = rollouts(trained)
    for one, other in zip(drift(opened, completions), drift(trained, completions), strict=True):
        assert one.divergences == pytest.approx(other.divergences, abs=1e-5)
        assert max(one.divergences) > 1e-3


@pytest.mark.parametrize("lora", [None, LORA])
def test_distilling_brings_the_policy_closer_to_itself_with_a_context(
    open_policy: Open, lora: dict[str, Any] | None
) -> None:
    policy = open_policy(kl=0.0, lora=lora)
    short = [policy.sampler.encode(Context(), q) for q in ("2+2?", "How many?")]
    taught = [policy.sampler.encode(CONTEXT, q) for q in ("2+2?", "How many?")]
    requests = [SampleRequest(prompt, (n, n + 10)) for n, prompt in enumerate(short)]
    found = []
    for _ in range(6):
        lessons = [
            one_turn(
                c.read,
                c.sampled,
                c.logprobs,
                weight=0.02,
                version=policy.trainer.version,
                teacher_prompt=teacher,
            )
            for some, teacher in zip(policy.sampler.sample(requests), taught, strict=True)
            for c in some
        ]
        found.append(policy.step(lessons, DISTILL)["kl/teacher"])
    assert policy.trainer.version == 6
    assert found[-1] < found[0]
