import pytest
import torch

from conformance.block_classes import block_classes
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import random_patterns
from incref.errors import NanError, UnsupportedError
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.ops import quantize_mx
from incref_kernels.triton import BACKEND
from incref_kernels.triton.quantize_mx import TILE, TILE_ACROSS
from incref_kernels.triton.quantize_mx import quantize_mx as launch_quantize_mx

BLOCKS = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat)]
MX = [fmt for fmt in BLOCKS if not fmt.has_tensor_scale]
RULES = [rule for rule in ScaleRule if rule.is_power_of_two]
RUN = quantize_mx.on(BACKEND)


def name(fmt: BlockFormat) -> str:
    return fmt.name


def blocks_of_every_class(fmt: BlockFormat) -> torch.Tensor:
    return torch.cat(list(block_classes(fmt, scale=0.03).values()))


def assert_as_reference(x: torch.Tensor, fmt: BlockFormat, **options: object) -> None:
    options = {"nan": NanRule.MAX} | options
    want, got = quantize_mx(x, fmt, **options), RUN(x, fmt, **options)  # type: ignore[arg-type]
    for part, right, title in zip(got, want, ("codes", "scale", "tensor_scale"), strict=False):
        assert_same_bits(part, right, note=(title, options))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fmt", MX, ids=name)
def test_blocks_of_every_class(fmt: BlockFormat, rule: ScaleRule) -> None:
    x = blocks_of_every_class(fmt)
    assert_as_reference(x, fmt, rule=rule)
    assert_as_reference(x.T.contiguous(), fmt, rule=rule, axis=0)


@pytest.mark.parametrize("arithmetic", ScaleArithmetic)
def test_blocks_with_two_scales(arithmetic: ScaleArithmetic) -> None:
    fmt = FORMATS["nvfp4"]
    assert isinstance(fmt, BlockFormat)
    for x in block_classes(fmt, scale=0.03).values():
        assert_as_reference(x, fmt, arithmetic=arithmetic)
    assert_as_reference(x, fmt, arithmetic=arithmetic, tensor_scale=torch.tensor(0.37))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("fmt", BLOCKS, ids=name)
def test_blocks_along_every_axis_with_a_ragged_tail(fmt: BlockFormat, axis: int) -> None:
    x = random_patterns(3 * 70 * 5, torch.float32).view(3, 70, 5)
    assert_as_reference(x, fmt, axis=axis)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("fmt", MX, ids=name)
def test_other_sources(fmt: BlockFormat, dtype: torch.dtype) -> None:
    assert_as_reference(random_patterns(8 * 320, dtype).view(8, 320), fmt)


@pytest.mark.parametrize("fmt", BLOCKS, ids=name)
def test_what_nan_and_inf_do_to_a_block(fmt: BlockFormat) -> None:
    x = random_patterns(4 * 320, torch.float32).view(4, 320).nan_to_num(1.0, 2.0, -3.0)
    x[0, 3], x[0, 40], x[1, 7], x[1, 100], x[1, 101] = torch.nan, torch.inf, -torch.inf, -torch.nan, torch.inf
    for nan_block in BlockRule:
        for inf_block in BlockRule:
            for overflow in Overflow:
                assert_as_reference(x, fmt, nan_block=nan_block, inf_block=inf_block, overflow=overflow)


@pytest.mark.parametrize("fmt", BLOCKS, ids=name)
def test_every_rounding(fmt: BlockFormat) -> None:
    x = torch.randn(8, 320, generator=torch.Generator().manual_seed(0))
    bits = random_patterns(x.numel(), torch.bfloat16).view(torch.int16).view(x.shape)
    for rounding in Rounding:
        random = bits if rounding is Rounding.STOCHASTIC else None
        assert_as_reference(x, fmt, rounding=rounding, random_bits=random, int_range=IntRange.FULL)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_shipped_tiles_give_the_same_blocks_in_every_program(axis: int) -> None:
    x = torch.randn(70, 4100, generator=torch.Generator().manual_seed(0))
    got = launch_quantize_mx(x, "mxfp4", axis=axis, tile=TILE if axis else TILE_ACROSS)
    for part, right in zip(got, quantize_mx(x, "mxfp4", axis=axis), strict=True):
        assert_same_bits(part, right)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 32), (1,), (33,)], ids=str)
def test_every_shape(shape: tuple[int, ...]) -> None:
    for fmt in ("mxfp4", "nvfp4"):
        found = FORMATS[fmt]
        assert isinstance(found, BlockFormat)
        assert_as_reference(torch.full(shape, 1.5), found)


def test_strided_tensors() -> None:
    fmt = FORMATS["mxfp8_e4m3"]
    assert isinstance(fmt, BlockFormat)
    x = torch.randn(64, 24, generator=torch.Generator().manual_seed(0)).T[1::2]
    assert_as_reference(x, fmt)
    assert_as_reference(x, fmt, axis=0)


def test_a_nan_that_stays_alone_without_a_code_is_refused() -> None:
    x = torch.ones(32)
    x[3] = torch.nan
    with pytest.raises(NanError, match="float4_e2m1fn has no NaN"):
        RUN(x, "mxfp4", nan_block=BlockRule.ELEMENT)
    assert RUN(x, "mxfp4")[1].tolist() == [255]


def test_wrong_arguments_are_refused_as_by_the_reference() -> None:
    with pytest.raises(ValueError, match="mxfp4 has scales that are powers of two"):
        RUN(torch.ones(32), "mxfp4", rule=ScaleRule.DIVIDE)
    with pytest.raises(ValueError, match="mxfp4 has no tensor_scale"):
        RUN(torch.ones(32), "mxfp4", tensor_scale=torch.tensor(1.0))
    with pytest.raises(TypeError, match="nvfp4 is computed in float32"):
        RUN(torch.ones(32, dtype=torch.float64), "nvfp4")
    with pytest.raises(UnsupportedError, match="got x on meta"):
        RUN(torch.ones(32, device="meta"), "mxfp4")
