"""What torchao and Triton's own kernels do in the place of a row of the benchmarks on a GPU, where they are installed.

They round otherwise, or find other scales, so only their time stands beside ours. Triton's own kernels are the package
`triton_kernels` of its repository; what has that name on PyPI is another.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

__all__ = ["peer_versions", "peers_of_product", "peers_of_quantization"]

_Call = Callable[[], object]

_BLOCK = 32
_EXTENT = 128
_FP8 = torch.float8_e4m3fn
_ELEMENTS = {"mxfp8_e4m3": _FP8, "mxfp8_e5m2": torch.float8_e5m2, "mxfp4": torch.uint8}
"""What `triton_kernels` calls the elements of a format; two of four bits are in a byte."""


def peer_versions() -> dict[str, str]:
    """Give the versions of those that are installed."""
    return {name: version(name) for name in ("torchao", "triton_kernels") if find_spec(name)}


def peers_of_quantization(name: str, args: Sequence[object], options: dict[str, object]) -> Iterator[tuple[str, _Call]]:
    """Give what is installed and does the like of an operation on a tensor.

    Args:
        name: of the row: the operation, and for scaled floats the granularity last.
        args: of the operation, positional.
        options: the others.

    Yields:
        A library, and the call that is timed.
    """
    x = args[0]
    if not isinstance(x, Tensor):
        return
    op, _, title = name.partition(" ")
    blockwise = _module("torchao.kernel.blockwise_quantization")
    if blockwise and op == "quantize_float" and title.endswith("1x128"):
        yield "torchao", partial(blockwise.fp8_blockwise_act_quant, x, _EXTENT, _FP8)
    if blockwise and op == "quantize_float" and title.endswith("128x128"):
        yield "torchao", partial(blockwise.fp8_blockwise_weight_quant, x, _EXTENT, _FP8)
    if blockwise and op == "dequantize_float" and title.endswith("128x128"):
        yield "torchao", partial(blockwise.fp8_blockwise_weight_dequant, x.view(_FP8), args[1], _EXTENT)
    if op == "quantize_mx":
        fmt, axis = title.split(" ")[0], options["axis"]
        tensors, kernels = (
            _module("torchao.prototype.mx_formats.mx_tensor"),
            _module("torchao.prototype.mx_formats.kernels"),
        )
        if tensors and fmt == "mxfp8_e4m3" and axis == -1:
            yield "torchao", partial(torch.compile(tensors.to_mx, fullgraph=True, dynamic=False), x, _FP8, _BLOCK)
        if kernels and fmt == "mxfp8_e4m3" and axis == 0 and hasattr(kernels, "triton_to_mxfp8_dim1"):
            yield "torchao", partial(kernels.triton_to_mxfp8_dim1, x, _BLOCK, "floor")
        if (own := _module("triton_kernels.numerics_details.mxfp")) and fmt in _ELEMENTS:
            yield "triton_kernels", partial(own.downcast_to_mxfp, x, _ELEMENTS[fmt], axis)


def peers_of_product(name: str, args: Sequence[object]) -> Iterator[tuple[str, _Call]]:
    """Give what is installed and does the like of a product of matrices.

    Args:
        name: of the row: the operation, the kind of its scales or weight, and the rows of `x` last.
        args: of the operation, positional.

    Yields:
        A library, and the call that is timed.
    """
    op, *how, _rows = name.split(" ")
    x, w, *scales = (each for each in args if isinstance(each, Tensor))
    blockwise, integers = _module("torchao.kernel.blockwise_quantization"), _module("torchao.kernel.intmm")
    if blockwise and op == "fp8_matmul" and how == ["1x128", "128x128"]:
        yield (
            "torchao",
            partial(blockwise.blockwise_fp8_gemm, x.view(_FP8), scales[0], w.view(_FP8), scales[1], _EXTENT),
        )
    if integers and op == "int8_matmul":
        # It has scales of the rows of `x` alone.
        yield "torchao", partial(integers.int_scaled_matmul, x, w.T, scales[0])


def _module(name: str) -> ModuleType | None:
    """Import a module; None if it, or what it needs, is not there."""
    try:
        return import_module(name)
    except ImportError:
        return None
