"""What cases of scaled integers and of scaled floats have in common."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.generators.rows import tie_rows
from incref.conformance.plan import Plan
from incref.conformance.samples import all_codes
from incref.formats import ElementFormat, Rounding

__all__ = ["codes_in_rows", "dtype_name", "scales_of_every_size", "tie_case", "ties_and_specials"]

_SCALES = (1.0, 0.25, 8.0, 2.0**-20, 2.0**-100, 0.1, 1 / 3, 0.0371, 1.7e-5, 23.0)


def dtype_name(dtype: torch.dtype) -> str:
    """Name a dtype without its module."""
    return str(dtype).removeprefix("torch.")


def ties_and_specials(fmt: ElementFormat, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """List every half code, its neighbours and what lies beyond the ends, times a scale a row; NaN, Inf and zeros.

    Returns:
        Values [rows, values] of `dtype`, and the scales [rows, 1].
    """
    x, scale = tie_rows(fmt, _SCALES, dtype)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 3e38, -3e38], dtype=dtype)
    x = torch.cat([x, special.expand(len(_SCALES), -1)], 1)
    return x, scale.to(torch.float64) if dtype is torch.float64 else scale


def tie_case(  # noqa: PLR0917  # what a case is made of
    plan: Plan, op: str, name: str, rounding: Rounding, draw: Callable[[], dict[str, object]], placement: Placement
) -> Case:
    """Make a case of what `draw` gives, with random bits where the rounding takes them."""

    def drawn() -> Arguments:
        found = draw()
        x = found["x"]
        assert isinstance(x, Tensor)
        if rounding is Rounding.STOCHASTIC:
            found["random_bits"] = torch.randint(0, 256, x.shape, generator=plan.generator(3)).to(torch.uint8)
        return found

    seeded = f"/{plan.seed}" if rounding is Rounding.STOCHASTIC else ""
    return Case(
        op=op,
        generator="ties",
        name=f"{plan.level}/{name}{seeded}",
        level=plan.level,
        draw=drawn,
        placement=placement,
    )


def codes_in_rows(fmt: ElementFormat, generator: torch.Generator) -> Tensor:
    """Give every code in every row, and as many more at random that a row ends within a group."""
    codes = all_codes(fmt)
    order = torch.randint(0, codes.numel(), (13, 300), generator=generator)
    order[:, : codes.numel()] = torch.arange(codes.numel())
    return codes[order]


def scales_of_every_size(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Scales of every magnitude: subnormal, huge, negative, NaN and Inf among them."""
    if dtype is torch.uint8:
        return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    count = torch.Size(shape).numel()
    span = 60 if dtype is torch.float16 else 500
    powers = torch.randint(-span // 2, span // 4, (count,), generator=generator) / 2
    scale = (torch.rand(count, generator=generator, dtype=torch.float64) + 0.5) * 2.0 ** powers.to(torch.float64)
    scale[torch.rand(count, generator=generator) < 0.5] = 0.0117
    special = torch.tensor([torch.nan, torch.inf, -0.7, 0.0], dtype=torch.float64)
    if count >= 8:
        scale[-4:] = special
    return scale.to(dtype).view(shape)
