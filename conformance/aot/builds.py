"""Calls of operations that launch every kernel in its shipped configurations; nothing runs, so values don't matter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from incref.formats import FORMATS, BlockFormat, IntFormat, NanRule
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TOKEN, Granularity, per_block, per_group
from incref.numerics.packing import word_dtype
from incref_kernels.triton import (
    compute_scale,
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    fp8_matmul,
    gptq_update,
    int8_matmul,
    mx_matmul,
    pack,
    quantize_affine,
    quantize_float,
    quantize_mx,
    weight_only_matmul,
)
from incref_kernels.triton.targets import Factors, Target

__all__ = ["Build", "builds"]

_SIZE = 1024
_N = _K = 4096
_EXPERTS = 8
_BLOCK = FORMATS["mxfp8_e4m3"].block_size  # type: ignore[union-attr]
_ROWS = (5, 40, 130)
"""Rows of `x`: few, some and many, each with a tile of its own."""
_ROWS_BETWEEN = 100
"""Rows for which Hopper has one more tile for weights alone."""
_ROWS_OF_FLOATS = 4096
"""Rows for which a weight is written as floats first."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """A call that launches kernels.

    Attributes:
        name: of the row in the table.
        call: what is recorded.
        products: the kind of its products: "int8", "half", "fp8", "blocks" that are scaled, or "single" where they are
            fused sums of float32; None if it has none.
        is_streaming: whether what it reads or writes lies side by side.
        why_not: the reason why a target does not run it, or None.
    """

    name: str
    call: Callable[[], object]
    products: str | None = None
    is_streaming: bool = True
    why_not: Callable[[Target], str | None] = lambda _target: None


def _codes(fmt_name: str, *shape: int) -> Tensor:
    fmt = FORMATS[fmt_name]
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return torch.zeros(*shape, dtype=code_dtype(element))


def _why_not_fp8(fmt: str) -> Callable[[Target], str | None]:
    """Say why a target multiplies codes as bfloat16 instead."""

    def why_not(target: Target) -> str | None:
        return None if fmt in target.fp8 else f"no matrix unit for {fmt}: it is multiplied as bfloat16"

    return why_not


def _why_not_blocks(target: Target) -> str | None:
    return None if target.scales_blocks else "no matrix unit that scales blocks: they are multiplied as bfloat16"


def _int8_products() -> Iterator[Build]:
    options = {"x_granularity": PER_TOKEN, "w_granularity": PER_TOKEN, "dtype": torch.bfloat16}
    for rows in _ROWS:
        x, w = _codes("int8", rows, _K), _codes("int8", _N, _K)
        scales = (torch.ones(rows, 1), torch.ones(_N, 1))
        call = partial(int8_matmul.int8_matmul, x, w, *scales, **options)  # type: ignore[arg-type]
        yield Build(name=f"int8_matmul, {rows} rows", call=call, products="int8")
    zero = torch.zeros(_ROWS[1], 1, dtype=torch.int32)
    x, w = torch.zeros(_ROWS[1], _K, dtype=torch.uint8), _codes("int8", _N, _K)
    asymmetric = partial(int8_matmul.int8_matmul, x, w, torch.ones(_ROWS[1], 1), torch.ones(_N, 1), x_zero_point=zero)
    call = partial(asymmetric, **options)  # type: ignore[arg-type]
    yield Build(name=f"int8_matmul uint8 with zero points, {_ROWS[1]} rows", call=call, products="int8")


def _fp8_products() -> Iterator[Build]:
    scalings: dict[str, tuple[Granularity, Granularity]] = {
        "per token": (PER_TOKEN, PER_TOKEN),
        "1x128 by 128x128": (per_group(128), per_block((128, 128))),
    }
    for name, (left, right) in scalings.items():
        for rows in _ROWS if left == PER_TOKEN else _ROWS[1:]:
            for factors in (Factors.CODES, Factors.BFLOAT16):
                kinds = ("float8_e4m3fn", "float8_e4m3fnuz") if factors is Factors.CODES else ("float8_e4m3fn",)
                for fmt in kinds:
                    x, w = _codes(fmt, rows, _K), _codes(fmt, _N, _K)
                    call = partial(
                        fp8_matmul.fp8_matmul,
                        x,
                        w,
                        torch.ones(left.scale_shape(x.shape)),
                        torch.ones(right.scale_shape(w.shape)),
                        x_fmt=fmt,
                        w_fmt=fmt,
                        x_granularity=left,
                        w_granularity=right,
                        dtype=torch.bfloat16,
                        factors=factors,
                    )
                    is_coded = factors is Factors.CODES
                    yield Build(
                        name=f"fp8_matmul {fmt if is_coded else 'as bfloat16'} {name}, {rows} rows",
                        call=call,
                        products="fp8" if is_coded else "half",
                        **({"why_not": _why_not_fp8(fmt)} if is_coded else {}),  # type: ignore[arg-type]
                    )


def _weight_only_products() -> Iterator[Build]:
    group = per_group(128)
    for rows in (*_ROWS, _ROWS_BETWEEN, _ROWS_OF_FLOATS):
        yield _weight_only(rows, "int4", PackLayout.BYTES, group, torch.bfloat16)
    for fmt, packed in (
        ("int8", None),
        ("float8_e4m3fn", None),
        ("mxfp4", None),
        ("nvfp4", None),
        ("uint4", PackLayout.INT32),
        ("uint2", PackLayout.BYTES),
    ):
        yield _weight_only(_ROWS[0], fmt, packed, group, torch.bfloat16)
    for rows in _ROWS[:2]:
        yield _weight_only(rows, "int8", None, PER_TOKEN, torch.float32)


def _weight_only(rows: int, fmt: str, packed: PackLayout | None, granularity: Granularity, dtype: torch.dtype) -> Build:
    kind = FORMATS[fmt]
    x, w = torch.zeros(rows, _K, dtype=dtype), _codes(fmt, _N, _K)
    if packed is not None:
        assert isinstance(kind, IntFormat)
        words = LAYOUTS[packed].num_words(kind.bits, _K)
        w = torch.zeros(_N, words, dtype=word_dtype(LAYOUTS[packed]))
    options: dict[str, object] = {"granularity": granularity, "packed": packed}
    scale = torch.ones(granularity.scale_shape((_N, _K)))
    if isinstance(kind, BlockFormat):
        options = {"tensor_scale": torch.ones(()) if kind.has_tensor_scale else None}
        scale = torch.zeros(_N, _K // kind.block_size, dtype=torch.uint8)
    call = partial(weight_only_matmul.weight_only_matmul, x, w, scale, fmt, **options)  # type: ignore[arg-type]
    how = f"{fmt}{'' if packed is None else f' in {packed.value}'}"
    is_half = dtype is not torch.float32
    name = f"weight_only_matmul {how}{'' if is_half else ' by float32'}, {rows} rows"
    return Build(name=name, call=call, products="half" if is_half else "single")


def _mx_products() -> Iterator[Build]:
    for rows in _ROWS:
        for fmt in ("mxfp8_e4m3", "mxfp4", "nvfp4") if rows == _ROWS[0] else ("mxfp8_e4m3",):
            kind = FORMATS[fmt]
            assert isinstance(kind, BlockFormat)
            whole = torch.ones(()) if kind.has_tensor_scale else None
            call = partial(
                mx_matmul.mx_matmul,
                _codes(fmt, rows, _K),
                _codes(fmt, _N, _K),
                torch.zeros(rows, _K // kind.block_size, dtype=torch.uint8),
                torch.zeros(_N, _K // kind.block_size, dtype=torch.uint8),
                x_fmt=fmt,
                w_fmt=fmt,
                x_tensor_scale=whole,
                w_tensor_scale=whole,
                dtype=torch.bfloat16,
            )
            yield Build(name=f"mx_matmul {fmt}, {rows} rows", call=call, products="half")
            if not kind.has_tensor_scale:
                yield Build(
                    name=f"mx_matmul {fmt} with scaled blocks, {rows} rows",
                    call=partial(call, factors=Factors.BLOCKS),
                    products="blocks",
                    why_not=_why_not_blocks,
                )


def _grouped_products() -> Iterator[Build]:
    """Products of experts, which have as many rows each."""
    for rows in (_ROWS[0], _ROWS[-1]):
        ends = torch.arange(1, _EXPERTS + 1, dtype=torch.int32) * rows
        how, total = f"{_EXPERTS} experts of {rows} rows", _EXPERTS * rows
        x, w = _codes("float8_e4m3fn", total, _K), _codes("float8_e4m3fn", _EXPERTS, _N, _K)
        scales = (torch.ones(total, 1), torch.ones(_EXPERTS, _N, 1))
        for factors in (Factors.CODES, Factors.BFLOAT16):
            is_coded = factors is Factors.CODES
            call = partial(
                fp8_matmul.fp8_matmul,
                x,
                w,
                *scales,
                x_fmt="float8_e4m3fn",
                w_fmt="float8_e4m3fn",
                x_granularity=PER_TOKEN,
                w_granularity=PER_TOKEN,
                dtype=torch.bfloat16,
                factors=factors,
                ends=ends,
            )
            yield Build(
                name=f"fp8_matmul {'float8_e4m3fn' if is_coded else 'as bfloat16'} per token, {how}",
                call=call,
                products="fp8" if is_coded else "half",
                **({"why_not": _why_not_fp8("float8_e4m3fn")} if is_coded else {}),  # type: ignore[arg-type]
            )
        half, group = torch.zeros(total, _K, dtype=torch.bfloat16), per_group(128)
        words = torch.zeros(_EXPERTS, _N, LAYOUTS[PackLayout.BYTES].num_words(4, _K), dtype=torch.uint8)
        scale = torch.ones(_EXPERTS, *group.scale_shape((_N, _K)))
        four = partial(weight_only_matmul.weight_only_matmul, half, words, scale, "int4", ends=ends)
        call = partial(four, granularity=group, packed=PackLayout.BYTES)
        yield Build(name=f"weight_only_matmul int4 in bytes, {how}", call=call, products="half")
        blocks = [torch.zeros(*shape, _K // _BLOCK, dtype=torch.uint8) for shape in ((total,), (_EXPERTS, _N))]
        eight = partial(mx_matmul.mx_matmul, x, w, *blocks, x_fmt="mxfp8_e4m3", w_fmt="mxfp8_e4m3", ends=ends)
        call = partial(eight, dtype=torch.bfloat16)
        yield Build(name=f"mx_matmul mxfp8_e4m3, {how}", call=call, products="half")
        yield Build(
            name=f"mx_matmul mxfp8_e4m3 with scaled blocks, {how}",
            call=partial(call, factors=Factors.BLOCKS),
            products="blocks",
            why_not=_why_not_blocks,
        )


def _conversions(dtype: torch.dtype) -> Iterator[Build]:
    kind, x = str(dtype).removeprefix("torch."), torch.zeros(_SIZE, _SIZE, dtype=dtype)
    for fmt in ("float8_e4m3fn", "float4_e2m1fn"):
        codes = _codes(fmt, _SIZE, _SIZE)
        yield Build(name=f"encode {fmt} from {kind}", call=partial(encode.encode, x, fmt, nan=NanRule.MAX))
        yield Build(name=f"decode {fmt} to {kind}", call=partial(decode.decode, codes, fmt, dtype=dtype))
    whole, token = torch.ones(()), torch.ones(_SIZE, 1)
    int8, zero = _codes("int8", _SIZE, _SIZE), torch.zeros(_SIZE, 1, dtype=torch.int32)
    shared, back = {"nan": NanRule.ZERO}, {"granularity": PER_TOKEN, "dtype": dtype}
    to_float = partial(quantize_float.quantize_float, x, "float8_e4m3fn")
    to_integer = partial(quantize_affine.quantize_affine, x, **shared)  # type: ignore[arg-type]
    calls: dict[str, Callable[[], object]] = {
        "quantize_float per tensor, by a given scale": partial(to_float, whole),
        "quantize_float per token, by given scales": partial(to_float, token, granularity=PER_TOKEN),
        "quantize_float per token": partial(to_float, granularity=PER_TOKEN),
        "quantize_float 1x128": partial(to_float, granularity=per_group(128)),
        "quantize_float 128x128": partial(to_float, granularity=per_block((128, 128))),
        "dequantize_float per token": partial(
            dequantize_float.dequantize_float,
            codes,
            token,
            "float8_e4m3fn",
            **back,  # type: ignore[arg-type]
        ),
        "quantize_affine int8 per token": partial(to_integer, "int8", granularity=PER_TOKEN),
        "quantize_affine uint8 per token, with zero points": partial(
            to_integer, "uint8", granularity=PER_TOKEN, symmetric=False
        ),
        "dequantize_affine int8 per token": partial(
            dequantize_affine.dequantize_affine,
            int8,
            token,
            zero,
            **back,  # type: ignore[arg-type]
        ),
        "compute_scale int8 per tensor": partial(compute_scale.compute_scale, x, "int8"),
    }
    for what, call in calls.items():
        yield Build(name=f"{what}, {kind}", call=call)
    for fmt in ("mxfp8_e4m3", "mxfp4", "nvfp4"):
        yield from _blocks(x, fmt, -1, f"{fmt} {kind}, last axis")
    yield from _blocks(x, "mxfp8_e4m3", 0, f"mxfp8_e4m3 {kind}, first axis")


def _blocks(x: Tensor, fmt: str, axis: int, title: str) -> Iterator[Build]:
    block = FORMATS[fmt]
    assert isinstance(block, BlockFormat)
    whole = torch.ones(()) if block.has_tensor_scale else None
    there = partial(quantize_mx.quantize_mx, x, fmt, axis=axis, tensor_scale=whole)
    shape = (_SIZE, _SIZE // block.block_size) if axis == -1 else (_SIZE // block.block_size, _SIZE)
    args = (_codes(fmt, _SIZE, _SIZE), torch.zeros(shape, dtype=torch.uint8), fmt)
    back = partial(dequantize_mx.dequantize_mx, *args, axis=axis, tensor_scale=whole, dtype=x.dtype)
    yield Build(name=f"quantize_mx {title}", call=there)
    yield Build(name=f"dequantize_mx {title}", call=back)


def _weights() -> Iterator[Build]:
    """What is done to weights, once."""
    for fmt, layout in (
        ("uint4", PackLayout.BYTES),
        ("uint4", PackLayout.GPTQ_V2),
        ("float6_e2m3fn", PackLayout.DENSE),
    ):
        codes, facts, bits = _codes(fmt, _SIZE, _SIZE), LAYOUTS[layout], FORMATS[fmt].bits  # type: ignore[union-attr]
        words = torch.zeros(_SIZE, facts.num_words(bits, _SIZE), dtype=word_dtype(facts))
        there = partial(pack.pack, codes, fmt, layout=layout)
        back = partial(pack.unpack, words, fmt, layout=layout, length=_SIZE)
        yield Build(name=f"pack {fmt} in {layout.value}", call=there, is_streaming=False)
        yield Build(name=f"unpack {fmt} from {layout.value}", call=back, is_streaming=False)
    w, scale = torch.zeros(_SIZE, 128), torch.ones(_SIZE, 1)
    update = partial(gptq_update.gptq_update, w, torch.eye(128), scale, "int4")
    yield Build(name="gptq_update int4, 128 columns", call=update)


def builds() -> Iterator[Build]:
    """List every kernel in its shipped configurations."""
    yield from _int8_products()
    yield from _fp8_products()
    yield from _weight_only_products()
    yield from _mx_products()
    yield from _grouped_products()
    yield from _weights()
    for dtype in (torch.float32, torch.bfloat16):
        yield from _conversions(dtype)
