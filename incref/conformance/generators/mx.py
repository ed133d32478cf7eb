"""Cases of `quantize_mx` and `dequantize_mx`."""

from collections.abc import Iterator

import torch

from incref.conformance.case import Arguments, Case, Placement
from incref.conformance.generators.rows import hard_rows
from incref.conformance.plan import Plan
from incref.conformance.samples import all_codes
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)

__all__ = ["BLOCK_FORMATS", "dequantize_mx_cases", "quantize_mx_cases"]

BLOCK_FORMATS = tuple(name for name, fmt in FORMATS.items() if isinstance(fmt, BlockFormat))
"""Every block format by name."""

_RULES = tuple(rule for rule in ScaleRule if rule.is_power_of_two)
_MOST_ROWS = 160


def _block(name: str) -> BlockFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, BlockFormat)
    return fmt


def quantize_mx_cases(plan: Plan) -> Iterator[Case]:
    """Blocks at every threshold of every rule, specials of every kind, ragged ends, along every axis."""
    salt = 600 + plan.level
    match plan.level:
        case 0:
            for fmt in ("mxfp8_e4m3", "mxfp4", "nvfp4"):
                yield _rows(plan, salt, fmt)
            yield _rows(plan, salt, "mxfp4", placement=Placement.REUSED)
        case 1:
            yield from _covering(plan, salt)
            yield from _specials(plan, salt)
            yield from _rest(plan, salt)
        case _:
            for repeat in range(8):
                yield from _covering(plan, salt + 1000 * (repeat + 1))


def _covering(plan: Plan, salt: int) -> Iterator[Case]:
    dtypes = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    for i, fmt in enumerate(BLOCK_FORMATS):
        if _block(fmt).has_tensor_scale:
            for j, arithmetic in enumerate(ScaleArithmetic):
                for k in range(3):
                    yield _rows(plan, salt + k, fmt, dtypes[k], axis=-1 - (j + k) % 2, arithmetic=arithmetic)
                    yield _rows(plan, salt + k, fmt, dtypes[k], arithmetic=arithmetic, tensor_scale=0.037 * 2.0**k)
                yield _scaled_ties(plan, salt, fmt, arithmetic)
            continue
        for j, rule in enumerate(_RULES):
            for k in range(3):
                at = i + j + k
                yield _rows(plan, salt + at, fmt, dtypes[at % 4], rule=rule, axis=-1 - (j + k) % 2)
        for j, rounding in enumerate(Rounding):
            yield _rows(plan, salt + j, fmt, torch.float32, rule=_RULES[j % 4], rounding=rounding)
        for j, overflow in enumerate(Overflow):
            yield _rows(plan, salt + j, fmt, torch.float32, rule=_RULES[j % 2], overflow=overflow)
        if isinstance(_block(fmt).element, IntFormat):
            yield _rows(plan, salt, fmt, torch.float32, int_range=IntRange.FULL)


def _specials(plan: Plan, salt: int) -> Iterator[Case]:
    """NaN and Inf, under every rule for them."""
    for fmt in BLOCK_FORMATS:
        for nan_block in BlockRule:
            for inf_block in BlockRule:
                for nan in (NanRule.MAX, NanRule.ZERO) if nan_block is inf_block else (NanRule.MAX,):
                    yield _rows(plan, salt + 50, fmt, nan_block=nan_block, inf_block=inf_block, nan=nan)


def _rest(plan: Plan, salt: int) -> Iterator[Case]:
    for fmt in ("mxfp8_e4m3", "mxfp4", "nvfp4"):
        for placement in Placement:
            yield _rows(plan, salt + 90, fmt, placement=placement)
            yield _rows(plan, salt + 91, fmt, axis=-2, placement=placement)
        size = _block(fmt).block_size
        shapes = [(n,) for n in (0, 1, size - 1, size, size + 1, 2 * size - 1, 3 * size + 1, 127)]
        for shape in (*shapes, (0, size), (2, 3, size + 1), (1, 1, 1)):
            for axis in range(-len(shape), 0):
                yield _shaped(plan, salt, fmt, shape, axis)


def _rows(
    plan: Plan,
    salt: int,
    fmt: str,
    dtype: torch.dtype = torch.float32,
    *,
    axis: int = -1,
    rule: ScaleRule | None = None,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    nan_block: BlockRule = BlockRule.NAN_BLOCK,
    inf_block: BlockRule = BlockRule.NAN_BLOCK,
    nan: NanRule = NanRule.MAX,
    int_range: IntRange = IntRange.RESTRICTED,
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE,
    tensor_scale: float | None = None,
    placement: Placement = Placement.PLAIN,
) -> Case:
    def draw() -> Arguments:
        source = _block(fmt)
        generator = plan.generator(salt)
        # The last block is shorter, and the one before it is whole.
        x = hard_rows(source.element, dtype, source.block_size, generator)
        order = torch.randperm(x.shape[0], generator=generator)
        x = torch.cat([x, x[order][:, : source.block_size // 2 + 1]], 1)
        # All of the threshold rows at higher levels, a sample of them and all others at lower ones.
        if plan.level < 2 and x.shape[0] > _MOST_ROWS:
            kept = torch.randperm(x.shape[0] - 60, generator=generator)[: _MOST_ROWS - 60]
            x = torch.cat([x[kept], x[-60:]])
        if axis == -2:
            x = x.T.contiguous()
        found: dict[str, object] = {
            "x": x,
            "fmt": fmt,
            "axis": axis,
            "rounding": rounding,
            "overflow": overflow,
            "nan_block": nan_block,
            "inf_block": inf_block,
            "nan": nan,
            "int_range": int_range,
            "arithmetic": arithmetic,
        }
        if rule is not None:
            found["rule"] = rule
        if tensor_scale is not None:
            found["tensor_scale"] = torch.tensor(tensor_scale)
        if rounding is Rounding.STOCHASTIC:
            found["random_bits"] = torch.randint(0, 256, x.shape, generator=generator).to(torch.uint8)
        return found

    named = (rule, rounding, overflow, nan_block, inf_block, nan, int_range, arithmetic)
    modes = "/".join("default" if mode is None else str(mode.value) for mode in named)
    kind = f"{fmt}/{str(dtype).removeprefix('torch.')}/axis{axis}"
    name = f"{kind}/{modes}/{tensor_scale}/{salt}/{plan.seed}"
    return Case(op="quantize_mx", generator="blocks", name=name, level=plan.level, draw=draw, placement=placement)


def _scaled_ties(plan: Plan, salt: int, fmt: str, arithmetic: ScaleArithmetic) -> Case:
    """Elements at, just below and just above midpoints times scales that are no powers of two.

    Here a division and a product with a reciprocal round to different sides. The first element of a block is the
    largest value times the scale of the block, for every finite scale.
    """

    def draw() -> Arguments:
        source = _block(fmt)
        generator = plan.generator(salt + 77)
        element = torch.tensor(source.element.values, dtype=torch.float64).abs().unique()
        middle = (element[1:] + element[:-1]) / 2
        scales = torch.tensor(source.scale.values, dtype=torch.float64)
        scales = scales[scales.isfinite() & (scales > 0)].repeat(8)
        whole = torch.tensor(0.0371).to(torch.float64)
        picked = middle[torch.randint(0, middle.numel(), (scales.numel(), source.block_size), generator=generator)]
        picked[:, 0] = element[-1]
        x = (picked * scales.unsqueeze(1) * whole).to(torch.float32)
        step = torch.randint(-1, 2, x.shape, generator=generator, dtype=torch.int32)
        step[:, 0] = 0
        x = (x.view(torch.int32) + step).view(torch.float32)
        return {"x": x, "fmt": fmt, "arithmetic": arithmetic, "tensor_scale": whole.to(torch.float32)}

    name = f"{fmt}/{arithmetic.value}/{salt}/{plan.seed}"
    return Case(op="quantize_mx", generator="ties", name=name, level=plan.level, draw=draw)


def _shaped(plan: Plan, salt: int, fmt: str, shape: tuple[int, ...], axis: int) -> Case:
    def draw() -> Arguments:
        x = torch.randn(shape, generator=plan.generator(salt)) * 3
        return {"x": x, "fmt": fmt, "axis": axis}

    name = f"{fmt}/{'x'.join(map(str, shape))}/axis{axis}/{salt}/{plan.seed}"
    return Case(op="quantize_mx", generator="shape", name=name, level=plan.level, draw=draw)


def dequantize_mx_cases(plan: Plan) -> Iterator[Case]:
    """Every code under every scale code, to every dtype."""
    if plan.level == 0:
        for fmt in ("mxfp8_e4m3", "mxfp4", "nvfp4"):
            yield _back(plan, fmt, torch.float32, -1)
        yield _back(plan, "mxfp4", torch.float32, -1, placement=Placement.REUSED)
        return
    for fmt in BLOCK_FORMATS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            for axis in (-1, -2):
                yield _back(plan, fmt, dtype, axis)
    for placement in Placement:
        for axis in (-1, -2):
            yield _back(plan, "mxfp4", torch.float32, axis, placement=placement)
            yield _back(plan, "mxfp8_e4m3", torch.float32, axis, placement=placement)
    for shape in ((0,), (1,), (33,), (2, 0), (2, 3, 31)):
        yield _back_shaped(plan, shape)


def _back(plan: Plan, fmt: str, dtype: torch.dtype, axis: int, *, placement: Placement = Placement.PLAIN) -> Case:
    def draw() -> Arguments:
        source = _block(fmt)
        generator = plan.generator(700 + plan.level)
        codes = all_codes(source.element)
        rows, width = source.scale.num_codes, source.block_size
        # A row for every scale code; a code at random in every place, the scale code of the second block at random.
        values = codes[torch.randint(0, codes.numel(), (rows, width + width // 2), generator=generator)]
        scale = torch.arange(rows).unsqueeze(1)
        scale = torch.cat([scale, torch.randint(0, rows, (rows, 1), generator=generator)], 1).to(torch.uint8)
        if axis == -2:
            values, scale = values.T.contiguous(), scale.T.contiguous()
        found: dict[str, object] = {"codes": values, "scale": scale, "fmt": fmt, "axis": axis, "dtype": dtype}
        if source.has_tensor_scale:
            found["tensor_scale"] = torch.tensor(0.0317)
        return found

    name = f"{fmt}/{str(dtype).removeprefix('torch.')}/axis{axis}/{plan.level}/{plan.seed}"
    return Case(op="dequantize_mx", generator="codes", name=name, level=plan.level, draw=draw, placement=placement)


def _back_shaped(plan: Plan, shape: tuple[int, ...]) -> Case:
    def draw() -> Arguments:
        codes = torch.randint(0, 16, shape, generator=plan.generator(5)).to(torch.uint8)
        scale = torch.full((*shape[:-1], -(-shape[-1] // 32)), 126, dtype=torch.uint8)
        return {"codes": codes, "scale": scale, "fmt": "mxfp4"}

    name = f"{'x'.join(map(str, shape))}/{plan.level}/{plan.seed}"
    return Case(op="dequantize_mx", generator="shape", name=name, level=plan.level, draw=draw)
