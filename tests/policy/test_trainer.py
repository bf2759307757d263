"""One update against a plain torch loop, and what surrounds an update."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from fastslow.config import SlowConfig
from fastslow.engine.base import Engine
from fastslow.engine.head import TokenScores
from fastslow.engine.padded import PaddedEngine
from fastslow.engine.sampling import SamplingLimits
from fastslow.engine.shared import SharedPrefixEngine
from fastslow.policy.backend import Objective
from fastslow.policy.base import Sampler
from fastslow.policy.local.backend import MISMATCH
from fastslow.policy.local.optimiser import Optimiser
from fastslow.policy.local.teachers import teachers
from fastslow.policy.trainer import GradientTrainer
from fastslow.slow.anomalies import Anomaly
from fastslow.slow.base import SlowLearner
from fastslow.slow.registry import create
from fastslow.types import Datum, TokenSequence
from one_turn import (
    advantage_of,
    completion_of,
    logprobs_of,
    one_turn,
    prompt_of,
    weight_of,
)

TEMPERATURE = 0.7
CONTEXT = list(range(10, 30))
VERSION = 3

NAN, INF = float("nan"), float("inf")

CISPO = create(SlowConfig(), 64, "test")
DISTILL = create(SlowConfig(algorithm="distill"), 64, "test")
CAP = 4.0

# A large eps keeps AdamW from blowing the rounding of gradients near zero up to whole steps.
# Rollouts are trained on again and again, as if the weights that sampled them had not moved.
SETTINGS: dict[str, Any] = {
    "lr": 1e-3,
    "warmup": 2,
    "eps": 1e-4,
    "max_grad_norm": 0.05,
    "kl": 0.3,
    "mismatch_error": INF,
}

Reference = Callable[[Sequence[TokenSequence]], list[TokenScores]]


class EngineBackend:
    """A ``Backend`` around an engine and a base that the test chooses."""

    def __init__(self, engine: Engine, reference: Reference | None, config: SlowConfig) -> None:
        self.engine, self.reference = engine, reference
        self.optimiser = Optimiser(engine.model, config)

    @property
    def mismatch(self) -> tuple[float, float]:
        return MISMATCH[next(self.engine.model.parameters()).dtype]

    def sampler(self, version: int) -> Sampler:
        return cast(Sampler, None)

    def attempt(self, work: Callable[[], Any]) -> Any:
        return work()

    def clear_gradient(self) -> None:
        self.optimiser.clear_gradient()

    def accumulate(self, data: Sequence[Datum], objective: Objective, top: int | None) -> None:
        against = teachers(self.engine, data, top)
        sequences = [datum.sequence for datum in data]
        for passed in self.engine.passes(sequences, TEMPERATURE, against):
            objective(passed).backward()

    def base_logprobs(self, sequences: Sequence[TokenSequence]) -> list[Tensor]:
        assert self.reference is not None
        return [scores.logprobs for scores in self.reference(sequences)]

    def apply(self, lr: float, max_norm: float) -> float:
        norm = self.optimiser.clip(max_norm)
        if norm < INF:
            self.optimiser.step(lr)
            self.engine.weights_changed()
        return norm

    def save(self, folder: Path) -> str:
        self.optimiser.save(folder)
        return "base"

    def load(self, folder: Path, holds: str) -> None:
        self.optimiser.load(folder)

    def discard(self, folder: Path) -> None: ...

    def close(self) -> None: ...


class RefusedError(Exception):
    def __init__(self, anomaly: Anomaly) -> None:
        super().__init__(anomaly.cause)
        self.anomaly = anomaly


class Learner:
    """A trainer on an engine. Data of version VERSION count as sampled by the present weights, so
    that they can be trained on again and again."""

    def __init__(self, engine: Engine, reference: Reference | None, config: SlowConfig) -> None:
        if reference is None:
            config = config.model_copy(update={"kl": 0.0})
        backend = EngineBackend(engine, reference, config)
        self.trainer = GradientTrainer(backend, config)
        self.weights = backend.optimiser.weights

    def update(
        self, data: Sequence[Datum], learner: SlowLearner, version: int = VERSION
    ) -> dict[str, float]:
        now = self.trainer.version - version
        moved = [replace(d, policy_version=(d.policy_version or 0) + now) for d in data]
        result = self.trainer.step(moved, learner)
        if result.refused is not None:
            raise RefusedError(result.refused)
        return result.measures


EngineType = Callable[[PreTrainedModel, int], Engine]


@pytest.fixture
def load(tiny_model_dir: Path) -> Callable[[], PreTrainedModel]:
    def load_model() -> PreTrainedModel:
        model = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
        with torch.no_grad():  # farther from uniform than the initialisation
            for parameter in model.parameters():
                parameter.mul_(4)
        return model

    return load_model


def plain_scores(model: PreTrainedModel, prompt: Any, completion: Any) -> Tensor:
    logits = model(torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0]
    predictions = (logits[len(prompt) - 1 : -1] / TEMPERATURE).log_softmax(-1)
    return predictions[range(len(completion)), list(completion)]


def make_data(model: PreTrainedModel, versions: tuple[int, ...] = (VERSION,) * 6) -> list[Datum]:
    """Rollouts under one context; those of another version have ratios on both sides of the cap."""
    data = []
    generator = torch.Generator().manual_seed(0)
    for number, version in enumerate(versions):
        prompt = (*CONTEXT, 40 + number % 2, 50)
        completion = tuple(range(60 + number, 63 + number + 7 * number % 16))  # not by length
        with torch.no_grad():
            logprobs = plain_scores(model, prompt, completion)
        if version != VERSION:
            logprobs = logprobs - 1.5 * torch.randn(len(completion), generator=generator)
        data.append(
            one_turn(
                prompt,
                completion,
                logprobs.tolist(),
                advantage=(-1.0) ** number * (1 + number / 3),
                weight=0.01 * (number + 1),
                version=version,
            )
        )
    return data


OFF_POLICY = (VERSION, VERSION - 1, VERSION, VERSION - 1, VERSION - 1, VERSION)


def reference_of(model: PreTrainedModel) -> Reference:
    engine = PaddedEngine(model, 4096)
    return lambda sequences: engine.score(sequences, TEMPERATURE)


def parameters(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


class PlainLearner:
    """The update as one would write it down: one sequence at a time, no engine of ours."""

    def __init__(self, model: PreTrainedModel, base: PreTrainedModel, config: SlowConfig) -> None:
        self.model, self.base, self.config, self.updates = model, base, config, 0
        self.optimiser = torch.optim.AdamW(
            model.parameters(), betas=config.betas, eps=config.eps, weight_decay=0.0
        )

    def update(self, data: list[Datum]) -> dict[str, float]:
        self.optimiser.zero_grad()
        loss_sum, ratios, divergences = 0.0, [], []
        for d in data:
            prompt, completion = prompt_of(d), completion_of(d)
            logprobs = plain_scores(self.model, prompt, completion)
            ratio = (logprobs - torch.tensor(logprobs_of(d))).exp()
            with torch.no_grad():
                base = plain_scores(self.base, prompt, completion)
            capped = ratio.clamp(max=CAP)
            k3 = (base - logprobs).exp() - (base - logprobs) - 1
            policy_loss = -capped.detach() * advantage_of(d) * logprobs
            loss = (weight_of(d) * (policy_loss + self.config.kl * capped * k3)).sum()
            loss.backward()
            loss_sum += loss.item()
            ratios.append(ratio.detach())
            divergences.append((capped * k3).detach())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.updates += 1
        lr = self.config.lr * min(1, self.updates / self.config.warmup)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        return {
            "loss": loss_sum,
            "grad_norm": float(norm),
            "ratio/max": float(torch.cat(ratios).max()),
            "kl/base": float(torch.cat(divergences).mean()),
            "lr": lr,
        }


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
@pytest.mark.parametrize("tokens_per_pass", [30, 4096])
def test_updates_equal_a_plain_loop(
    load: Callable[[], PreTrainedModel], engine: EngineType, tokens_per_pass: int
) -> None:
    config = SlowConfig(**SETTINGS)
    model = load()
    learner = Learner(engine(model, tokens_per_pass), reference_of(load()), config)
    plain = PlainLearner(load(), load(), config)
    data = make_data(load(), OFF_POLICY)
    for _ in range(3):
        found, expected = learner.update(data, CISPO), plain.update(data)
        assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert expected["ratio/max"] > CAP
    assert expected["grad_norm"] > config.max_grad_norm, "clipping is tested"
    start = parameters(load())
    for name, value in parameters(plain.model).items():
        torch.testing.assert_close(parameters(model)[name], value, rtol=0, atol=1e-6)
        assert not torch.equal(value, start[name])


def make_lessons(model: PreTrainedModel) -> list[Datum]:
    """The rollouts of ``make_data``, as taught by the same model after a longer prompt."""
    return [
        replace(d, teacher_prompt=(70 + i % 2, 71, *prompt_of(d)))
        for i, d in enumerate(make_data(model))
    ]


@pytest.mark.parametrize("engine", [PaddedEngine, SharedPrefixEngine])
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_distilling_equals_a_plain_loop(
    load: Callable[[], PreTrainedModel], engine: EngineType, kl: float
) -> None:
    config = SlowConfig(**{**SETTINGS, "kl": kl, "kl_cap": 1e6})
    model, plain, base = load(), load(), load()
    learner = Learner(engine(model, 30), reference_of(load()) if kl else None, config)
    optimiser = torch.optim.AdamW(plain.parameters(), eps=config.eps, weight_decay=0.0)
    lessons = make_lessons(load())
    for update in (1, 2, 3):
        found = learner.update(lessons, DISTILL)
        optimiser.zero_grad()
        total, divergences = 0.0, []
        for x in lessons:
            own, taught = (
                torch.distributions.Categorical(
                    logits=plain(
                        torch.tensor([[*prompt, *completion_of(x)]]), use_cache=False
                    ).logits[0][len(prompt) - 1 : -1]
                    / TEMPERATURE
                )
                for prompt in (prompt_of(x), x.teacher_prompt)
            )
            taught = torch.distributions.Categorical(logits=taught.logits.detach())
            divergence = torch.distributions.kl_divergence(own, taught)
            loss = divergence
            if kl:
                logprobs = plain_scores(plain, prompt_of(x), completion_of(x))
                with torch.no_grad():
                    reference = plain_scores(base, prompt_of(x), completion_of(x))
                ratio = (logprobs - torch.tensor(logprobs_of(x))).exp()
                difference = reference - logprobs
                loss = loss + kl * ratio * (difference.exp() - difference - 1)
            (weight_of(x) * loss).sum().backward()
            total += (weight_of(x) * loss).sum().item()
            divergences.append(divergence.detach())
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), config.max_grad_norm)
        optimiser.param_groups[0]["lr"] = config.lr * min(1, update / config.warmup)
        optimiser.step()
        assert found["loss"] == pytest.approx(total, rel=1e-3)
        assert found["grad_norm"] == pytest.approx(float(norm), rel=1e-3)
        assert found["kl/teacher"] == pytest.approx(torch.cat(divergences).mean().item(), rel=1e-3)
        assert ("kl/base" in found) == bool(kl)
    for name, value in parameters(plain).items():
        torch.testing.assert_close(parameters(model)[name], value, rtol=0, atol=2e-6)


def test_a_student_comes_to_answer_as_its_teacher_does(
    load: Callable[[], PreTrainedModel],
) -> None:
    config = SlowConfig(lr=3e-3, warmup=0, kl=0.0, mismatch_error=INF)
    learner = Learner(SharedPrefixEngine(load(), 4096), None, config)
    lessons = make_lessons(load())
    top = create(SlowConfig(algorithm="distill", distill={"top": 20}), 64, "test")
    found = [learner.update(lessons, top)["kl/teacher"] for _ in range(12)]
    assert found[-1] < 0.3 * found[0]


def test_small_passes_accumulate_the_same_gradient(load: Callable[[], PreTrainedModel]) -> None:
    data = make_data(load(), OFF_POLICY)
    gradients = []
    for tokens_per_pass in (1, 30, 4096):
        model = load()
        config = SlowConfig(**{**SETTINGS, "max_grad_norm": float("inf")})
        engine = SharedPrefixEngine(model, tokens_per_pass)
        Learner(engine, reference_of(load()), config).update(data, CISPO)
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for few, many in zip(gradients[0] + gradients[1], gradients[2] * 2, strict=True):
        assert (few - many).norm() <= 1e-5 * many.norm()


@pytest.mark.parametrize(
    ("warmup", "expected"), [(4, [0.25, 0.5, 0.75, 1.0, 1.0]), (1, [1.0] * 5), (0, [1.0] * 5)]
)
def test_the_learning_rate_rises_linearly(
    load: Callable[[], PreTrainedModel], warmup: int, expected: list[float]
) -> None:
    config = SlowConfig(lr=1e-5, warmup=warmup, mismatch_error=INF)
    learner = Learner(PaddedEngine(load(), 4096), None, config)
    data = make_data(load())[:1]
    rates = [learner.update(data, CISPO)["lr"] for _ in expected]
    assert rates == pytest.approx([1e-5 * share for share in expected])


def test_measures(load: Callable[[], PreTrainedModel]) -> None:
    model, data = load(), make_data(load())
    learner = Learner(SharedPrefixEngine(model, 4096), None, SlowConfig(kl=0))
    measures = learner.update(data, CISPO)
    assert set(measures) == {
        "loss",
        "grad_norm",
        "entropy",
        "ratio/max",
        "logprob/mismatch",
        "tokens/trained",
        "tokens/trained_unshared",
        "lr",
    }
    assert measures["tokens/trained_unshared"] == sum(len(d.tokens) for d in data)
    # Each beginning once: of the context, of its two questions and of completions; the last token
    # of each sequence is predicted and never read.
    read = [tuple(d.tokens[:-1]) for d in data]
    beginnings = {tokens[:length] for tokens in read for length in range(1, len(tokens) + 1)}
    assert measures["tokens/trained"] == len(beginnings)
    assert len(beginnings) < len(CONTEXT) + sum(2 + len(completion_of(d)) - 1 for d in data)
    scores = PaddedEngine(load(), 4096).score([d.sequence for d in data], TEMPERATURE)
    entropy = torch.cat([s.entropies for s in scores]).mean().item()
    assert measures["entropy"] == pytest.approx(entropy, rel=1e-4)
    assert measures["ratio/max"] == pytest.approx(1, abs=1e-4)
    assert measures["logprob/mismatch"] < 1e-4


def test_the_mismatch_is_that_of_on_policy_rollouts_alone(
    load: Callable[[], PreTrainedModel],
) -> None:
    def measures(version: int) -> dict[str, float]:
        engine = PaddedEngine(load(), 4096)
        data = make_data(load(), OFF_POLICY)
        config = SlowConfig(mismatch_error=float("inf"))
        return Learner(engine, None, config).update(data, CISPO, version)

    assert measures(VERSION)["logprob/mismatch"] < 1e-4
    assert measures(VERSION - 1)["logprob/mismatch"] > 1
    assert "logprob/mismatch" not in measures(VERSION + 1)


def with_base(value: float) -> Reference:
    """A base under which every token has this log-probability."""
    return lambda sequences: [
        TokenScores(torch.full((len(s.scored),), value), torch.zeros(len(s.scored)))
        for s in sequences
    ]


@pytest.mark.parametrize(
    ("poison", "base", "cause", "blamed"),
    [
        ({"advantages": NAN}, 0.0, "a loss is not finite", ["the last"]),
        ({"advantages": INF}, 0.0, "a loss is not finite", ["the last"]),
        ({"weights": 1e30}, 0.0, "the gradient's norm is inf", []),
        (
            {"logprobs": -INF},
            0.0,
            "a log-probability at sampling is not finite",
            ["the last"],
        ),
        (
            {"logprobs": NAN},
            0.0,
            "a log-probability at sampling is not finite",
            ["the last"],
        ),
        ({}, -INF, "a log-probability under the base is not finite", ["the last", "another"]),
    ],
)
def test_numbers_that_are_not_finite_leave_everything_as_it_was(
    load: Callable[[], PreTrainedModel],
    poison: dict[str, Any],
    base: float,
    cause: str,
    blamed: list[str],
) -> None:
    """As if the update had never been asked for: later ones are those of another learner."""
    model, untroubled = load(), load()
    bases = [with_base(-1.0), with_base(-1.0)]
    config = SlowConfig(**SETTINGS)
    learners = [
        Learner(PaddedEngine(m, 60), lambda x, n=n: bases[n](x), config)
        for n, m in enumerate((model, untroubled))
    ]
    data = [replace(d, source="another") for d in make_data(load())]
    poisons = {
        field: [value if sampled else 0.0 for sampled in data[-1].mask]
        for field, value in poison.items()
    }
    last = replace(data[-1], **poisons, source="the last")
    for learner in learners:
        learner.update(data, CISPO)
    before = parameters(model)
    bases[0] = with_base(base)
    with pytest.raises(RefusedError, match=f"^{cause}$") as caught:
        learners[0].update([*data[:-1], last], CISPO)
    assert set(caught.value.anomaly.rollouts) <= set(blamed)
    assert bool(caught.value.anomaly.rollouts) == bool(blamed)
    assert learners[0].trainer.version == 1
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in parameters(model).items())
    bases[0] = with_base(-1.0)
    for learner in learners:
        learner.update(data, CISPO)
    goes_on = parameters(untroubled)
    assert all(torch.equal(goes_on[name], value) for name, value in parameters(model).items())


def test_a_log_probability_of_the_policy_is_blamed_before_the_loss(
    load: Callable[[], PreTrainedModel],
) -> None:
    model, data = load(), make_data(load())
    with torch.no_grad():
        model.model.norm.weight.fill_(NAN)
    learner = Learner(SharedPrefixEngine(model, 4096), None, SlowConfig(kl=0))
    with pytest.raises(RefusedError, match=r"^a log-probability is not finite$"):
        learner.update(data, CISPO)
    with pytest.raises(RefusedError, match=r"^a log-probability is not finite$"):
        learner.update(make_lessons(load()), DISTILL)


def off_by(data: list[Datum], number: int, nats: float) -> list[Datum]:
    """The data with the log-probabilities of one rollout, as stored, wrong by so much."""
    wrong = data[number]
    logprobs = (*wrong.logprobs[:-1], wrong.logprobs[-1] - nats)
    named = [replace(d, source=f"rollout {n}") for n, d in enumerate(data)]
    return [*named[:number], replace(named[number], logprobs=logprobs), *named[number + 1 :]]


@pytest.mark.parametrize(
    ("dtype", "settings", "nats", "outcome"),
    [
        (torch.float32, {}, 0.005, "fine"),
        (torch.float32, {}, 0.05, "warned"),
        (torch.float32, {}, 1.5, "refused"),
        (torch.float32, {"mismatch_warning": 0.1}, 0.05, "fine"),
        (torch.float32, {"mismatch_error": 2.0}, 1.5, "warned"),
        (torch.float32, {"mismatch_warning": 9.0, "mismatch_error": 1.0}, 1.5, "fine"),
        (torch.bfloat16, {}, 0.2, "fine"),
        (torch.bfloat16, {}, 1.5, "warned"),
        (torch.bfloat16, {}, 6.0, "refused"),
    ],
)
def test_a_mismatch_is_warned_of_and_then_refused(
    load: Callable[[], PreTrainedModel],
    caplog: pytest.LogCaptureFixture,
    dtype: torch.dtype,
    settings: dict[str, float],
    nats: float,
    outcome: str,
) -> None:
    model = load()
    engine = PaddedEngine(model, 60)
    engine.round_to(dtype, keep=lambda name: False)
    learner = Learner(engine, None, SlowConfig(kl=0, **settings))
    data = off_by(make_data(load()), 3, nats)
    before = parameters(model)
    if outcome == "refused":
        with pytest.raises(
            RefusedError, match=r"by up to .* nats \(slow\.mismatch_error\)"
        ) as caught:
            learner.update(data, CISPO)
        assert caught.value.anomaly.rollouts == ("rollout 3",)
        assert all(torch.equal(before[name], value) for name, value in parameters(model).items())
        return
    assert learner.update(data, CISPO)["logprob/mismatch"] == pytest.approx(nats, abs=0.3)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (outcome == "warned")
    assert all("in 1 of 6 rollouts: rollout 3" in line for line in told)


def test_a_mismatch_of_stale_rollouts_is_none(load: Callable[[], PreTrainedModel]) -> None:
    data = off_by(make_data(load()), 3, 2.0)
    stale = [replace(d, policy_version=VERSION - 1) if n == 3 else d for n, d in enumerate(data)]
    learner = Learner(PaddedEngine(load(), 60), None, SlowConfig(kl=0))
    assert learner.update(stale, CISPO)["logprob/mismatch"] < 1e-4


def test_frozen_parameters_stay(load: Callable[[], PreTrainedModel]) -> None:
    model = load()
    model.model.layers[0].requires_grad_(False)
    before = parameters(model)
    Learner(SharedPrefixEngine(model, 30), None, SlowConfig(**SETTINGS)).update(
        make_data(load()), CISPO, VERSION
    )
    moved = {name for name, value in parameters(model).items() if not value.equal(before[name])}
    assert moved == {name for name in before if "layers.0" not in name}


def test_a_loaded_optimiser_goes_on_bit_for_bit(
    load: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    data = make_data(load(), OFF_POLICY)
    config = SlowConfig(**{**SETTINGS, "warmup": 5})
    model = load()
    learner = Learner(PaddedEngine(model, 4096), None, config)
    for _ in range(2):
        learner.update(data, CISPO)
    learner.trainer.save(tmp_path)
    resumed = load()
    resumed.load_state_dict(model.state_dict())
    other = Learner(PaddedEngine(resumed, 4096), None, config)
    other.trainer.load(tmp_path)
    assert other.trainer.version == 2
    for _ in range(2):
        assert learner.update(data, CISPO) == other.update(data, CISPO)
    expected = parameters(model)
    assert all(torch.equal(expected[name], value) for name, value in parameters(resumed).items())


def test_an_optimiser_that_has_not_stepped_can_be_saved(
    load: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    Learner(PaddedEngine(load(), 4096), None, SlowConfig()).trainer.save(tmp_path)
    learner = Learner(PaddedEngine(load(), 4096), None, SlowConfig(mismatch_error=INF))
    learner.trainer.load(tmp_path)
    assert learner.trainer.version == 0
    assert learner.update(make_data(load()), CISPO)["lr"] == pytest.approx(1e-7)


# --- weights in a lower type ------------------------------------------------------------------


def rounded(load: Callable[[], PreTrainedModel]) -> SharedPrefixEngine:
    engine = SharedPrefixEngine(load(), 30)
    engine.round_to(torch.bfloat16, keep=lambda name: False)
    return engine


def test_bfloat16_weights_move_by_steps_that_they_cannot_hold(
    load: Callable[[], PreTrainedModel],
) -> None:
    """Each step is lost on nearly all weights; what they sum to is not."""
    engine, exact = rounded(load), load()
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.copy_(parameter.bfloat16())
    config = SlowConfig(lr=2e-5, warmup=0, eps=1e-4, kl=0, mismatch_error=INF)
    learner = Learner(engine, None, config)
    plain = Learner(PaddedEngine(exact, 4096), None, config)
    data = make_data(load())
    start = parameters(engine.model)
    moved = []
    for _ in range(12):
        learner.update(data, CISPO)
        plain.update(data, CISPO)
        now = parameters(engine.model)
        moved.append(sum(int((now[name] != value).sum()) for name, value in start.items()))
    assert {value.dtype for value in now.values()} == {torch.bfloat16}
    assert moved[-1] > 3 * moved[0] > 0
    # Rounding the fp32 weights after every step gives what training in fp32 arrives at, rounded.
    steps = [
        torch.cat([(end[name].float() - start[name].float()).flatten() for name in start])
        for end in (now, parameters(exact))
    ]
    masters = torch.cat([m.detach().flatten() for m in learner.weights.values()])
    origin = torch.cat([value.float().flatten() for value in start.values()])
    assert torch.cosine_similarity(masters - origin, steps[1], dim=0) > 0.95
    assert torch.cosine_similarity(steps[0], steps[1], dim=0) > 0.3


def test_loaded_masters_go_on_bit_for_bit(
    load: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    data, config = make_data(load(), OFF_POLICY), SlowConfig(**{**SETTINGS, "kl": 0})
    engine, resumed = rounded(load), rounded(load)
    learner = Learner(engine, None, config)
    for _ in range(2):
        learner.update(data, CISPO)
    learner.trainer.save(tmp_path)
    resumed.model.load_state_dict(engine.model.state_dict())
    other = Learner(resumed, None, config)
    other.trainer.load(tmp_path)
    for ours, theirs in zip(learner.weights.values(), other.weights.values(), strict=True):
        assert ours.dtype == theirs.dtype == torch.float32
        assert torch.equal(ours, theirs)
    for _ in range(2):
        assert learner.update(data, CISPO) == other.update(data, CISPO)
    expected = parameters(engine.model)
    found = parameters(resumed.model)
    assert all(torch.equal(expected[name], value) for name, value in found.items())


def test_fp32_weights_have_no_copies(load: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    learner = Learner(SharedPrefixEngine(load(), 30), None, SlowConfig())
    learner.update(make_data(load()), CISPO)
    learner.trainer.save(tmp_path)
    names = load_file(tmp_path / "optimiser.safetensors")
    assert {name.rsplit(".", 1)[1] for name in names} == {"step", "exp_avg", "exp_avg_sq"}


def test_the_engine_computes_with_the_new_weights(load: Callable[[], PreTrainedModel]) -> None:
    """Not with keys, values or packed weights of the old ones."""
    data, limits = make_data(load()), SamplingLimits(6, frozenset(), TEMPERATURE)
    prompts = [[*CONTEXT, 40 + i] for i in range(3)]
    engine = SharedPrefixEngine(load(), 4096)
    learner = Learner(engine, None, SlowConfig(lr=3e-2, warmup=0, kl=0))
    before = engine.sample(prompts, [[1, 2]] * 3, limits, 8)
    learner.update(data, CISPO)
    after = engine.sample(prompts, [[1, 2]] * 3, limits, 8)
    trained = load()
    trained.load_state_dict(engine.model.state_dict())
    expected = PaddedEngine(trained, 4096).sample(prompts, [[1, 2]] * 3, limits, 8)
    tokens = [[[c.sampled for c in some] for some in s] for s in (before, after, expected)]
    assert tokens[1] == tokens[2]
    assert tokens[0] != tokens[1]


def test_a_datum_of_two_turns_has_the_gradient_of_its_sampled_tokens(
    load: Callable[[], PreTrainedModel],
) -> None:
    """Read, sampled, read, sampled: the second turn is conditioned on all before it."""
    tokens = [*CONTEXT, 60, 61, 62, 40, 41, 63, 64]
    mask = [False] * len(CONTEXT) + [True] * 3 + [False] * 2 + [True] * 2
    plain, model = load(), load()
    logits = plain(torch.tensor([tokens]), use_cache=False).logits[0][:-1] / TEMPERATURE
    scores = logits.log_softmax(-1)[range(len(tokens) - 1), tokens[1:]]
    places = [place for place, sampled in enumerate(mask) if sampled]
    own = scores[[place - 1 for place in places]]
    logprobs, advantages = [0.0] * len(tokens), [0.0] * len(tokens)
    for place, value in zip(places, own.tolist(), strict=True):
        logprobs[place], advantages[place] = value, 1.0 + place / 10
    weights = [0.1 * sampled for sampled in mask]
    datum = Datum(tokens, mask, logprobs, advantages, weights, policy_version=VERSION)
    loss = -(own * torch.tensor([0.1 * advantages[place] for place in places])).sum()
    loss.backward()
    config = SlowConfig(lr=1e-3, warmup=0, kl=0, max_grad_norm=INF)
    measures = Learner(SharedPrefixEngine(model, 4096), None, config).update([datum], CISPO)
    assert measures["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert measures["logprob/mismatch"] < 1e-4
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert (ours.grad - theirs.grad).norm() <= 1e-4 * theirs.grad.norm()
