"""`save`: a quantized model to a directory."""

from pathlib import Path

import torch
from torch import Tensor, nn

from incref.checkpoints.files import atomic_directory, file_digest
from incref.checkpoints.foreign import CheckpointLayout
from incref.checkpoints.manifest import MANIFEST_FILE, LayerRecord, Manifest
from incref.checkpoints.shards import is_tensor_file, parse_size, write_shards
from incref.errors import UnsupportedError
from incref.modules.cast import CastLayer
from incref.modules.layer import QuantLayer
from incref.modules.quant_inputs import QuantInputs
from incref.modules.stage import stage_of
from incref.numerics.patterns import FLOAT_DTYPES
from incref.workflow.prepare import find_plan
from incref.workflow.save_huggingface import DESCRIPTION_FILE, write_huggingface
from incref.workflow.transformers_model import CONFIG_FILE

__all__ = ["require_format", "save"]

_FORMATS = ("default", "huggingface")


def save(
    model: nn.Module,
    checkpoint_dir: str | Path = "saved_results",
    format: str = "default",  # noqa: A002  # the name that callers know
    *,
    layout: CheckpointLayout | str | None = None,
    max_shard_size: int | str | None = None,
    scale_dtype: torch.dtype | str | None = None,
) -> None:
    """Write `model` to a directory that `load` reads.

    In the format "default" the directory holds `model.safetensors`, with packed codes, scales and every other parameter
    and buffer, each stored once however many names it has; and `incref.json`, which says what they are. For a model of
    transformers its config.json is beside them. In the format "huggingface" it holds what engines read that know
    `layout`, and config.json says how the model is quantized.

    A directory that is not there yet appears with all of it at once; in one that is, files are replaced, those of
    another model are removed, and while that goes on there is no description, so that nothing reads a mixture. Nothing
    is pickled.

    Args:
        model: a converted model.
        checkpoint_dir: the directory.
        format: "default" or "huggingface".
        layout: format "huggingface" only: how quantized layers are stored, a `CheckpointLayout` or its value.
        max_shard_size: the most bytes of a file, a number or a string such as "5GB"; None for a single file.
        scale_dtype: format "huggingface" only: what scales are rounded to, to nearest even, "float16", "bfloat16" or
            "float32". That changes the weights of a model that was not quantized for it. None never rounds: where the
            layout can't hold the scales that is an error.

    Raises:
        CheckpointError: if a layer can't be stored as `layout` says; the message names it. Nothing is written then.
        ValueError: for another format, layout, size or dtype; for a model that is prepared but not converted; or for a
            model that is not of transformers, in the format "huggingface".
        NotADirectoryError: if `checkpoint_dir` is a file.
    """
    is_foreign = require_format(format) == "huggingface"
    shard_size = parse_size(max_shard_size)
    if is_foreign == (layout is None) or (scale_dtype is not None and not is_foreign):
        raise ValueError('layout is for format="huggingface", which needs one; scale_dtype is for that format too')
    if stage_of(model) is not None:
        raise UnsupportedError(
            "a graph is saved by PyTorch: torch.export.save(torch.export.export(model, example_inputs), path)"
        )
    if find_plan(model) is not None:
        raise ValueError("the model is prepared and not converted yet; call convert first")
    if is_foreign and _architecture(model) is None:
        raise ValueError(f"only models of transformers have these layouts, got {type(model).__name__}")
    narrow = None if scale_dtype is None else _scale_dtype(scale_dtype)
    last = CONFIG_FILE if is_foreign else MANIFEST_FILE
    with atomic_directory(Path(checkpoint_dir), last=last, is_obsolete=_is_ours) as directory:
        if _architecture(model) is not None:
            _write_configs(model, directory)
        if is_foreign:
            write_huggingface(
                model,
                directory,
                _state(model),
                layout=CheckpointLayout(layout),
                max_shard_size=shard_size,
                scale_dtype=narrow,
            )
        else:
            tensors, aliases = _unique_tensors(model)
            files = write_shards(tensors, directory, shard_size)
            digests = {file: file_digest(directory / file) for file in files}
            _manifest(model, aliases, digests).write(directory / MANIFEST_FILE)


def _manifest(model: nn.Module, aliases: dict[str, str], digests: dict[str, str]) -> Manifest:
    return Manifest(
        layers={
            name: LayerRecord(
                weight=module.qweight.metadata(),
                activation=module.activation,
                elementwise=module.elementwise,
                scale_method=module.scale_method,
            )
            for name, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, QuantLayer)
        },
        casts={
            name: str(module.weight.dtype).removeprefix("torch.")
            for name, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, CastLayer)
        },
        inputs={
            name: module.scheme
            for name, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, QuantInputs)
        },
        aliases=aliases,
        transient=_transient_buffers(model),
        architecture=_architecture(model),
        digests=digests,
    )


def _state(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of transformers holds: tensors under all names but those that it ties or does not save."""
    tensors, aliases = _unique_tensors(model)
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    tensors |= {name: tensors[target] for name, target in aliases.items() if name not in tied}
    transient = _transient_buffers(model)
    return {name: tensor for name, tensor in tensors.items() if name not in transient}


def _is_ours(name: str) -> bool:
    """Whether a file of a model's directory describes or holds weights."""
    return is_tensor_file(name) or name in (MANIFEST_FILE, DESCRIPTION_FILE)


def _scale_dtype(dtype: torch.dtype | str) -> torch.dtype:
    known = {name: known for known, name in FLOAT_DTYPES.items() if known is not torch.float64}
    found = known.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"scale_dtype must be one of {', '.join(known)}, got {dtype!r}")
    return found


def require_format(format: str) -> str:  # noqa: A002  # the name that callers know
    """Check the name of a format of directories, and return it.

    Raises:
        ValueError: if there is none of that name.
    """
    if format not in _FORMATS:
        raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got {format!r}")
    return format


def _unique_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Give each tensor of `model` by its first name, and the other names with that one."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[object, str] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):  # noqa: SLF001  # all names, repeated
            if tensor is None:
                continue
            full = f"{prefix}.{name}" if prefix else name
            known = first.setdefault(_identity(tensor), full)
            if known == full:
                tensors[full] = tensor.detach().cpu().contiguous()
            else:
                aliases[full] = known
    return tensors, aliases


def _identity(tensor: Tensor) -> object:
    """What two tensors have in common that are the same memory, read the same way."""
    if tensor.numel() == 0 or tensor.is_meta:
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _transient_buffers(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules(remove_duplicate=False)
        for name in sorted(module._non_persistent_buffers_set)  # noqa: SLF001  # no public way
    )


def _architecture(model: nn.Module) -> str | None:
    is_from_transformers = type(model).__module__.startswith("transformers.")
    return type(model).__name__ if is_from_transformers and hasattr(model, "config") else None


def _write_configs(model: nn.Module, directory: Path) -> None:
    for attribute, file in (("config", "config.json"), ("generation_config", "generation_config.json")):
        config = getattr(model, attribute, None)
        if config is not None:
            config.to_json_file(directory / file)
