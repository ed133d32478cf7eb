"""Local directories of Hugging Face causal language models: safetensors only, and no code from the directory is run."""

import hashlib
import importlib
import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from incref.checkpoints.files import file_digest
from incref.checkpoints.manifest import MANIFEST_FILE
from incref.errors import CheckpointError, UnsupportedError
from incref.evaluation.text import Tokenizer
from incref.workflow.load import load
from incref.workflow.load_huggingface import DESCRIPTION_FILES, is_foreign
from incref.workflow.transformers_model import empty_model

__all__ = [
    "check_directory",
    "copy_tokenizer",
    "fingerprint",
    "load_any",
    "load_empty",
    "load_model",
    "load_tokenizer",
    "read_config",
    "stop_ids",
]

CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


class _ModelLoader(Protocol):
    def from_pretrained(self, path: str, **options: object) -> tuple[nn.Module, dict[str, Collection[object]]]: ...


class _TokenizerLoader(Protocol):
    def from_pretrained(self, path: str, **options: object) -> Tokenizer: ...


# What every call below is given: nothing is fetched, and code beside a checkpoint stays where it is.
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def check_directory(directory: Path) -> None:
    """Check that `directory` holds a model in safetensors files that can be read.

    Raises:
        CheckpointError: if it does not; the message names the file and says what to do.
    """
    read_config(directory)
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise CheckpointError(
                f"{directory}: weights must be in safetensors files, got {', '.join(pickles[:3])}; reading those could "
                "run code that they hold. Convert them where you trust them, with model.save_pretrained(DIR)"
            )
        raise CheckpointError(
            f"{directory}: there must be a model.safetensors beside {CONFIG}, found no safetensors file"
        )
    index = directory / _INDEX
    if index.exists():
        shards = _read_json(index).get("weight_map")
        names = set(shards.values()) if isinstance(shards, dict) else set()
        missing = sorted(str(name) for name in names if not (directory / str(name)).is_file())
        if missing or not names:
            raise CheckpointError(
                f"{index}: every file of weight_map must be there, missing: {', '.join(missing) or 'all'}"
            )
    for path in files:
        _require_whole(path)


def read_config(directory: Path) -> dict[str, object]:
    """Read `config.json`.

    Raises:
        CheckpointError: if `directory` or the file is not there, or is not a JSON object.
    """
    if not directory.is_dir():
        state = "a file" if directory.exists() else "not there"
        raise CheckpointError(
            f"{directory}: a model is a local directory with {CONFIG} and safetensors; this is {state}"
        )
    if not (directory / CONFIG).is_file():
        raise CheckpointError(f"{directory}: a model directory must have a {CONFIG}, and this has none")
    return _read_json(directory / CONFIG)


def load_model(directory: Path) -> nn.Module:
    """Load the model of a directory in float32, for evaluation.

    Raises:
        CheckpointError: if the directory is not that of a whole, unquantized causal language model.
        UnsupportedError: if transformers is not installed.
    """
    _require_float(directory)
    loader = cast("_ModelLoader", _transformers("AutoModelForCausalLM"))
    try:
        model, report = loader.from_pretrained(str(directory), use_safetensors=True, output_loading_info=True, **_LOCAL)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{directory}: transformers can't load a causal language model from it: {error}"
        ) from error
    # transformers fills these with random numbers and goes on.
    for fault in ("missing_keys", "mismatched_keys"):
        if names := sorted(str(name) for name in report.get(fault, ())):
            raise CheckpointError(
                f"{directory}: the weights must be those that {CONFIG} speaks of; {fault.replace('_', ' ')}: "
                f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            )
    return model.to(torch.float32).eval()


def load_empty(directory: Path) -> nn.Module:
    """Make the model of a directory, of float32 values that stay in its files until something reads them.

    Raises:
        CheckpointError: if the directory is not that of a whole, unquantized model of transformers.
        UnsupportedError: if transformers or accelerate is not installed.
    """
    _require_float(directory)
    return empty_model(directory)


def load_any(directory: Path, *, backend: str | None = None, fallback: str | None = None) -> nn.Module:
    """Load the model of a directory, float, quantized by incref, or in a layout that `load` knows.

    It computes in float32.

    Args:
        directory: of the model.
        backend: what multiplies in quantized layers; see `load`.
        fallback: likewise.

    Raises:
        CheckpointError: as `load` or `load_model` does.
        UnsupportedError: if transformers is not installed; as `load` does for a backend.
    """
    read_config(directory)
    _transformers("AutoModelForCausalLM")
    if (directory / MANIFEST_FILE).is_file():
        return load(directory, backend=backend, fallback=fallback)
    if is_foreign(directory):
        return load(directory, format="huggingface", torch_dtype=torch.float32, backend=backend, fallback=fallback)
    return load_model(directory)


def load_tokenizer(directory: Path) -> Tokenizer:
    """Load the tokenizer of a directory.

    Raises:
        CheckpointError: if there is none that can be read.
        UnsupportedError: if transformers is not installed.
    """
    loader = cast("_TokenizerLoader", _transformers("AutoTokenizer"))
    try:
        return loader.from_pretrained(str(directory), **_LOCAL)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{directory}: the tokenizer of the model must be there (tokenizer.json): {error}"
        ) from error


def stop_ids(directory: Path) -> frozenset[int]:
    """Return the tokens that end a text, as generation_config.json or else config.json has them."""
    for name in ("generation_config.json", CONFIG):
        path = directory / name
        ids = _read_json(path).get("eos_token_id") if path.is_file() else None
        if isinstance(ids, int):
            return frozenset({ids})
        if isinstance(ids, list):
            return frozenset(token for token in ids if isinstance(token, int))
    return frozenset()


def fingerprint(directory: Path) -> str:
    """Return the SHA-256 of all files of a directory: of their names and contents, in the order of the names."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    listing = "".join(f"{path.name}\0{file_digest(path)}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy every file of a model's directory that neither is weights, nor describes them, nor is there already."""
    for path in sorted(source.iterdir()):
        is_weights = path.suffix in {*_PICKLES, ".safetensors", ".gguf", ".h5", ".msgpack", ".onnx"}
        is_description = path.name in {_INDEX, MANIFEST_FILE, *DESCRIPTION_FILES}
        if path.is_file() and not (is_weights or is_description) and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def _require_float(directory: Path) -> None:
    check_directory(directory)
    if (foreign := read_config(directory).get("quantization_config")) is not None:
        method = foreign.get("quant_method") if isinstance(foreign, dict) else foreign
        raise CheckpointError(f"{directory}: the model must have float weights, and is quantized already ({method})")


def _require_whole(path: Path) -> None:
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: the file is not a whole safetensors file ({error}); copy or download it again"
        ) from error


def _transformers(name: str) -> object:
    # The import takes a second, and most commands do without it.
    try:
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            f"Hugging Face models need the package {error.name}, which is not installed: pip install 'incref[hf]'"
        ) from error
    # Its own bars and advice would stand between ours.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    loader: object = getattr(transformers, name)
    return loader


def _read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the file must be JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: the file must hold a JSON object, got {type(value).__name__}")
    return value
