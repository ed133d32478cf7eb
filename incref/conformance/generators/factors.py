"""Draws the arguments of products in floating point: a weight, and what it is multiplied with."""

from collections.abc import Callable

import torch
from torch import Tensor

from incref.conformance.case import Arguments
from incref.conformance.generators.lefts import values_of_probe
from incref.conformance.generators.product_case import HALVES, plain_scales
from incref.conformance.plan import Plan
from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_group
from incref.ops import decode, dequantize_mx, encode

__all__ = ["Draw", "draw_fp8", "draw_mx", "draw_weight_only"]

_TOGETHER = 4
"""Rows that share a scale in blocks of several."""

Draw = Callable[[Plan, str, str, int], Arguments]
"""Draws the arguments of a plan, a kind, a probe and a length K."""


def draw_weight_only(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
    """Draw the arguments of `weight_only_matmul`: a kind of weight, a probe or "random", and K."""
    name, grouping, *more = kind.split("/")
    fmt, columns = FORMATS[name], 6
    generator = plan.generator(1000 + length + 7 * len(probe) + 13 * len(kind))
    step = 32
    groups = -(-length // step) if grouping != "row" else 1
    # Rows of a weight that share a scale.
    together = _TOGETHER if grouping == "block" else 1
    # A ladder needs a weight of ones; others powers of two as scales, of which one product is exact in any accumulator.
    is_ladder = probe == "ladder"
    found: dict[str, object] = {"fmt": name}
    if isinstance(fmt, BlockFormat):
        codes = _codes(fmt.element, (columns, length), generator, is_ladder=is_ladder, bits=plan.bits)
        scale = torch.full((columns, groups), 127, dtype=torch.uint8)
        if not is_ladder:
            scale += torch.randint(0, 2, scale.shape, generator=generator).to(torch.uint8)
        found |= {"w": codes, "scale": scale}
        weight = dequantize_mx(codes, scale, name, dtype=torch.float64)
    else:
        codes = _codes(fmt, (columns, length), generator, is_ladder=is_ladder, bits=plan.bits)
        shape = (-(-columns // together), groups)
        scale = 2.0 ** torch.randint(0, 1 if is_ladder else 2, shape, generator=generator).float()
        if probe in ("random", "identity1", "identity-1"):
            scale = torch.rand(shape, generator=generator) * 0.1 + 0.01
        zero = None
        if more and isinstance(fmt, IntFormat):
            zero = torch.randint(fmt.min_code, fmt.max_code + 1, scale.shape, generator=generator, dtype=torch.int32)
            if is_ladder:
                zero = torch.full_like(zero, int(codes.flatten()[0]) - 1)
        found |= {"w": codes, "scale": scale}
        if zero is not None:
            found["zero_point"] = zero
        g_idx = torch.arange(length) // step if grouping != "row" else torch.zeros(length, dtype=torch.int64)
        if grouping == "g_idx":
            g_idx = g_idx[torch.randperm(length, generator=generator)]
            found["g_idx"] = g_idx.to(torch.int32)
        else:
            found["granularity"] = _granularity(grouping, step)
        values = codes.double() if isinstance(fmt, IntFormat) else decode(codes, name, dtype=torch.float64)
        row = torch.arange(columns)[:, None] // together
        offset = 0 if zero is None else zero[row, g_idx].double()
        weight = (values - offset) * scale[row, g_idx].double()
    dtype = torch.float32 if is_ladder else HALVES[(length + len(kind)) % 3]
    # A one-hot row takes any scale; sums of more need the weight to be exact in its dtype.
    exact = weight.to(dtype).double()
    x = values_of_probe(plan, probe, exact, step, generator)
    found |= {"x": x.to(dtype), "dtype": torch.float32}
    if probe.startswith("signs") and plan.bits >= 20:
        found["bias"] = torch.randint(-8, 9, (columns,), generator=generator).float()
    return found


def _granularity(grouping: str, step: int) -> Granularity:
    """What shares a scale; those that have none are given none."""
    found = {"row": PER_TOKEN, "group32": per_group(step), "block": per_block((_TOGETHER, step))}
    return found.get(grouping, PER_TENSOR)


def _codes(
    fmt: FloatFormat | IntFormat | object,
    shape: tuple[int, int],
    generator: torch.Generator,
    *,
    is_ladder: bool,
    bits: int,
) -> Tensor:
    """Codes of a weight: of 1 for a ladder, else of integers small enough for the accumulator."""
    if isinstance(fmt, IntFormat):
        ones = torch.ones(shape, dtype=torch.int64) << fmt.fraction_bits
        narrow = min(fmt.max_code, (1 << max(bits - 4, 2)) - 1)
        low = fmt.min_code if bits >= 13 else max(fmt.min_code, -narrow)
        codes = torch.randint(low, (fmt.max_code if bits >= 13 else narrow) + 1, shape, generator=generator)
        dtype = torch.int8 if fmt.is_signed else torch.uint8
        return (ones if is_ladder else codes).to(dtype)
    if is_ladder:
        values = torch.ones(shape)
    elif isinstance(fmt, FloatFormat):
        values = torch.randint(-4, 5, shape, generator=generator).float() / 2
    else:
        values = torch.randint(-1, 2, shape, generator=generator).float()
    return encode(values, fmt)  # type: ignore[arg-type]


def draw_fp8(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
    """Draw the arguments of `fp8_matmul`: a kind of weight, a probe or "random", and K."""
    name, grouping = kind.split("/")
    generator = plan.generator(1100 + length + 7 * len(probe) + 13 * len(kind))
    columns, step = 6, 32
    granularity = _granularity(grouping, step)
    is_ladder, has_groups = probe == "ladder", grouping in ("group32", "block")
    if probe == "random":
        weight = torch.randn(columns, length, generator=generator)
    elif is_ladder:
        weight = torch.ones(columns, length)
    else:
        weight = torch.randint(-4, 5, (columns, length), generator=generator).float() / 2
    w = encode(weight, name)
    values = decode(w, name, dtype=torch.float64)
    left = values_of_probe(plan, probe, values, step, generator)
    if is_ladder:
        # 2**bits is beyond these formats, so both factors have a part of it, at the same places.
        return _split_ladder(left, name, plan.bits)
    x = encode(left, name)
    found: dict[str, object] = {"x": x, "w": w, "x_fmt": name, "w_fmt": name, "x_scale": None, "w_scale": None}
    if grouping != "none":
        is_general = not has_groups or probe == "random"
        for side, rows in (("x", x.shape[0]), ("w", columns)):
            shape = granularity.scale_shape((rows, length))
            powers = 2.0 ** torch.randint(0, 2, shape, generator=generator).float()
            found[f"{side}_scale"] = plain_scales(shape, generator) if is_general else powers
            found[f"{side}_granularity"] = granularity
    if probe == "random" and has_groups:
        found["x_scale"], found["w_scale"] = None, None
        found["x_granularity"] = found["w_granularity"] = PER_TENSOR
    found["dtype"] = torch.float32 if grouping == "none" else HALVES[length % 3]
    return found


def _split_ladder(left: Tensor, name: str, bits: int) -> Arguments:
    """Make a ladder of two factors whose products are those of `left`: one column of the weight for each row of it."""
    most = bits // 2
    size = left.abs()
    rest = bits - most
    x = torch.where(size > 1, left.sign() * 2.0**most, left)
    w = torch.where(size > 1, 2.0**rest, torch.where(size == 1, 1.0, 0.0))
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    shift = max(0, max(most, rest) - fmt.emax)
    # All of it moved down, where the powers do not fit otherwise.
    return {
        "x": encode(x * 2.0**-shift, name),
        "w": encode(w * 2.0**-shift, name),
        "x_fmt": name,
        "w_fmt": name,
        "x_scale": None,
        "w_scale": None,
        "dtype": torch.float32,
    }


def draw_mx(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
    """Draw the arguments of `mx_matmul`: a kind of weight, a probe or "random", and K."""
    fmt = FORMATS[kind]
    assert isinstance(fmt, BlockFormat)
    generator = plan.generator(1200 + length + 7 * len(probe) + 13 * len(kind))
    columns, blocks = 6, -(-length // fmt.block_size)
    is_ladder = probe == "ladder"
    if is_ladder:
        return _mx_ladder(length, plan.bits, kind)
    # One product alone is exact whatever its scale; sums of several need scales near one another.
    spread = {"identity1": 60, "identity-1": 4, "random": 4}.get(probe, 1)
    w_scale = (127 + torch.randint(-spread, spread + 1, (columns, blocks), generator=generator)).to(torch.uint8)
    if probe == "random":
        w = encode(torch.randn(columns, length, generator=generator).clamp(-1.5, 1.5), fmt.element)
    else:
        w = encode(torch.randint(-2, 3, (columns, length), generator=generator).float() / 2, fmt.element)
    values = dequantize_mx(w, w_scale, kind, dtype=torch.float64)
    left = values_of_probe(plan, probe, values, fmt.block_size, generator)
    if left.isnan().any():
        # Formats of blocks have their NaN in the scale.
        x_scale = torch.where(_blockwise(left.isnan(), fmt.block_size), 255, 127).to(torch.uint8)
        x = encode(left.nan_to_num(0.0), fmt.element)
    else:
        x_scale = torch.full((left.shape[0], blocks), 127, dtype=torch.uint8)
        x = encode(left.clamp(-1.5, 1.5), fmt.element)
    return {"x": x, "w": w, "x_scale": x_scale, "w_scale": w_scale, "x_fmt": kind, "w_fmt": kind}


def _blockwise(is_there: Tensor, size: int) -> Tensor:
    """Whether there is one in a block."""
    filled = torch.nn.functional.pad(is_there, (0, -is_there.shape[1] % size))
    found: Tensor = filled.unflatten(1, (-1, size)).any(-1)
    return found


def _mx_ladder(length: int, bits: int, kind: str) -> Arguments:
    """A ladder across blocks, whose steps are made by the scales: elements are 1, 0 and -1."""
    fmt = FORMATS[kind]
    assert isinstance(fmt, BlockFormat)
    size, blocks = fmt.block_size, -(-length // fmt.block_size)
    rows = []
    scales = []
    for first in range(blocks):
        for middle in range(blocks):
            if first == middle:
                continue
            row, scale = torch.zeros(length), torch.full((blocks,), 127)
            last = min((first + 1) * size, length) - 1
            row[first * size], row[last] = 1.0, -1.0 if last != first * size else 0.0
            row[min(middle * size + size // 2, length - 1)] = 1.0
            scale[first] = 127 + bits
            rows.append(row)
            scales.append(scale)
    if not rows:
        rows, scales = [torch.eye(length)[0]], [torch.full((blocks,), 127)]
    x, x_scale = torch.stack(rows), torch.stack(scales).to(torch.uint8)
    # A block of one element can't cancel itself, so it is not large.
    lonely = (x != 0).sum(-1) < 3
    x_scale[lonely] = 127
    ones = torch.ones(1, length)
    return {
        "x": encode(x, fmt.element),
        "w": encode(ones, fmt.element),
        "x_scale": x_scale,
        "w_scale": torch.full((1, blocks), 127, dtype=torch.uint8),
        "x_fmt": kind,
        "w_fmt": kind,
    }
