import pytest
import torch
from torch import Tensor

from incref.conformance.judge import assert_same_bits
from incref.errors import NanError, UnsupportedError
from incref.formats import IntRange, ScaleArithmetic
from incref.numerics.granularity import PER_TOKEN, Granularity, per_group
from incref.ops import gptq_update
from incref_kernels.triton import BACKEND
from incref_kernels.triton.gptq_update import gptq_update as launch_update
from incref_kernels.triton.tiles import Tile

RUN = gptq_update.on(BACKEND)
SMALL = Tile(elements=64, num_warps=1)


def block(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    w, x = torch.randn(rows, columns, generator=generator), torch.randn(columns, 2 * columns, generator=generator)
    inverse = torch.linalg.inv(x @ x.T + torch.eye(columns))
    return w, torch.linalg.cholesky(inverse, upper=True)


def scales(granularity: Granularity, shape: torch.Size) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    scale = torch.rand(granularity.scale_shape(shape), generator=generator) * 0.3 + 0.01
    return scale, torch.randint(0, 3, scale.shape, generator=generator, dtype=torch.int32)


def assert_as_reference(*args: object, **options: object) -> None:
    want = gptq_update(*args, **options)  # type: ignore[arg-type]
    got = launch_update(*args, **options, tile=SMALL)  # type: ignore[arg-type]
    for found, right in zip(got, want, strict=True):
        assert_same_bits(found, right, note=options)


@pytest.mark.parametrize("granularity", [PER_TOKEN, per_group(8)], ids=str)
@pytest.mark.parametrize("arithmetic", ScaleArithmetic)
@pytest.mark.parametrize("fmt", ["int4", "uint4", "int8", "uint2"])
def test_codes_errors_and_weights(fmt: str, arithmetic: ScaleArithmetic, granularity: Granularity) -> None:
    w, upper = block(7, 21)
    w[0, 0], w[1, :4] = -0.0, torch.tensor([1e-40, -1e-40, 1e20, -1e20])
    scale, zero = scales(granularity, w.shape)
    args = (w, upper, scale, fmt) if fmt.startswith("int") else (w, upper, scale, fmt, zero)
    assert_as_reference(*args, arithmetic=arithmetic, granularity=granularity)


def test_the_restricted_range() -> None:
    w, upper = block(4, 5)
    assert_as_reference(w * 5, upper, scales(PER_TOKEN, w.shape)[0], "int4", int_range=IntRange.RESTRICTED)


def test_what_is_below_the_diagonal_is_not_read() -> None:
    w, upper = block(3, 6)
    scale, _ = scales(PER_TOKEN, w.shape)
    poisoned = upper + torch.full_like(upper, torch.nan).tril(-1)
    for found, right in zip(RUN(w, poisoned, scale, "int4"), RUN(w, upper, scale, "int4"), strict=True):
        assert_same_bits(found, right)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)], ids=str)
def test_every_shape(shape: tuple[int, int]) -> None:
    w, upper = torch.ones(shape), torch.eye(shape[1])
    scale = torch.ones(PER_TOKEN.scale_shape(w.shape))
    for found, right in zip(RUN(w, upper, scale, "int4"), gptq_update(w, upper, scale, "int4"), strict=True):
        assert_same_bits(found, right)


def test_strided_weights() -> None:
    w = block(12, 10)[0]
    scale, _ = scales(PER_TOKEN, torch.Size((5, 12)))
    _, other = block(2, 12)
    assert_as_reference(w.T[::2], other, scale, "int4")


def test_what_is_refused() -> None:
    w, upper = block(3, 4)
    scale, _ = scales(PER_TOKEN, w.shape)
    with pytest.raises(NanError, match="int4 has no NaN"):
        RUN(torch.full_like(w, torch.nan), upper, scale, "int4")
    with pytest.raises(ValueError, match=r"w must be \[N, B\] and upper \[B, B\]"):
        RUN(w, upper[:3], scale, "int4")
    with pytest.raises(TypeError, match=r"w must be torch\.float32"):
        RUN(w.double(), upper, scale, "int4")
    wide = torch.zeros(2, 1025)
    with pytest.raises(UnsupportedError, match="at most 1024 columns, got 1025"):
        RUN(wide, torch.eye(1025), torch.ones(2, 1), "int4")
