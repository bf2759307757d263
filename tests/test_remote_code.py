"""Code that comes with a model runs if it is asked for, and not otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fastslow.build import open_trainer
from fastslow.config import parse
from fastslow.errors import InputError
from fastslow.models import HUB_FILES
from tiny_run import tiny_config

OWN = """
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = "of-its-own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_model(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model, under an architecture that comes with it; its code leaves a file behind."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path / "own_model"))
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "of-its-own"
    config["auto_map"] = {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForCausalLM": "own.OwnForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(OWN.format(marker=str(tmp_path / "ran")))
    return folder


def test_code_of_a_model_is_not_run_unless_asked_for(own_model: Path, tmp_path: Path) -> None:
    config = tiny_config(own_model, "own", tmp_path)
    with pytest.raises(InputError, match=r"policy.trust_remote_code = true"):
        open_trainer(parse(config), trainable=False)
    assert not (tmp_path / "ran").exists()

    trainer = open_trainer(parse(config, ["policy.trust_remote_code=true"]), trainable=False)
    assert trainer.sampler().window == 2048
    assert (tmp_path / "ran").exists()


def test_code_is_not_even_downloaded_unless_asked_for() -> None:
    assert not any(pattern.endswith(".py") for pattern in HUB_FILES)
