"""`load`: a quantized model from a directory that `save` wrote."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from incref.checkpoints.files import file_digest
from incref.checkpoints.manifest import MANIFEST_FILE, LayerRecord, Manifest
from incref.checkpoints.shards import TensorFiles
from incref.config.rules import Layer
from incref.config.scheme import CAST_DTYPES, InputScheme
from incref.config.stored_weight import stored_shapes
from incref.errors import CheckpointError
from incref.modules.cast import CAST, cast_layer
from incref.modules.replace import disable_fast_paths
from incref.modules.table import QUANTIZED, QUANTIZED_INPUTS, quantized_inputs, quantized_layer
from incref.modules.transformers_attention import ATTENTION, expose_attention
from incref.nn.inputs_only import InputsOnly
from incref.qtensor.qtensor import QTensor
from incref.workflow.bind import bind, is_hpu, resolve_binding, settle, target_device
from incref.workflow.load_huggingface import load_huggingface
from incref.workflow.own_save import give_save
from incref.workflow.save import require_format
from incref.workflow.transformers_model import CONFIG_FILE

__all__ = ["load"]

_WEIGHT = "weight_"
_LISTED = 5


def load(
    model_name_or_path: str | Path,
    original_model: nn.Module | None = None,
    format: str = "default",  # noqa: A002  # the name that callers know
    device: str | torch.device | None = None,
    *,
    torch_dtype: torch.dtype | str | None = None,
    weights_only: bool = False,
    backend: str | None = None,
    fallback: str | None = None,
) -> nn.Module:
    """Read a model that `save` wrote, or a quantized checkpoint of Hugging Face.

    No code that lies in the directory is run, and nothing is unpickled.

    Args:
        model_name_or_path: the directory. For the format "huggingface" also the name of a model on the hub, which is
            fetched if it is not there.
        original_model: a float model of the same structure, also on the meta device; it is not changed. None for
            a model of transformers, which is made of its config.json.
        format: "default" for what `save` writes without another format; "huggingface" for checkpoints with a
            quantization_config of GPTQ (AutoGPTQ and GPTQModel), AWQ or compressed-tensors.
        device: where the tensors are put; "hpu" also where a simulator stands for it. None for what
            INCREF_TARGET_DEVICE or INC_TARGET_DEVICE names in the environment; "cpu" if neither does.
        torch_dtype: format "huggingface" only: what parameters that are not quantized are cast to, and what weights
            dequantize to where nobody says otherwise; "auto" for what config.json says, None for what is stored.
            Scales are never rounded but on device "hpu", where it must be bfloat16 or float32: integer weights are
            repacked for Gaudi there, whose operator rounds scales to it; see `incref.checkpoints.hpu`.
        weights_only: format "huggingface" only: whether inputs are left alone where the checkpoint quantizes them too.
        backend: what multiplies in quantized layers; see `convert`.
        fallback: likewise.

    Returns:
        The model, with every parameter and buffer as it was saved.

    Raises:
        CheckpointError: if files are missing, truncated, changed or of another version, or don't fit `original_model`;
            if they describe something that has no one meaning, or none here.
        UnsupportedError: if a package for models of Hugging Face is not installed; if there is no such device, the
            named backend can't run here, or can't compute a layer and there is no `fallback`.
        ValueError: for another format, another `torch_dtype`, or another device in the environment.
    """
    is_foreign = require_format(format) == "huggingface"
    device = target_device(device) or "cpu"
    binding, place = resolve_binding(backend, fallback, device)
    assert place is not None
    if is_foreign:
        loaded = load_huggingface(
            model_name_or_path,
            original_model,
            place,
            torch_dtype,
            weights_only=weights_only,
            for_hpu=is_hpu(device),
            falls_back=binding.falls_back,
        )
        give_save(loaded)
        return settle(bind(loaded, binding), device)
    if torch_dtype is not None or weights_only:
        raise ValueError('torch_dtype and weights_only are for format="huggingface"; a saved model has what was saved')
    directory = Path(model_name_or_path)
    _require_file(directory, MANIFEST_FILE)
    manifest = Manifest.read(directory / MANIFEST_FILE)
    for file, digest in manifest.digests.items():
        _require_file(directory, file)
        if file_digest(directory / file) != digest:
            raise CheckpointError(
                f"{directory / file} is not the file that {MANIFEST_FILE} describes: it is truncated, was changed "
                "or belongs to another save; copy it again, or save the model again"
            )
    tensors = _read_tensors(directory, manifest, place)
    if original_model is None:
        model = _empty_transformer(directory, manifest).eval()
    else:
        # A copy of the structure alone: every tensor of it is replaced below.
        memo: dict[int, object] = {id(t): t for t in (*original_model.parameters(), *original_model.buffers())}
        model = copy.deepcopy(original_model, memo)
    for name, record in manifest.layers.items():
        _place_layer(model, name, record, tensors)
    for name, fmt in manifest.casts.items():
        _place_cast(model, name, fmt)
    if any(ATTENTION in name.split(".") for name in manifest.inputs):
        expose_attention(model)
    for name, scheme in manifest.inputs.items():
        _place_inputs(model, name, scheme, tensors)
    _place_tensors(model, manifest, tensors)
    disable_fast_paths(model)
    give_save(model)
    return settle(bind(model, binding), device)


def _require_file(directory: Path, file: str) -> None:
    if not (directory / file).is_file():
        raise CheckpointError(f"{directory} has no {file}; give a directory that incref.save wrote")


def _read_tensors(directory: Path, manifest: Manifest, device: str | torch.device) -> dict[str, Tensor]:
    """Read all tensors under all their names; names of one tensor get one object."""
    tensors = TensorFiles.of([directory / file for file in manifest.digests]).read(device=device)
    for name, target in manifest.aliases.items():
        if target not in tensors:
            raise CheckpointError(
                f"{name} is another name of {target}, which {directory} does not have; save the model again"
            )
        tensors[name] = tensors[target]
    return tensors


def _empty_transformer(directory: Path, manifest: Manifest) -> nn.Module:
    """Make the model of transformers that config.json describes, without values."""
    if manifest.architecture is None:
        raise CheckpointError(f"{directory} holds a model that is not of transformers; pass original_model")
    import transformers  # noqa: PLC0415  # an optional dependency

    cls = getattr(transformers, manifest.architecture, None)
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise CheckpointError(f"transformers has no model class {manifest.architecture!r}; pass original_model")
    if not (directory / CONFIG_FILE).is_file():
        raise CheckpointError(f"{directory} has no {CONFIG_FILE}; pass original_model, or save the model again")
    assert cls.config_class is not None
    config = cls.config_class.from_json_file(str(directory / CONFIG_FILE))
    with torch.device("meta"):
        model = cls(config)
    assert isinstance(model, nn.Module)
    return model


def _place_layer(model: nn.Module, name: str, record: LayerRecord, tensors: dict[str, Tensor]) -> None:
    """Put a quantized layer where `model` has a float one."""
    layer = _find_layer(model, name)
    if not isinstance(layer, tuple(QUANTIZED)):
        kinds = " or ".join(kind.__name__ for kind in QUANTIZED)
        raise CheckpointError(f"{name} must be a {kinds}, got {type(layer).__name__}; pass the float model")
    assert isinstance(layer, Layer)
    prefix = f"{name}.{_WEIGHT}"
    parts = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    bias = tensors.get(f"{name}.bias")
    float_bias = getattr(layer, "bias", None)
    if bias is not None and isinstance(float_bias, Tensor):
        bias = nn.Parameter(bias, requires_grad=float_bias.requires_grad)
    try:
        qweight = QTensor.from_tensors(parts, record.weight)
        new = quantized_layer(
            layer,
            qweight,
            bias,
            record.activation,
            elementwise=record.elementwise,
            scale_method=record.scale_method,
            input_scale=tensors.get(f"{name}.input_scale"),
            input_zero_point=tensors.get(f"{name}.input_zero_point"),
            input_factor=tensors.get(f"{name}.input_factor"),
        )
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from error
    if qweight.shape not in stored_shapes(layer):
        raise CheckpointError(
            f"{name}: the saved weight has shape {qweight.shape}, and the model's {tuple(layer.weight.shape)}; "
            "pass the original_model that was quantized"
        )
    _put(model, name, new)


def _place_cast(model: nn.Module, name: str, fmt: str) -> None:
    """Put a layer in a dtype of its own where `model` has one in another."""
    layer = _find_layer(model, name)
    if fmt not in CAST_DTYPES or not isinstance(layer, tuple(CAST)):
        raise CheckpointError(f"{name} can't be a {type(layer).__name__} in {fmt}; pass the float model")
    _put(model, name, cast_layer(layer, CAST_DTYPES[fmt]))


def _find_layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise CheckpointError(f"the model has no layer {name}; pass the original_model that was quantized") from error


def _put(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _place_inputs(model: nn.Module, name: str, scheme: InputScheme, tensors: dict[str, Tensor]) -> None:
    """Put a module that quantizes its inputs where `model` has a float one."""
    module = _find_layer(model, name)
    if not isinstance(module, InputsOnly):
        kinds = " or ".join(kind.__name__ for kind in QUANTIZED_INPUTS)
        raise CheckpointError(f"{name} must be a {kinds}, got {type(module).__name__}; pass the float model")
    scales = {argument: tensors.get(f"{name}.{argument}_scale") for argument in module.arguments}
    given = {argument: scale for argument, scale in scales.items() if scale is not None}
    try:
        new = quantized_inputs(module, scheme, given)
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from error
    _put(model, name, new)


def _place_tensors(model: nn.Module, manifest: Manifest, tensors: dict[str, Tensor]) -> None:
    """Give every parameter and buffer of `model` its value."""
    left = dict(tensors)
    missing: list[str] = []
    parameters: dict[Tensor, nn.Parameter] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for slots in (module._parameters, module._buffers):  # noqa: SLF001  # assigning keeps what copying would convert
            for key, old in slots.items():
                name = f"{prefix}.{key}" if prefix else key
                if old is None:
                    continue
                if name not in tensors:
                    missing.append(name)
                    continue
                new = tensors[name]
                left.pop(name, None)
                if old.shape != new.shape:
                    raise CheckpointError(
                        f"{name}: the saved tensor has shape {tuple(new.shape)}, not {tuple(old.shape)}"
                    )
                if isinstance(old, nn.Parameter):
                    new = parameters.setdefault(new, nn.Parameter(new, requires_grad=old.requires_grad))
                slots[key] = new
    unknown = [name for name in left if name not in manifest.transient]
    for what, names in (("the file has no", missing), ("the model has no", unknown)):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            raise CheckpointError(
                f"{what} {', '.join(sorted(names)[:_LISTED])}{more}; pass the original_model that was quantized"
            )
