"""`save`: a quantized model to a directory."""

import dataclasses
import weakref
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from incref.checkpoints.files import atomic_directory, file_digest
from incref.checkpoints.manifest import MANIFEST_FILE, TENSOR_FILE, LayerRecord, Manifest
from incref.modules.cast import CastLayer
from incref.modules.layer import QuantLayer
from incref.modules.quant_inputs import QuantInputs
from incref.workflow.prepare import find_plan

__all__ = ["give_save", "require_default", "save"]


def save(
    model: nn.Module,
    checkpoint_dir: str | Path = "saved_results",
    format: str = "default",  # noqa: A002  # the name that callers know
) -> None:
    """Write `model` to a directory that `load` reads.

    The directory holds `model.safetensors`, with packed codes, scales and every other parameter and buffer, each stored
    once however many names it has; and `incref.json`, which says what they are. For a model of transformers its
    config.json is beside them. A directory that is not there yet appears with all of it at once; in one that is, files
    are replaced, and `load` refuses a mixture. Nothing is pickled.

    Args:
        model: a converted model.
        checkpoint_dir: the directory.
        format: "default".

    Raises:
        ValueError: for another format, or a model that is prepared but not converted.
        NotADirectoryError: if `checkpoint_dir` is a file.
    """
    require_default(format)
    if find_plan(model) is not None:
        raise ValueError("the model is prepared and not converted yet; call convert first")
    tensors, aliases = _unique_tensors(model)
    manifest = Manifest(
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
    )
    with atomic_directory(Path(checkpoint_dir), last=MANIFEST_FILE) as directory:
        path = directory / TENSOR_FILE
        save_file(tensors, path, metadata={"format": "pt"})
        dataclasses.replace(manifest, digest=file_digest(path)).write(directory / MANIFEST_FILE)
        if manifest.architecture is not None:
            _write_configs(model, directory)


class _Save:
    """`save` of one model, as its method. It holds the model weakly, so that one that nothing else holds is freed."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)

    def __call__(
        self,
        checkpoint_dir: str | Path = "saved_results",
        format: str = "default",  # noqa: A002  # the name that callers know
    ) -> None:
        """Write the model to a directory that `load` reads."""
        save(self._held(), checkpoint_dir, format)

    def __reduce__(self) -> tuple[type, tuple[nn.Module]]:
        """Let a copy of the model have a method of its own."""
        return _Save, (self._held(),)

    def _held(self) -> nn.Module:
        model = self._model()
        if model is None:
            raise ReferenceError("nothing holds the model any more; keep it in a variable, or call incref.save")
        return model


def give_save(model: nn.Module) -> None:
    """Make `save` a method of `model`, unless it has one of that name."""
    if not hasattr(model, "save"):
        model.save = _Save(model)  # type: ignore[assignment]  # an ordinary attribute


def require_default(format: str) -> None:  # noqa: A002  # the name that callers know
    """Check the name of a format of directories.

    Raises:
        ValueError: if there is none of that name.
    """
    if format != "default":
        raise ValueError(f'format must be "default", got {format!r}')


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
