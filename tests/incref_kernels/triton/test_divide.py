"""Division by scales that many elements share, beside the division of PyTorch, which is correctly rounded."""

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")
pytest.importorskip("llvmlite")

import triton.language as tl  # noqa: E402

from incref.numerics.patterns import float_format_of  # noqa: E402
from incref_kernels.triton.device.divide import divide_by_scale  # noqa: E402
from incref_kernels.triton.launch import launch  # noqa: E402
from incref_kernels.triton.sizes import cdiv  # noqa: E402
from incref_kernels.triton.tiles import Tile  # noqa: E402

_TILE = Tile(elements=1024)
_COLUMNS = 64
_SINGLE = float_format_of(torch.float32)
_SPECIAL = (0.0, 2.0**-149, 2.0**-127, 2.0**-126, 1.0, 1.9999998807907104, 2.0**127, 3.4028234663852886e38, torch.inf)


@triton.jit
def _divide_kernel(
    x_ptr, scale_ptr, out_ptr, rows, layout: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
) -> None:
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = row[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows)[:, None]
    scale = tl.load(scale_ptr + row, mask=row < rows, other=1.0)[:, None]
    signed = tl.load(x_ptr + at, mask=mask, other=0)
    tl.store(out_ptr + at, divide_by_scale(signed, scale, True, layout, True), mask=mask)  # noqa: FBT003


def _divided(x: Tensor, scale: Tensor) -> Tensor:
    """Divide every row of `x` [rows, _COLUMNS] by its scale [rows]."""
    out = torch.empty_like(x)
    rows = _TILE.elements // _COLUMNS
    launch(
        _divide_kernel,
        cdiv(len(scale), rows),
        x.view(torch.int32),
        scale,
        out.view(torch.int32),
        len(scale),
        device=x.device,
        tile=_TILE,
        layout=_SINGLE,
        ROWS=rows,
        COLUMNS=_COLUMNS,
    )
    return out


def _require_right(x: Tensor, scale: Tensor) -> None:
    got, want = _divided(x, scale), x / scale[:, None]
    assert torch.equal(got.isnan(), want.isnan())
    is_number = ~want.isnan()
    assert torch.equal(got.signbit()[is_number], want.signbit()[is_number])
    size, wanted = got.abs(), want.abs()
    is_middle = (wanted >= 2.0**-64) & (wanted <= 2.0**64)
    assert torch.equal(got[is_middle], want[is_middle])
    assert bool((size[wanted < 2.0**-64] < 2.0**-60).all())
    assert bool((size[wanted > 2.0**64] > 2.0**60).all())


def _patterns(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(1 << 31), 1 << 31, shape, generator=generator).to(torch.int32).view(torch.float32)


def test_any_number_by_any_scale() -> None:
    _require_right(_patterns(1 << 14, _COLUMNS, seed=0), _patterns(1 << 14, seed=1))


def test_quotients_beside_midpoints_of_float32() -> None:
    generator = torch.Generator().manual_seed(2)
    scale = torch.randint(1 << 23, 1 << 24, (1 << 14,), generator=generator).double()
    # An odd number of 25 bits lies between two floats; what is beside its product with the scale has a quotient there.
    midpoint = torch.randint(1 << 23, 1 << 24, (1 << 14, _COLUMNS), generator=generator).double() * 2 + 1
    x = (midpoint * scale[:, None]).float()
    x = torch.where(torch.arange(_COLUMNS) % 3 == 1, torch.nextafter(x, torch.tensor(torch.inf)), x)
    x = torch.where(torch.arange(_COLUMNS) % 3 == 2, torch.nextafter(x, torch.tensor(0.0)), x)
    for exponent in (-140, -60, 0, 40):
        _require_right(x * 2.0**-50, (scale * 2.0**exponent).float())


def test_special_numbers_and_scales() -> None:
    both = torch.tensor([*_SPECIAL, *(-one for one in _SPECIAL), torch.nan])
    x = both.repeat(len(both), 4)[:, :_COLUMNS].contiguous()
    _require_right(x, both)
