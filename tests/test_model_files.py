"""model_files: folders that are damaged, incomplete, or name what is not to be read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastslow.errors import InputError
from fastslow.model_files import INDEX, WEIGHTS, check_adapter, check_folder
from fastslow.models import load_model, resolve

Change = Callable[[Path], object]


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def shard(folder: Path) -> dict[str, str]:
    """The weights in two shards, and the index, as ``save_pretrained`` writes large models."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    write_index(folder, places)
    return places


def write_index(folder: Path, places: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_shards_and_links_within_a_folder_are_read(folder: Path) -> None:
    shard(folder)
    (folder / "real").mkdir()
    moved = folder / "model-00001-of-00002.safetensors"
    moved.rename(folder / "real" / "weights")
    moved.symlink_to("real/weights")
    load_model(str(folder))


def test_a_folder_of_the_hubs_cache_is_read(folder: Path, tmp_path: Path) -> None:
    """Its files are links to blobs beside the snapshots."""
    stored = tmp_path / "models--owner--name"
    snapshot = stored / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (stored / "blobs").mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, stored / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    load_model(str(snapshot))


def test_a_link_to_a_folder_is_that_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    load_model(str(tmp_path / "linked"))


def test_files_that_are_not_read_do_not_matter(folder: Path) -> None:
    """As a trainer leaves beside the weights."""
    for name in ("optimizer.pt", "training_args.bin", "pytorch_model.bin"):
        (folder / name).write_bytes(pickle.dumps({}))
    (folder / "notes").symlink_to("/etc")
    load_model(str(folder))


# --- shards -------------------------------------------------------------------------------------

PLACES = [
    "/etc/passwd.safetensors",
    "../model/model.safetensors",
    "sub/model.safetensors",
    "sub\\model.safetensors",
    "model.bin",
    "model.pt",
    "model.safetensors.bin",
    "..",
    "",
    ".safetensors/..",
    7,
    None,
    ["model.safetensors"],
]


@pytest.mark.parametrize("place", PLACES, ids=map(repr, PLACES))
def test_a_place_that_is_no_file_of_weights_in_the_folder(folder: Path, place: object) -> None:
    places: dict[str, object] = dict(shard(folder))
    places["model.norm.weight"] = place
    write_index(folder, places)
    with pytest.raises(InputError, match=r"index\.json: places model\.norm\.weight in "):
        resolve(str(folder))


def test_an_index_beside_whole_weights_is_looked_at_too(folder: Path) -> None:
    write_index(folder, {"model.norm.weight": "model.bin"})
    with pytest.raises(InputError, match=r"places model\.norm\.weight in 'model\.bin'"):
        resolve(str(folder))


def test_shards_that_are_incomplete(folder: Path) -> None:
    places = shard(folder)
    first = "model-00001-of-00002.safetensors"
    write_index(folder, {**places, "model.layers.9.mlp.weight": first})
    with pytest.raises(InputError, match=r"00001.*lacks model\.layers\.9\.mlp\.weight"):
        resolve(str(folder))
    write_index(folder, places)
    shutil.copy(folder / first, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match=r"00002.*as another shard does"):
        resolve(str(folder))
    (folder / first).unlink()
    with pytest.raises(InputError, match=r"00001.*No such file"):
        resolve(str(folder))


@pytest.mark.parametrize("places", [{}, [], None, "model.safetensors"])
def test_an_index_without_a_map(folder: Path, places: object) -> None:
    shard(folder)
    write_index(folder, places)
    with pytest.raises(InputError, match="has no weight_map"):
        resolve(str(folder))


# --- files --------------------------------------------------------------------------------------


def header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


def entry(**changes: object) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


WEIGHTS_DAMAGED = {
    "empty": b"",
    "a few bytes": b"\x08\0\0",
    "absurd length": b"\xff" * 8 + b"{}",
    "length beyond the end": header("{}")[:-1],
    "random": bytes(range(7, 256)) * 9,
    "a zip": b"PK\x03\x04" + bytes(100),
    "a pickle": pickle.dumps({"a": 1}),
    "a list": header("[]"),
    "no JSON": header("{ torn"),
    "nested": header("[" * 100_000),
    "tensors cut off": header(json.dumps(entry()), b"\0\0"),
    "something behind": header(json.dumps(entry()), b"\0" * 9),
    "no offsets": header('{"a": {"dtype": "F32", "shape": [1]}}'),
    "no shape": header('{"a": {"dtype": "F32", "data_offsets": [0, 0]}}'),
    "an entry that is a list": header('{"a": []}'),
    "one name twice": header(
        '{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
        '"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    ),
}


@pytest.mark.parametrize("damage", WEIGHTS_DAMAGED)
def test_damaged_weights(folder: Path, damage: str) -> None:
    (folder / WEIGHTS).write_bytes(WEIGHTS_DAMAGED[damage])
    with pytest.raises(InputError, match=r"cannot read the file .*model\.safetensors: "):
        resolve(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "[" * 100_000, '{"a": 1, "a": 2}'])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_damaged_configuration(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(InputError, match=f"cannot read the file .*{file}: "):
        resolve(str(folder))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "chat_template.jinja", WEIGHTS])
def test_a_link_that_leads_outside(folder: Path, tmp_path: Path, file: str) -> None:
    (tmp_path / "victim").mkdir()
    (folder / file).rename(tmp_path / "victim" / file)
    (folder / file).symlink_to(f"../victim/{file}")
    with pytest.raises(InputError, match=rf"{file}: is a link to .*victim.*outside"):
        resolve(str(folder))


CHANGES: dict[str, tuple[Change, str]] = {
    "a pipe": (lambda f: os.mkfifo(f / "merges.txt"), "is no plain file"),
    "a folder": (lambda f: (f / "vocab.json").mkdir(), "is no plain file"),
    "a link to nothing": (lambda f: (f / "merges.txt").symlink_to("gone"), "is no plain file"),
    "a link to itself": (lambda f: (f / "merges.txt").symlink_to("merges.txt"), "merges.txt"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "merge the two"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_plain_file(folder: Path, change: str) -> None:
    CHANGES[change][0](folder)
    with pytest.raises(InputError, match=CHANGES[change][1]):
        resolve(str(folder))


# --- counts -------------------------------------------------------------------------------------


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("value", [10**9, 10**30, 21, 0, -1, "2", 2.0, True, [2]])
@pytest.mark.parametrize("within", [False, True])
def test_a_number_of_layers_that_the_weights_do_not_have(
    folder: Path, value: object, within: bool
) -> None:
    counts = {"num_hidden_layers": value}
    configure(folder, **({"text_config": counts} if within else counts))
    with pytest.raises(InputError, match=r"num_hidden_layers is .*; allowed are 1 to 20"):
        resolve(str(folder))


def test_a_number_of_experts_that_the_weights_do_not_have(folder: Path) -> None:
    configure(folder, num_local_experts=10**9)
    with pytest.raises(InputError, match=r"num_local_experts is 1000000000; allowed are 1 to 259"):
        resolve(str(folder))


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "intermediate_size", "head_dim"])
def test_sizes_that_the_weights_do_not_have(folder: Path, key: str) -> None:
    configure(folder, **{key: 10**9})
    with pytest.raises(InputError, match=r"of other sizes than its config\.json says"):
        load_model(str(folder))


@pytest.mark.parametrize("value", ["2", [1, "2"], -1, 1.5, True, {"a": 1}])
def test_end_tokens_that_are_none(folder: Path, value: object) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(InputError, match="eos_token_id is "):
        resolve(str(folder))


# --- adapters -----------------------------------------------------------------------------------


def write_adapter(folder: Path, **changes: Any) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {"x.lora_A.weight": torch.zeros(4, 32), "x.lora_B.weight": torch.zeros(32, 4)}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))


ADAPTERS = [
    ({"peft_type": "IA3"}, "allowed is \"LORA\""),
    ({"peft_type": None}, "allowed is \"LORA\""),
    ({"r": 10**9}, "a rank is 1000000000"),
    ({"r": 0}, "a rank is 0"),
    ({"r": "4"}, "a rank is '4'"),
    ({"rank_pattern": {"x": 10**9}}, "a rank is 1000000000"),
    ({"rank_pattern": [1]}, "a rank is 0"),
    ({"layer_replication": [[0, 10**9]]}, "layer_replication"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), ADAPTERS)
def test_adapters_that_no_run_writes(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write_adapter(tmp_path / "adapter", **changes)
    with pytest.raises(InputError, match=reason):
        check_adapter("m", tmp_path / "adapter")


def test_an_adapter_in_a_pickle(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter")
    check_adapter("m", tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(
        tmp_path / "adapter" / "adapter_model.bin"
    )
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: No such file"):
        check_adapter("m", tmp_path / "adapter")


def test_a_folder_that_lacks_everything(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lacks config\.json; weights .*; a tokenizer"):
        check_folder("m", tmp_path)
