"""Kernels of gemlite."""

import importlib
from functools import partial

import torch
from torch import Tensor

from benchmarks.triton_native.public.case import Case, Function, draw

__all__ = ["GEMLITE"]

_IN, _OUT, _GROUP, _BITS = 256, 256, 64, 4


def _integers(*shape: int, most: int) -> Tensor:
    return torch.randint(0, most, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


_CODES = _integers(_OUT, _IN, most=1 << _BITS)
_SCALES = (draw(_CODES.numel() // _GROUP, 1, seed=2).abs() + 0.1).half()
_ZEROS = _integers(*_SCALES.shape, most=1 << _BITS).half()


def _product(kind: str, x: Tensor) -> Tensor:
    from gemlite import DType, GemLiteLinear  # noqa: PLC0415  # an optional package

    linear = GemLiteLinear(
        W_nbits=_BITS,
        group_size=_GROUP,
        in_features=_IN,
        out_features=_OUT,
        input_dtype=DType.FP16,
        output_dtype=DType.FP16,
    )
    linear.pack(_CODES, _SCALES, _ZEROS, None)
    found: Tensor = linear.forward_manual(x, kind)
    return found


def _product_reference(x: Tensor) -> Tensor:
    grouped = _CODES.to(x.dtype).view(-1, _GROUP)
    return x @ ((grouped - _ZEROS.to(x.dtype)) * _SCALES.to(x.dtype)).view(_OUT, _IN).T


def _quantize(name: str, *more: object) -> Function:
    def call(x: Tensor) -> object:
        return getattr(importlib.import_module("gemlite.quant_utils"), f"scale_activations_{name}")(x, *more)

    return call


def _rows_of(name: str, rows: int, *more: object) -> Function:
    """Likewise; scales beyond `rows` pad a tile and hold nothing, codes of four bits are two a byte."""

    def call(x: Tensor) -> tuple[Tensor, Tensor]:
        codes, scales, *_ = _quantize(name, *more)(x.half())
        return codes.view(torch.uint8), scales[:rows].view(torch.uint8)

    return call


def _pack(way: str, codes: Tensor) -> Tensor:
    module = importlib.import_module("gemlite.bitpack")
    found: Tensor = getattr(module, f"pack_weights_over_cols_{way}")(codes.to(torch.uint8), _BITS, 32, False)[0]  # noqa: FBT003  # its fourth argument
    return found


_X, _E4M3 = draw(48, _IN), torch.float8_e4m3fn


def _only_values(launch: Function, reference: Function, x: Tensor = _X) -> Case:
    return Case(launch, reference, [x], has_gradient=False)


GEMLITE: dict[str, Case] = {
    **{
        f"gemlite {kind}, 4 bits by float16": _only_values(
            partial(_product, kind), _product_reference, draw(rows, _IN).half()
        )
        for kind, rows in (("GEMM", 48), ("GEMM_SPLITK", 16), ("GEMV_SPLITK", 1), ("GEMV_REVSPLITK", 1), ("GEMV", 1))
    },
    **{
        f"gemlite {name} of rows, version {version}": _only_values(
            _quantize(f"per_token_triton_v{version}", dtype),
            lambda x, dtype=dtype: _quantize("per_token_torch", dtype)(x.float()),
        )
        for version, dtype, name in ((1, torch.int8, "int8"), (3, _E4M3, "FP8"), (4, _E4M3, "FP8"))
    },
    **{
        f"gemlite FP8 of blocks, version {version}": _only_values(
            _quantize(f"per_block_triton_v{version}", _E4M3),
            lambda x: _quantize("per_block_torch", _E4M3)(x.float()),
        )
        for version in (1, 2)
    },
    **{
        f"gemlite MXFP8, version {version}": _only_values(
            _rows_of(f"mxfp8_triton_v{version}", len(_X), _E4M3), _rows_of("mxfp8_torch", len(_X), _E4M3)
        )
        for version in (1, 2, 3)
    },
    **{
        f"gemlite {format_.upper()}": _only_values(
            _rows_of(f"{format_}_triton", len(_X)), _rows_of(f"{format_}_torch", len(_X))
        )
        for format_ in ("mxfp4", "nvfp4")
    },
    "gemlite words of codes": _only_values(
        partial(_pack, "triton"), partial(_pack, "torch"), _integers(64, 128, most=16).float()
    ),
}
