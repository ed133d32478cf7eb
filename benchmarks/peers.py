"""The same conversions by other packages, where they are installed."""

import contextlib
import logging
import warnings
from collections.abc import Callable
from importlib import import_module, util
from importlib.metadata import version

import torch
from torch import Tensor

__all__ = ["peer_functions", "peer_versions"]

_ML_DTYPES = {
    "float8_e4m3fn": "float8_e4m3fn",
    "float8_e5m2": "float8_e5m2",
    "float8_e4m3fnuz": "float8_e4m3fnuz",
    "float6_e2m3fn": "float6_e2m3fn",
    "float6_e3m2fn": "float6_e3m2fn",
    "float4_e2m1fn": "float4_e2m1fn",
    "float8_e8m0fnu": "float8_e8m0fnu",
}
_TORCHAO: dict[str, torch.dtype | str] = {
    "mxfp8_e4m3": torch.float8_e4m3fn,
    "mxfp8_e5m2": torch.float8_e5m2,
    "mxfp6_e2m3": "fp6_e2m3",
    "mxfp6_e3m2": "fp6_e3m2",
}


def peer_versions() -> dict[str, str]:
    """Installed peers with their versions."""
    return {name: version(name) for name in ("ml_dtypes", "torchao") if util.find_spec(name)}


def peer_functions(x: Tensor, fmt: str) -> dict[str, Callable[[], object]]:
    """Quantize-and-dequantize of `x` to `fmt`, by the name of each peer that has it."""
    found: dict[str, Callable[[], object]] = {}
    if fmt in _ML_DTYPES and util.find_spec("ml_dtypes"):
        dtype = getattr(import_module("ml_dtypes"), _ML_DTYPES[fmt])
        array = x.numpy()
        found["ml_dtypes"] = lambda: array.astype(dtype).astype(array.dtype)
    if util.find_spec("torchao") and (fmt in _TORCHAO or (fmt == "mxfp4" and hasattr(torch, "float4_e2m1fn_x2"))):
        element = _TORCHAO.get(fmt) or torch.float4_e2m1fn_x2
        logging.disable(logging.WARNING)
        with warnings.catch_warnings(), contextlib.suppress(ImportError):
            warnings.simplefilter("ignore")
            mx = import_module("torchao.prototype.mx_formats.mx_tensor").MXTensor
            found["torchao"] = lambda: mx.to_mx(x, element, 32).dequantize(x.dtype)
        logging.disable(logging.NOTSET)
    return found
