"""Loads quantized checkpoints that serving engines read."""

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from incref.checkpoints.foreign import find_codec
from incref.checkpoints.shards import TensorFiles, read_json
from incref.checkpoints.stored import Codec
from incref.config.conv1d import Conv1D
from incref.errors import CheckpointError, UnsupportedError
from incref.modules.layer import QuantLayer
from incref.modules.replace import disable_fast_paths, find_holders, replace_layer
from incref.modules.table import quantized_layer
from incref.numerics.patterns import FLOAT_DTYPES
from incref.qtensor.format_json import Json
from incref.workflow.stored_layers import RepackedLayers, StoredLayers
from incref.workflow.transformers_model import CONFIG_FILE, empty_model

__all__ = ["DESCRIPTION_FILES", "is_foreign", "load_huggingface"]

DESCRIPTION_FILES = ("quantize_config.json", "quant_config.json")
"""Where AutoGPTQ and AutoAWQ describe the quantization of models whose config.json says nothing."""
_HUB_NAME = re.compile(r"[0-9A-Za-z][\w.-]*/[0-9A-Za-z][\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]
_LISTED = 5
_DTYPES = {name: dtype for dtype, name in FLOAT_DTYPES.items()}


def load_huggingface(
    name_or_path: str | Path,
    original_model: nn.Module | None,
    device: str | torch.device,
    torch_dtype: torch.dtype | str | None,
    *,
    weights_only: bool,
    for_hpu: bool = False,
    falls_back: bool = False,
) -> nn.Module:
    """Read a model in a layout of `CheckpointLayout`; for the arguments see `load`.

    `for_hpu` repacks integer weights for Gaudi, or takes them from the file where they are already; with `falls_back`
    those that its operator does not take stay as they are stored.
    """
    directory = _directory(name_or_path)
    described = read_json(directory / CONFIG_FILE) if (directory / CONFIG_FILE).is_file() else {}
    quantization = _quantization(directory, described)
    if quantization is None:
        raise CheckpointError(
            f"{directory}: there is no quantization_config in {CONFIG_FILE}, so the model is not quantized; load it "
            "with transformers and quantize it"
        )
    codec = find_codec(quantization, weights_only=weights_only)
    files = TensorFiles.find(directory)
    model = empty_model(directory) if original_model is None else _copy_structure(original_model)
    dtype = _dtype(torch_dtype, described)
    # They are repacked where integers are at home.
    with files.opened(device) as read, files.opened("cpu" if for_hpu else device) as read_layers:
        layers = _find_layers(model, codec, list(files.files), read_layers)
        if for_hpu:
            layers = RepackedLayers.of(layers, directory, dtype, weights_only=weights_only, falls_back=falls_back)
        placing = _Placing(list(files.files), read, torch.device(device), dtype)
        placing.place_layers(model, layers)
        placing.place_others(model)
    disable_fast_paths(model)
    return model


def is_foreign(directory: Path) -> bool:
    """Whether a directory holds a model that is quantized, but not in incref's own format."""
    described = read_json(directory / CONFIG_FILE) if (directory / CONFIG_FILE).is_file() else {}
    return _quantization(directory, described) is not None


def _directory(name_or_path: str | Path) -> Path:
    """The directory of a model, fetched from the hub if it is not there and its name is one of the hub's."""
    directory = Path(name_or_path)
    if directory.is_dir():
        return directory
    if directory.exists() or not _HUB_NAME.fullmatch(str(name_or_path)):
        raise CheckpointError(f"{directory}: a model is a directory, or a name of the hub such as org/model")
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  # an optional dependency
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            f"Hugging Face models need the package {error.name}, which is not installed: pip install 'incref[hf]'"
        ) from error
    try:
        return Path(snapshot_download(str(name_or_path), allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name_or_path} is no directory here, and the hub does not give it: {error}") from error


def _quantization(directory: Path, described: dict[str, Json]) -> Json:
    if described.get("quantization_config") is not None:
        return described["quantization_config"]
    for file in DESCRIPTION_FILES:
        if (directory / file).is_file():
            found = read_json(directory / file)
            method = "awq" if "w_bit" in found or "q_group_size" in found else "gptq"
            return {"quant_method": method, **found}
    return None


def _dtype(torch_dtype: torch.dtype | str | None, described: dict[str, Json]) -> torch.dtype | None:
    if torch_dtype == "auto":
        torch_dtype = str(described.get("dtype") or described.get("torch_dtype") or "float32")
    if isinstance(torch_dtype, str):
        torch_dtype = _DTYPES.get(torch_dtype.removeprefix("torch."), torch.int8)
    if torch_dtype is not None and torch_dtype not in FLOAT_DTYPES:
        raise ValueError(f'torch_dtype must be "auto" or one of {", ".join(_DTYPES)}')
    return torch_dtype


def _copy_structure(original: nn.Module) -> nn.Module:
    """Copy a model, but for its parameters, which are replaced; buffers may not be in the checkpoint."""
    memo: dict[int, object] = {id(parameter): parameter for parameter in original.parameters()}
    return copy.deepcopy(original, memo)


@dataclass
class _Placing:
    """Puts the tensors of a checkpoint into a model.

    Attributes:
        names: of the tensors.
        read: reads tensors by name.
        device: where they are put.
        dtype: of parameters that are not quantized, and of what weights dequantize to; None for what is stored.
        used: the names that have found their place.
    """

    names: list[str]
    read: Callable[[Sequence[str]], dict[str, Tensor]]
    device: torch.device
    dtype: torch.dtype | None
    used: set[str] = field(default_factory=set)

    def place_layers(self, model: nn.Module, layers: StoredLayers) -> None:
        """Put quantized layers where `model` has float ones."""
        holders = find_holders(model)
        placed: dict[nn.Module, str] = {}
        for name, parts in layers.parts_of.items():
            self.used |= set(parts)
            layer = _find_layer(model, name)
            if layer in placed:
                layers.require_same(name, placed[layer])
                continue
            layer = _require_linear(name, layer)
            bias = layers.read_bias(name)
            _check_bias(name, layer.bias, bias, layers.shapes[name])
            if bias is not None:
                _require_values(f"{name}.bias", bias, layer.weight)
            stored_layer = layers.decode(name)
            scale = stored_layer.input_scale
            new = quantized_layer(
                layer,
                stored_layer.weight.with_dtype(self.dtype or stored_layer.weight.dtype).to(self.device),
                None if bias is None else self._cast(bias).to(self.device),
                stored_layer.activation,
                input_scale=None if scale is None else scale.to(self.device),
            )
            replace_layer(holders, layer, new)
            placed[new] = name
        if not any(isinstance(module, QuantLayer) for module in model.modules()):
            raise CheckpointError("the checkpoint has no quantized layer, though its quantization_config says so")

    def place_others(self, model: nn.Module) -> None:
        """Give all other parameters and buffers their values; buffers that are not saved keep theirs."""
        missing: list[str] = []
        known = set(self.names)
        for names in _slots(model).values():
            stored = [name for name in names if name in known]
            module, key, is_parameter, is_transient = names[next(iter(names))]
            old = module._parameters[key] if is_parameter else module._buffers[key]  # noqa: SLF001  # keeps what copying would convert
            assert old is not None
            if not stored:
                if not is_transient or old.is_meta:
                    missing += [next(iter(names))]
                    continue
                new = old.to(self.device)
            else:
                new = self._value(stored, old)
            if is_parameter:
                new = nn.Parameter(new, requires_grad=old.requires_grad and new.is_floating_point())
            for owner, slot, *_ in names.values():
                (owner._parameters if is_parameter else owner._buffers)[slot] = new  # type: ignore[assignment]  # noqa: SLF001  # likewise
        ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
        unknown = [
            name
            for name in self.names
            if name not in self.used and not any(re.search(expression, name) for expression in ignored)
        ]
        for what, names_ in (("the checkpoint has no", missing), ("the model has no", unknown)):
            if names_:
                more = f" and {len(names_) - _LISTED} more" if len(names_) > _LISTED else ""
                raise CheckpointError(f"{what} {', '.join(sorted(names_)[:_LISTED])}{more}")

    def _value(self, names: list[str], old: Tensor) -> Tensor:
        """Read what takes the place of `old`, under all the names that the checkpoint has it by."""
        found = self._read(names)
        new = found[names[0]]
        for name, tensor in found.items():
            _require_values(name, tensor, old)
        if any(not torch.equal(other, new) for other in found.values()):
            raise CheckpointError(f"{', '.join(names)} are one tensor in the model, and differ in the checkpoint")
        if new.shape != old.shape:
            raise CheckpointError(f"{names[0]}: the stored tensor has shape {tuple(new.shape)}, not {tuple(old.shape)}")
        return self._cast(new)

    def _read(self, names: list[str]) -> dict[str, Tensor]:
        self.used |= set(names)
        return self.read(names)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor if self.dtype is None or not tensor.is_floating_point() else tensor.to(self.dtype)


def _find_layers(
    model: nn.Module, codec: Codec, names: list[str], read: Callable[[Sequence[str]], dict[str, Tensor]]
) -> StoredLayers:
    """Find the quantized layers among tensors with `names`, and their shapes in `model`."""
    parts_of: dict[str, list[str]] = {}
    for key in names:
        parts_of.setdefault(key.rpartition(".")[0], []).append(key)
    found = codec.layers(names)
    shapes = {name: _shape(_require_linear(name, _find_layer(model, name))) for name in found}
    return StoredLayers(codec=codec, parts_of={name: parts_of[name] for name in found}, shapes=shapes, read=read)


_Slot = tuple[nn.Module, str, bool, bool]
"""A module, the name of a tensor in it, whether that is a parameter, and whether it is left out of the state."""


def _slots(model: nn.Module) -> dict[int, dict[str, _Slot]]:
    """Every tensor of `model` that is no part of a quantized layer, with all its names."""
    slots: dict[int, dict[str, _Slot]] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, QuantLayer):
            continue
        for is_parameter, tensors in ((True, module._parameters), (False, module._buffers)):  # noqa: SLF001  # all names, repeated
            for key, tensor in tensors.items():
                if tensor is not None:
                    name = f"{prefix}.{key}" if prefix else key
                    is_transient = key in module._non_persistent_buffers_set  # noqa: SLF001  # no public way
                    slots.setdefault(id(tensor), {})[name] = (module, key, is_parameter, is_transient)
    return slots


def _find_layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise CheckpointError(f"the checkpoint has a quantized layer {name}, and the model has none") from error


def _require_linear(name: str, layer: nn.Module) -> nn.Linear | Conv1D:
    if not isinstance(layer, nn.Linear | Conv1D):
        raise CheckpointError(f"{name} must be a linear layer, got {type(layer).__name__}")
    return layer


def _check_bias(name: str, wanted: Tensor | None, stored: Tensor | None, shape: tuple[int, int]) -> None:
    if (stored is None) != (wanted is None) or (stored is not None and tuple(stored.shape) != shape[:1]):
        raise CheckpointError(
            f"{name}: the model's layer has {'no bias' if wanted is None else f'a bias of {shape[0]} elements'}, and "
            f"the checkpoint has {'none' if stored is None else f'one of shape {tuple(stored.shape)}'}"
        )


def _require_values(name: str, stored: Tensor, wanted: Tensor) -> None:
    """Refuse codes where the model has values: without their scales they mean nothing."""
    if (stored.dtype in FLOAT_DTYPES) != (wanted.dtype in FLOAT_DTYPES):
        raise CheckpointError(
            f"{name}: the model has {wanted.dtype} there, and the checkpoint {stored.dtype}; codes of a quantized "
            "layer need the scales that belong to them"
        )


def _shape(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    """Output and input features."""
    first, second = layer.weight.shape
    return (second, first) if isinstance(layer, Conv1D) else (first, second)
