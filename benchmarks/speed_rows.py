"""What is timed beside a copy: every conversion by the backend "cpu", with the traffic that it can't do without."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial

import torch
from torch import Tensor

from incref.formats import FORMATS, BlockFormat
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops import cast, fake_quantize_affine, fake_quantize_float, fake_quantize_mx, pack, quantize_affine
from incref.ops.contract import Op
from incref_kernels.cpu import BACKEND

__all__ = ["Family", "Row", "rows"]

_ELEMENTS = (
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
    "float8_e8m0fnu",
)


class Family(Enum):
    """Rows that one bar is for."""

    ELEMENT = "quantize and dequantize, element formats"
    BLOCK = "quantize and dequantize, MX formats"
    BLOCK_ACROSS = "the same, blocks down columns"
    TWO_LEVELS = "quantize and dequantize, NVFP4"
    TWO_LEVELS_ACROSS = "the same, blocks of NVFP4 down columns"
    PACKED = "RTN int4 and uint4, groups of 128, to packed codes"

    @property
    def bars(self) -> tuple[float, float]:
        """The ratio to a copy that is asked for, and the one that is hoped for."""
        return (2.0, 1.2) if self is Family.ELEMENT else (3.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something to time.

    Attributes:
        name: of the row.
        functions: by who computes it: "cpu" writes into memory that is there, "cpu, new" makes a tensor.
        floor: bytes that have to be read and written, over those of the copy.
        family: whose bar it is held to, or None.
    """

    name: str
    functions: Mapping[str, Callable[[], object]]
    floor: float
    family: Family | None = None


def rows(x: Tensor) -> Iterator[Row]:
    """Make the rows for a float32 matrix."""
    into = torch.empty_like(x)
    for name in _ELEMENTS:
        yield Row(name=name, functions=_both(cast, x, name, into), floor=1.0, family=Family.ELEMENT)
    for fmt in FORMATS.values():
        if isinstance(fmt, BlockFormat):
            yield from _blocks(x, fmt, into)
    yield from _scaled(x, into)
    for name, fmt, symmetric in (("int4", "int4", True), ("uint4 with zero points", "uint4", False)):
        packing = partial(_packed, x, fmt, symmetric=symmetric)
        functions = {"cpu, new": partial(packing, backend=BACKEND), "reference": partial(packing, backend="reference")}
        # Half a byte and the 128th part of a scale for every four bytes that are read.
        floor = (4 + 0.5 + (4 if symmetric else 8) / 128) / 8
        yield Row(
            name=f"{name}, groups of 128, to packed codes", functions=functions, floor=floor, family=Family.PACKED
        )


def _blocks(x: Tensor, fmt: BlockFormat, into: Tensor) -> Iterator[Row]:
    families = (Family.BLOCK, Family.BLOCK_ACROSS)
    floor = 1.0
    if fmt.has_tensor_scale:
        families = (Family.TWO_LEVELS, Family.TWO_LEVELS_ACROSS)
        # The scale of the tensor is found first, so everything is read twice.
        floor = 1.5
    for axis, suffix, family in zip((-1, 0), ("", ", down columns"), families, strict=True):
        functions = _both(fake_quantize_mx, x, fmt.name, into, axis=axis)
        yield Row(name=f"{fmt.name}{suffix}", functions=functions, floor=floor, family=family)


def _scaled(x: Tensor, into: Tensor) -> Iterator[Row]:
    kinds: tuple[tuple[str, Op, str, Granularity, float], ...] = (
        ("int8 per channel", fake_quantize_affine, "int8", per_channel(), 1.0),
        ("int4, groups of 128", fake_quantize_affine, "int4", per_group(128), 1.0),
        ("float8_e4m3fn per token", fake_quantize_float, "float8_e4m3fn", PER_TOKEN, 1.0),
        ("float8_e4m3fn, blocks of 128 x 128", fake_quantize_float, "float8_e4m3fn", per_block((128, 128)), 1.0),
        ("float8_e4m3fn per tensor", fake_quantize_float, "float8_e4m3fn", PER_TENSOR, 1.5),
    )
    for name, op, fmt, granularity, floor in kinds:
        yield Row(name=name, functions=_both(op, x, fmt, into, granularity=granularity), floor=floor)


def _both(op: Op, x: Tensor, fmt: str, into: Tensor, **options: object) -> dict[str, Callable[[], object]]:
    run = op.on(BACKEND)
    return {
        "cpu": partial(run, x, fmt, out=into, **options),
        "cpu, new": partial(run, x, fmt, **options),
        "reference": partial(op, x, fmt, out=into, **options),
    }


def _packed(x: Tensor, fmt: str, *, symmetric: bool, backend: object) -> tuple[Tensor, ...]:
    codes, *scales = quantize_affine.on(backend)(x, fmt, granularity=per_group(128), symmetric=symmetric)
    return (pack.on(backend)(codes, fmt, layout=PackLayout.BYTES), *scales)
