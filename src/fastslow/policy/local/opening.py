"""Opens a model on this machine."""

from __future__ import annotations

from typing import ClassVar

from fastslow.models import load_model
from fastslow.policy.backend import Opening
from fastslow.policy.local.backend import LocalBackend, choose_device
from fastslow.policy.registry import backend


@backend("local")
class Local:
    """``policy.backend = "local"``: a transformers model on one CPU, CUDA or MPS device."""

    Backend: ClassVar[type[LocalBackend]] = LocalBackend

    @classmethod
    def open(cls, opening: Opening) -> LocalBackend:
        """Raises: InputError, if the device is not there or the model cannot be used."""
        config = opening.config
        device = choose_device(config.policy.device)
        weights, tokenizer = load_model(
            opening.model, device=device, trust_remote_code=config.policy.trust_remote_code
        )
        return cls.Backend(
            weights,
            tokenizer,
            config.policy,
            config.slow,
            trainable=opening.trainable,
            keep_base=config.eval.drift,
            seed=config.seed,
            date=opening.date,
            contexts=opening.contexts,
        )
