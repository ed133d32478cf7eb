"""Products of matrices, plain and block-scaled."""

import torch
import triton.language as tl
from torch import Tensor

from benchmarks.triton_native.language import product_kernels as kernels
from benchmarks.triton_native.language.row import Launch, Row
from benchmarks.triton_native.language.values import BITS8, DTYPES, array, differ, empty, integers
from incref.ops import decode, encode

__all__ = ["ROWS"]

_OUT = {"int32": tl.int32, "float16": tl.float16, "float32": tl.float32, "float64": tl.float64}
# Rows, columns, depth: the least that the language takes, a tile of each MFMA, and several.
_SHAPES = ((16, 16, 32), (32, 32, 64), (64, 128, 64))


def _dot(dtype: str, out: str, precision: str, shape: tuple[int, int, int]) -> Row:
    def wrong(launch: Launch) -> int:
        m, n, k = shape
        # Small integers: exact in every order, and in tf32.
        a, b = (
            integers(dtype, -4 if dtype != "uint8" else 0, 5, (m, k), seed=5),
            integers(dtype, -4 if dtype != "uint8" else 0, 5, (k, n), seed=6),
        )
        got = empty(out, m, n)
        launch(kernels.dot_kernel, 1, a, b, got, M=m, N=n, K=k, OUT=_OUT[out], PRECISION=precision)
        product = array(a).astype("float64") @ array(b).astype("float64") * 2
        return differ(got, product.astype(array(got).dtype))

    size = "x".join(map(str, shape))
    name = f"dot {size} in {out}" + (f", {precision}" if precision != "ieee" else "")
    return Row(group="product", operation=name, dtype=dtype, wrong=wrong)


_SIZE = 128
# By the name in `tl.dot_scaled`: the format of an element, and how many a byte holds.
_ELEMENTS = {"e4m3": ("float8_e4m3fn", 1), "e5m2": ("float8_e5m2", 1), "e2m1": ("float4_e2m1fn", 2)}


def _operand(name: str, seed: int) -> tuple[Tensor, Tensor]:
    """A matrix as it is stored, and its values."""
    generator = torch.Generator().manual_seed(seed)
    if name in {"bf16", "fp16"}:
        values = torch.randint(-4, 5, (_SIZE, _SIZE), generator=generator).to(
            torch.bfloat16 if name == "bf16" else torch.float16
        )
        return values, values.double()
    fmt, per_byte = _ELEMENTS[name]
    if per_byte == 2:
        codes = torch.randint(0, 16, (_SIZE, _SIZE), generator=generator).to(torch.uint8)
        return codes[:, ::2] | codes[:, 1::2] << 4, decode(codes, fmt).double()
    values = torch.randint(-4, 5, (_SIZE, _SIZE), generator=generator).to(torch.float32)
    stored = values.to(DTYPES[fmt])
    return stored, values.double()


def _scales(kind: str, seed: int) -> tuple[Tensor, Tensor, int]:
    """Scales near 1 as they are stored, their values, and how many elements share one."""
    generator = torch.Generator().manual_seed(seed)
    group = 32 if kind == "e8m0" else 16
    powers = torch.randint(-2, 3, (_SIZE, _SIZE // group), generator=generator)
    values = torch.exp2(powers.double())
    if kind == "e8m0":
        return (powers + 127).to(torch.uint8), values, group
    return encode(values, "e4m3fn").view(torch.float8_e4m3fn), values, group


def _dot_scaled(left: str, right: str, kind: str, *, title: str) -> Row:
    def wrong(launch: Launch) -> int:
        (a, a_values), (b, b_values) = _operand(left, 8), _operand(right, 9)
        a_scale, a_factor, group = _scales(kind, 10)
        b_scale, b_factor, _ = _scales(kind, 11)
        is_plain = left in {"bf16", "fp16"}
        wide = a_values if is_plain else a_values * a_factor.repeat_interleave(group, 1)
        want = wide @ (b_values * b_factor.repeat_interleave(group, 1)).T
        got = empty("float32", _SIZE, _SIZE)
        per_byte = [_ELEMENTS[name][1] if name in _ELEMENTS else 1 for name in (left, right)]
        launch(
            kernels.dot_scaled_kernel, 1, a, None if is_plain else a_scale, b, b_scale, got,
            S=_SIZE, A=left, B=right, A_PER_BYTE=per_byte[0], B_PER_BYTE=per_byte[1], GROUP=group,
        )  # fmt: skip
        return differ(got, array(want.float()))

    return Row(group="product", operation="dot_scaled", dtype=title, wrong=wrong)


ROWS = [
    *(_dot(dtype, out, "ieee", shape) for shape in _SHAPES for dtype, out in (
        ("int8", "int32"), ("uint8", "int32"), ("float16", "float16"), ("float16", "float32"), ("bfloat16", "float32"),
        ("float32", "float32"), ("float64", "float64"), *((name, "float32") for name in BITS8),
    )),
    *(_dot("float32", "float32", precision, _SHAPES[1]) for precision in ("tf32", "tf32x3", "bf16x3", "bf16x6")),
    _dot_scaled("e4m3", "e4m3", "e8m0", title="MXFP8 E4M3"),
    _dot_scaled("e5m2", "e5m2", "e8m0", title="MXFP8 E5M2"),
    _dot_scaled("e2m1", "e2m1", "e8m0", title="MXFP4"),
    _dot_scaled("e4m3", "e2m1", "e8m0", title="MXFP8 E4M3 by MXFP4"),
    _dot_scaled("bf16", "e2m1", "e8m0", title="bfloat16 by MXFP4"),
    _dot_scaled("fp16", "e4m3", "e8m0", title="float16 by MXFP8 E4M3"),
    _dot_scaled("e2m1", "e2m1", "e4m3", title="NVFP4"),
]  # fmt: skip
