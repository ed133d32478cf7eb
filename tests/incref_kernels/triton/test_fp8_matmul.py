"""`fp8_matmul` compiled for the CPU: probes bit for bit, other values within the bound, and in the declared order."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra `native`)")

from conformance.device_cases import Where
from conformance.matmul_cases import Fp8MatmulCase, MatmulShape
from incref.conformance.judge import assert_same_bits
from incref.conformance.samples import all_codes
from incref.errors import UnsupportedError
from incref.formats import FORMATS, FloatFormat, ScaleOrder
from incref.numerics.accumulate.evaluate import accumulate_codes
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_group
from incref.ops import decode, fp8_matmul
from incref_kernels.triton import BACKEND
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.targets import Factors, accumulator

RUN = fp8_matmul.on(BACKEND)
WHERE = Where(backend=BACKEND, device=torch.device("cpu"), chunk=1)
TILE = MatmulTile(block_m=16, block_n=16, block_k=32, num_warps=1, num_stages=1, group_m=2)
TURNED = MatmulTile(block_m=32, block_n=16, block_k=32, num_warps=2, num_stages=2, is_transposed=True)
SHAPE = MatmulShape(rows=19, columns=37, length=72, options=(("tile", TILE),))
OTHER = MatmulShape(rows=19, columns=37, length=64, options=(("tile", TURNED),))
E4M3 = {"x_fmt": "float8_e4m3fn", "w_fmt": "float8_e4m3fn"}


@pytest.mark.parametrize(
    "case",
    [
        Fp8MatmulCase(shape=SHAPE),
        Fp8MatmulCase(shape=OTHER, x_granularity=PER_TOKEN, w_granularity=PER_TENSOR, dtype=torch.bfloat16),
        Fp8MatmulCase(
            shape=SHAPE, x_granularity=per_group(32), w_granularity=per_block((32, 32)), order=ScaleOrder.X_THEN_W
        ),
        Fp8MatmulCase(
            shape=OTHER,
            x_fmt="float8_e5m2",
            x_granularity=per_group(64),
            w_granularity=PER_TOKEN,
            factors=Factors.CODES,
            has_bias=True,
            order=ScaleOrder.W_THEN_X,
            dtype=torch.float16,
        ),
        Fp8MatmulCase(shape=SHAPE, x_fmt="float8_e4m3fnuz", w_fmt="float8_e5m2fnuz", factors=Factors.CODES),
        Fp8MatmulCase(shape=SHAPE, x_fmt="float8_e3m4", w_fmt="float4_e2m1fn", w_granularity=PER_TOKEN),
    ],
    ids=lambda case: case.key,
)
def test_probes_and_bound(case: Fp8MatmulCase) -> None:
    finding = case.check(WHERE)
    assert finding.checked
    assert not finding.mismatches, finding.first


@pytest.mark.parametrize("factors", [Factors.CODES, Factors.BFLOAT16])
def test_adds_as_declared(factors: Factors) -> None:
    fmt = FORMATS["float8_e4m3fn"]
    assert isinstance(fmt, FloatFormat)
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randint(0, 127, (rows, 72), generator=generator, dtype=torch.uint8) for rows in (19, 37))
    kernel = BACKEND.kernels["fp8_matmul"].fn
    got = kernel(x, w, None, None, **E4M3, factors=factors, tile=TILE)
    assert_same_bits(got, accumulate_codes(x, w, fmt, fmt, accumulator(torch.device("cpu"), factors)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3", "float8_e8m0fnu"]
)
def test_every_code_is_read(name: str) -> None:
    """NaN and Inf, subnormals and zeros: products with 1 are the values themselves."""
    one = torch.tensor([[0x38]], dtype=torch.uint8)
    codes = all_codes(FORMATS[name]).view(-1, 1)  # type: ignore[arg-type]
    got = RUN(codes, one, None, None, x_fmt=name, w_fmt="float8_e4m3fn")
    # A sum that is 0 is +0.
    assert_same_bits(got, decode(codes, name) + 0.0)


@pytest.mark.parametrize("length", [64, 72])
def test_factors_that_are_powers_of_two(length: int) -> None:
    """Code 0 of E8M0 is no zero, so nothing may be added for it beyond the end of K."""
    x = torch.full((3, length), 0x7F, dtype=torch.uint8)
    x[0, 0], x[1, :], x[2, length - 1] = 0, 0, 0xFF
    w = torch.full((5, length), 0x38, dtype=torch.uint8)
    options = {"x_fmt": "float8_e8m0fnu", "w_fmt": "float8_e4m3fn"}
    assert_same_bits(RUN(x, w, None, None, **options), fp8_matmul(x, w, None, None, **options))


def test_nan_and_inf_stay_in_their_rows() -> None:
    x = torch.full((3, 70), 0x3C, dtype=torch.uint8)
    x[0, 69], x[1, 3], x[2, 5] = 0x7F, 0x7C, 0xFC
    w = torch.full((5, 70), 0x38, dtype=torch.uint8)
    w[4, 3] = 0
    options = {"x_fmt": "float8_e5m2", "w_fmt": "float8_e4m3fn"}
    assert_same_bits(RUN(x, w, None, None, **options), fp8_matmul(x, w, None, None, **options))


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_products(shape: tuple[int, int, int]) -> None:
    rows, columns, length = shape
    x, w = torch.zeros(rows, length, dtype=torch.uint8), torch.zeros(columns, length, dtype=torch.uint8)
    bias, scale = torch.randn(columns), torch.tensor(-2.0)
    for options in ({"bias": bias}, {}):
        want = fp8_matmul(x, w, scale, None, **E4M3, **options)  # type: ignore[arg-type]
        assert_same_bits(RUN(x, w, scale, None, **E4M3, **options), want)  # type: ignore[arg-type]


def test_what_it_declines_and_refuses() -> None:
    x, w, scale = torch.zeros(3, 96, dtype=torch.uint8), torch.zeros(4, 96, dtype=torch.uint8), torch.tensor(0.5)
    with pytest.raises(UnsupportedError, match=r"ScaleOrder\.EXACT without them only"):
        RUN(x, w, scale, None, **E4M3, order=ScaleOrder.EXACT)
    with pytest.raises(UnsupportedError, match="a multiple of 32 along K, got 48"):
        RUN(x, w, torch.ones(3, 2), None, **E4M3, x_granularity=per_group(48))
    with pytest.raises(UnsupportedError, match="places in a list"):
        RUN(x, w, None, None, x_fmt="nf4", w_fmt="float8_e4m3fn")
    options = {"x_granularity": per_group(32), "w_granularity": per_group(64)}
    with pytest.raises(ValueError, match="blocks of one size"):
        RUN(x, w, torch.ones(3, 3), torch.ones(4, 2), **E4M3, **options)  # type: ignore[arg-type]
