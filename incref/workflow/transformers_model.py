"""Models of transformers that have their structure, but no values yet."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from incref.errors import CheckpointError, UnsupportedError

__all__ = ["CONFIG_FILE", "empty_model"]

CONFIG_FILE = "config.json"
_GENERATION_FILE = "generation_config.json"


class _Config(Protocol):
    architectures: list[str] | None
    quantization_config: object


class _ConfigLoader(Protocol):
    def from_pretrained(self, path: str, **options: object) -> _Config: ...


class _Tied(Protocol):
    def tie_weights(self) -> None: ...


class _EmptyWeights(Protocol):
    def __call__(self, *, include_buffers: bool) -> "torch.no_grad": ...


class _WithoutFills(TorchFunctionMode):
    """Leaves out the random numbers that layers are made with, since they are replaced."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func in (Tensor.uniform_, Tensor.normal_):
            return args[0]
        return func(*args, **(kwargs or {}))


def empty_model(directory: Path) -> nn.Module:
    """Make the model that config.json describes: parameters on the meta device, buffers with their values.

    No code that lies in the directory is run.

    Raises:
        CheckpointError: if there is no config.json, or transformers knows no such model.
        UnsupportedError: if transformers or accelerate is not installed.
    """
    if not (directory / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"{directory} has no {CONFIG_FILE}; give the directory of a model, or pass original_model"
        )
    transformers = _import("transformers")
    loader = cast("_ConfigLoader", transformers.AutoConfig)
    try:
        config = loader.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{directory / CONFIG_FILE}: transformers can't read it: {error}") from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    name = str((config.architectures or [""])[0])
    cls = getattr(transformers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise CheckpointError(f"transformers has no model class {name!r}; pass original_model")
    empty = cast("_EmptyWeights", _import("accelerate").init_empty_weights)
    with empty(include_buffers=False), _WithoutFills():
        model = cls(config)
    assert isinstance(model, nn.Module)
    cast("_Tied", model).tie_weights()
    if (directory / _GENERATION_FILE).is_file() and hasattr(model, "generation_config"):
        model.generation_config = transformers.GenerationConfig.from_pretrained(str(directory), local_files_only=True)
    return model.eval()


def _import(name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  # an optional package, untyped
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            f"Hugging Face models need the package {error.name}, which is not installed: pip install 'incref[hf]'"
        ) from error
