"""Every operation under `torch.compile`: one graph, any shape, the bits of eager mode."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import block_rows
from incref.formats import NanRule, Overflow, ScaleArithmetic, ScaleRule
from incref.numerics.granularity import PER_TOKEN, per_group
from incref.ops import (
    compute_scale,
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    int8_matmul,
    quantize_affine,
    quantize_float,
    quantize_mx,
)

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")

SIGNED_ZEROS_AND_SPECIALS = block_rows(torch.float32, 48)


@pytest.fixture(scope="module")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all of them: the headers of PyTorch are compiled into it once."""
    return tmp_path_factory.mktemp("inductor")


@pytest.fixture(autouse=True)
def fresh_compiler(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(empty_cache))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def encode_e4m3(x: Tensor) -> Tensor:
    return encode(x, "e4m3fn", overflow=Overflow.NONSATURATE)


def encode_int4(x: Tensor) -> Tensor:
    return encode(x, "int4", nan=NanRule.MAX)


def decode_e5m2(x: Tensor) -> Tensor:
    return decode(x.view(torch.uint8), "e5m2")


def decode_bfloat16(x: Tensor) -> Tensor:
    return decode(x.view(torch.int16), "bfloat16")


def affine(x: Tensor) -> tuple[Tensor, ...]:
    codes, scale, zero_point = quantize_affine(x, "uint4", granularity=per_group(32), symmetric=False, nan=NanRule.ZERO)
    return codes, scale, zero_point, dequantize_affine(codes, scale, zero_point, granularity=per_group(32))


def scaled_float(x: Tensor) -> tuple[Tensor, ...]:
    codes, scale = quantize_float(x, "e4m3fn", granularity=PER_TOKEN)
    return codes, scale, dequantize_float(codes, scale, "e4m3fn", granularity=PER_TOKEN, dtype=torch.bfloat16)


def scaled_e5m2(x: Tensor) -> tuple[Tensor, ...]:
    return quantize_float(
        x,
        "e5m2",
        granularity=PER_TOKEN,
        rule=ScaleRule.RECIPROCAL,
        arithmetic=ScaleArithmetic.RECIPROCAL,
        overflow=Overflow.SATURATE_FINITE,
    )


def int8_product(x: Tensor) -> Tensor:
    codes = x.view(torch.int8)
    scale = x.new_full((x.shape[0], 1), 0.1)
    zero_point = torch.full((x.shape[0], 1), 3, dtype=torch.int32)
    return int8_matmul(codes, codes[:5], scale, x_zero_point=zero_point, x_granularity=PER_TOKEN, dtype=torch.bfloat16)


def given_scale(x: Tensor) -> tuple[Tensor, ...]:
    scale = x.new_tensor([[0.0], [-0.0], [torch.inf], [-torch.nan], [2.0**-126]]).repeat(x.shape[0], 1)[: x.shape[0]]
    return quantize_float(x, "e4m3fn", scale, granularity=PER_TOKEN)


def powers_of_two(x: Tensor) -> Tensor:
    return compute_scale(x, "e2m1", PER_TOKEN, rule=ScaleRule.EVEN)


def mxfp4(x: Tensor) -> tuple[Tensor, ...]:
    codes, scale = quantize_mx(x, "mxfp4")
    return codes, scale, dequantize_mx(codes, scale, "mxfp4")


def nvfp4(x: Tensor) -> tuple[Tensor, ...]:
    codes, scale, tensor = quantize_mx(x, "nvfp4")
    return codes, scale, tensor, dequantize_mx(codes, scale, "nvfp4", tensor_scale=tensor)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (encode_e4m3, SIGNED_ZEROS_AND_SPECIALS),
        (encode_int4, SIGNED_ZEROS_AND_SPECIALS),
        (decode_e5m2, SIGNED_ZEROS_AND_SPECIALS),
        (decode_bfloat16, SIGNED_ZEROS_AND_SPECIALS),
        (powers_of_two, SIGNED_ZEROS_AND_SPECIALS),
        (affine, SIGNED_ZEROS_AND_SPECIALS),
        (scaled_float, SIGNED_ZEROS_AND_SPECIALS),
        (scaled_e5m2, SIGNED_ZEROS_AND_SPECIALS),
        (int8_product, SIGNED_ZEROS_AND_SPECIALS),
        (given_scale, SIGNED_ZEROS_AND_SPECIALS),
        (mxfp4, SIGNED_ZEROS_AND_SPECIALS),
        (nvfp4, SIGNED_ZEROS_AND_SPECIALS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_compiled_is_eager(function: Callable[[Tensor], Tensor | tuple[Tensor, ...]], x: Tensor) -> None:
    compiled = torch.compile(function, fullgraph=True, dynamic=True)
    for part in (x, x[:33, :40].contiguous()):
        got, want = compiled(part), function(part)
        for one, other in zip(
            *[result if isinstance(result, tuple) else (result,) for result in (got, want)], strict=True
        ):
            assert_same_bits(one, other)


def test_nan_is_refused_in_a_graph_as_well() -> None:
    compiled = torch.compile(lambda x: encode(x, "int8"), fullgraph=True, dynamic=True)
    assert compiled(torch.ones(3)).tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="int8 has no NaN for the elements that are, or become, NaN"):
        compiled(torch.tensor([1.0, torch.nan, 2.0]))
