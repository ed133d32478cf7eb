"""`int8_matmul` compiled for the CPU: every bit is that of the reference."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from conformance.device_cases import Where
from conformance.matmul_cases import Int8MatmulCase, MatmulShape
from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats import ScaleOrder
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_group
from incref.ops import int8_matmul
from incref_kernels.triton import BACKEND
from incref_kernels.triton.matmul_tiles import MatmulTile

RUN = int8_matmul.on(BACKEND)
WHERE = Where(backend=BACKEND, device=torch.device("cpu"), chunk=1)
TILE = MatmulTile(block_m=16, block_n=16, block_k=32, num_warps=1, num_stages=1, group_m=2)
SHAPE = MatmulShape(rows=19, columns=37, length=72, options=(("tile", TILE),))
WHOLE = MatmulShape(rows=32, columns=16, length=64, options=(("tile", TILE),))


def codes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@pytest.mark.parametrize(
    "case",
    [
        Int8MatmulCase(shape=SHAPE),
        Int8MatmulCase(shape=WHOLE, granularity=None),
        Int8MatmulCase(shape=SHAPE, has_zero_point=True, granularity=PER_TENSOR, order=ScaleOrder.PRODUCT),
        Int8MatmulCase(shape=SHAPE, x_dtype=torch.uint8, dtype=torch.bfloat16, order=ScaleOrder.W_THEN_X),
        Int8MatmulCase(shape=SHAPE, x_dtype=torch.uint8, has_zero_point=True, has_w_zero_point=True),
        Int8MatmulCase(shape=WHOLE, has_w_zero_point=True, dtype=torch.float16, scale_dtype=torch.uint8),
    ],
    ids=lambda case: case.key,
)
def test_equals_the_reference(case: Int8MatmulCase) -> None:
    finding = case.check(WHERE)
    assert finding.checked
    assert not finding.mismatches, finding.first


def test_the_tile_that_is_chosen() -> None:
    x, w = codes(3, 70), codes(5, 70, seed=1)
    assert_same_bits(RUN(x, w), int8_matmul(x, w))


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_products(shape: tuple[int, int, int]) -> None:
    rows, columns, length = shape
    x, w, bias = codes(rows, length), codes(columns, length), torch.randn(columns)
    zero = torch.tensor(3, dtype=torch.int32)
    want = int8_matmul(x, w, x_zero_point=zero, bias=bias, dtype=torch.bfloat16)
    assert_same_bits(RUN(x, w, x_zero_point=zero, bias=bias, dtype=torch.bfloat16), want)
    assert_same_bits(RUN(x, w), int8_matmul(x, w))


def test_leading_dimensions_and_any_strides() -> None:
    x = codes(4, 3, 2, 80).movedim(0, 2)[..., 5:69]
    w = codes(64, 48, seed=1).T[::3]
    for granularity in (PER_TENSOR, PER_TOKEN):
        scale = torch.rand(granularity.scale_shape(x.shape))
        options = {"x_granularity": granularity, "dtype": torch.float32}
        assert_same_bits(RUN(x, w, scale, **options), int8_matmul(x, w, scale, **options))  # type: ignore[arg-type]
    row = codes(1, 64).expand(5, 64)
    assert_same_bits(RUN(row, w), int8_matmul(row, w))


def test_scales_that_are_not_numbers() -> None:
    x, w = codes(3, 40), codes(4, 40, seed=1)
    scale = torch.tensor([[torch.inf], [torch.nan], [-0.0]])
    options = {"x_granularity": PER_TOKEN, "dtype": torch.bfloat16}
    assert_same_bits(RUN(x, w, scale, **options), int8_matmul(x, w, scale, **options))  # type: ignore[arg-type]


def test_what_it_declines_and_refuses() -> None:
    x, w, scale = codes(3, 64), codes(4, 64), torch.tensor(0.5)
    with pytest.raises(UnsupportedError, match=r"ScaleOrder\.EXACT without them only"):
        RUN(x, w, scale, order=ScaleOrder.EXACT)
    with pytest.raises(TypeError, match=r"x_scale must be torch\.float32"):
        RUN(x, w, scale.double())
    with pytest.raises(ValueError, match="must not differ along K"):
        RUN(x, w, torch.ones(3, 2), x_granularity=per_group(32))
    with pytest.raises(ValueError, match="must be a code of x"):
        RUN(x, w, x_zero_point=torch.tensor(200, dtype=torch.int32))
    with pytest.raises(ValueError, match="K must be at most"):
        RUN(codes(1, 131072), codes(1, 131072))
