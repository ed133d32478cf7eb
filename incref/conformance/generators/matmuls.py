"""Cases of matrix products: probes with one right answer for every order of the sum, and products with a bound.

A probe needs so many bits that no sum of some of its terms has more than the declared accumulator keeps (B0 in
`conformance/contracts/accumulation.md`); that is checked where it is drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from incref.conformance.allowed import Interval, allowed_sums, map_interval, round_interval
from incref.conformance.case import Arguments, Bounded, Case, Exact, Placement
from incref.conformance.declared import Declared
from incref.conformance.plan import Plan
from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat, ScaleOrder
from incref.numerics.accumulate.float_parts import last_bit_of
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_group
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import apply_scales
from incref.ops import decode, dequantize_affine, dequantize_mx, encode

__all__ = ["fp8_matmul_cases", "int8_matmul_cases", "mx_matmul_cases", "needed_bits", "weight_only_matmul_cases"]

Draw = Callable[[Plan, str, str, int], Arguments]
"""Draws the arguments of a plan, a kind, a probe and a length K."""

_HALVES = (torch.bfloat16, torch.float16, torch.float32)
_LENGTHS = (1, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 257)
_LONG = 100
"""From this number on, cases of integers have long sums of one sign."""


def needed_bits(x: Tensor, w: Tensor) -> int:
    """How many bits below its first an accumulator has to keep for every order of the sums to be exact.

    Args:
        x: finite float64 [M, K].
        w: finite float64 [N, K].
    """
    most = 0
    for row in x:
        product = row * w
        last = torch.where(product == 0, torch.inf, last_bit_of(product)).amin(-1)
        largest = torch.maximum(product.clamp(min=0).sum(-1), -product.clamp(max=0).sum(-1))
        ratio = torch.where(largest == 0, 1.0, largest / last)
        most = max(most, int(torch.frexp(ratio).exponent.max()) - 1)
    return most


def _edges(length: int, step: int) -> list[int]:
    """Places on both sides of every beginning of a group or a tile, and the ends."""
    steps = {edge + by for edge in range(0, length + 1, step) for by in (-1, 0, 1)}
    return sorted({0, length - 1, *(place for place in steps if 0 <= place < length)})


@dataclass(frozen=True, kw_only=True)
class _Left:
    """What a weight is multiplied with.

    Attributes:
        name: of the probe.
        values: float32 [M, K], of few bits.
        has_nan: whether one of them is NaN.
    """

    name: str
    values: Tensor
    has_nan: bool = False


def _lefts(weight: Tensor, step: int, plan: Plan, generator: torch.Generator) -> Iterator[_Left]:
    """List the left factors of a weight.

    Args:
        weight: float64 [N, K], finite.
        step: of groups along K.
        plan: says how many bits the accumulator keeps.
        generator: random numbers.
    """
    length = weight.shape[1]
    for factor in (1.0, -1.0, 0.5):
        yield _Left(name=f"identity{factor:g}", values=factor * torch.eye(length))
    edges = _edges(length, step)
    pairs = torch.zeros(2 * len(edges), length)
    for row, edge in enumerate(edges):
        pairs[2 * row, edge], pairs[2 * row, (edge + 1) % length] = 1.0, 1.0
        pairs[2 * row + 1, edge], pairs[2 * row + 1, length - 1 - edge] = 1.0, -1.0
    yield _Left(name="pairs", values=pairs)
    for count in (length, max(length // 4, 1)):
        signs = torch.randint(0, 2, (5, length), generator=generator) * 2.0 - 1
        order = torch.rand(5, length, generator=generator)
        order[:, edges] -= 0.25
        values = torch.where(order.argsort(-1).argsort(-1) < count, signs, 0.0)
        yield _Left(name=f"signs{count}", values=_thinned(values, weight, plan.bits))
    yield _Left(name="nan", values=_with_nan(length, generator), has_nan=True)


def _thinned(values: Tensor, weight: Tensor, bits: int) -> Tensor:
    """Take every second of the other terms out until the accumulator holds all sums."""
    kept = values.clone()
    while needed_bits(kept.double(), weight) > bits:
        for row in kept:
            places = row.nonzero().flatten()
            row[places[1:-1:2] if len(places) > 2 else places[:1]] = 0.0
    return kept


def _with_nan(length: int, generator: torch.Generator) -> Tensor:
    values = torch.zeros(3, length)
    values[:, 0] = 1.0
    values[1, int(torch.randint(0, length, (), generator=generator))] = torch.nan
    return values


def _ladder(length: int, bits: int, step: int) -> Tensor:
    """`2**bits, 1, -2**bits` at three places near edges; the factor of the weight is 1 everywhere."""
    edges = _edges(length, step)
    places = sorted({edges[0], *edges[1:4], edges[len(edges) // 2], *edges[-3:]})
    triples = [
        (places[i], places[j], places[k])
        for i in range(len(places))
        for j in range(i + 1, len(places))
        for k in range(j + 1, len(places))
    ]
    rows = torch.zeros(2 * len(triples), length)
    for row, (first, middle, last) in enumerate(triples):
        for at, (one, other) in enumerate(((first, last), (last, first))):
            rows[2 * row + at, one], rows[2 * row + at, other] = 2.0**bits, -(2.0**bits)
            rows[2 * row + at, middle] = 1.0
    return rows


def _case(
    plan: Plan,
    op: str,
    generator: str,
    name: str,
    draw: partial[Arguments],
    *,
    placement: Placement = Placement.PLAIN,
    expected: Exact | Bounded | None = None,
) -> Case:
    return Case(
        op=op,
        generator=generator,
        name=f"{name}/{plan.bits}bits/{plan.level}/{plan.seed}" if plan.bits else f"{name}/{plan.level}/{plan.seed}",
        level=plan.level,
        draw=draw,
        expected=expected or Exact(bits=plan.bits),
        placement=placement,
    )


def int8_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Full-range codes, sums that leave 16 and 24 bits, zero points, scales of every granularity, and biases."""
    if plan.level == 0:
        for kind in ("plain", "scaled", "extreme"):
            yield _case(plan, "int8_matmul", kind, "5x7x33", partial(_int8, plan, kind, (5, 7, 33), 0))
        draw = partial(_int8, plan, "scaled", (5, 7, 33), 1)
        yield _case(plan, "int8_matmul", "memory", "5x7x33", draw, placement=Placement.REUSED)
        return
    shapes = [(m, n, k) for k in _LENGTHS for m, n in ((1, 1), (3, 16), (17, 5))]
    shapes += [(0, 3, 8), (3, 0, 8), (3, 4, 0), (2, 2, 1025)]
    for i, shape in enumerate(shapes):
        for kind in ("plain", "scaled", "extreme"):
            for at in range(2 if plan.level == 1 else 12):
                name = f"{'x'.join(map(str, shape))}/{at}"
                yield _case(plan, "int8_matmul", kind, name, partial(_int8, plan, kind, shape, i + 5 * at))
    for at in range(_LONG, _LONG + 12):
        yield _case(plan, "int8_matmul", "long", f"{at}", partial(_int8, plan, "scaled", (4, 5, 2051), at))
    for placement in Placement:
        for at in range(4):
            draw = partial(_int8, plan, "scaled", (5, 16, 64), at)
            yield _case(plan, "int8_matmul", "memory", f"{at}", draw, placement=placement)


def _int8(plan: Plan, kind: str, shape: tuple[int, int, int], at: int) -> Arguments:
    m, n, k = shape
    generator = plan.generator(900 + 31 * m + 17 * n + k + 7 * at)
    is_unsigned = at % 3 == 1
    low, high = (0, 256) if is_unsigned else (-128, 128)
    x = torch.randint(low, high, (m, k), generator=generator)
    w = torch.randint(-128, 128, (n, k), generator=generator)
    if at >= _LONG:
        # Of one sign and large, so that sums have more bits than float32.
        x = torch.randint(high - 56, high, (m, k), generator=generator)
        w = torch.randint(-128, -99, (n, k), generator=generator)
    if kind == "extreme":
        # All of one sign, so that sums grow as fast as they can.
        x, w = torch.full((m, k), high - 1 if is_unsigned else low), torch.full((n, k), -128)
    found: dict[str, object] = {"x": x.to(torch.uint8 if is_unsigned else torch.int8), "w": w.to(torch.int8)}
    if kind != "scaled":
        if at % 2:
            found["x_zero_point"] = torch.tensor((low + high) // 2 + 3, dtype=torch.int32)
            found["w_zero_point"] = torch.tensor(-5, dtype=torch.int32)
        return found
    x_granularity, w_granularity = ((PER_TENSOR, PER_TOKEN)[bit] for bit in (at % 2, at // 2 % 2))
    orders = (ScaleOrder.X_THEN_W, ScaleOrder.PRODUCT, ScaleOrder.W_THEN_X, ScaleOrder.EXACT)
    found |= {
        "x_scale": _scales(x_granularity.scale_shape((m, k)), generator),
        "w_scale": _scales(w_granularity.scale_shape((n, k)), generator),
        "x_granularity": x_granularity,
        "w_granularity": w_granularity,
        "order": orders[at % 4],
        "dtype": _HALVES[at % 3],
    }
    if at % 3:
        shape_of_zero = x_granularity.scale_shape((m, k))
        found["x_zero_point"] = torch.randint(low, high, shape_of_zero, generator=generator, dtype=torch.int32)
    if at % 4 >= 2:
        shape_of_zero = w_granularity.scale_shape((n, k))
        found["w_zero_point"] = torch.randint(-128, 128, shape_of_zero, generator=generator, dtype=torch.int32)
    if at % 2 == 0:
        found["bias"] = torch.randn(n, generator=generator) * 100
    return found


def _scales(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 0.09 + 0.01


def weight_only_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products of weights in integers, floats and blocks, with groups, zero points and g_idx."""
    yield from _products(plan, "weight_only_matmul", _weight_only, _WEIGHTS)


def fp8_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products of scaled 8-bit floats."""
    yield from _products(plan, "fp8_matmul", _fp8, _FP8)


def mx_matmul_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products of blocks."""
    yield from _products(plan, "mx_matmul", _mx, _MX)


def _products(plan: Plan, op: str, draw: Draw, kinds: Sequence[str]) -> Iterator[Case]:
    if plan.level == 0:
        for kind in kinds[:2]:
            for probe in ("identity1", "signs_all", "ladder"):
                yield _case(plan, op, probe, f"{kind}/33", partial(draw, plan, kind, probe, 33))
        yield _bounded(plan, op, draw, kinds[0], 96)
        memory = partial(draw, plan, kinds[0], "identity1", 33)
        yield _case(plan, op, "memory", kinds[0], memory, placement=Placement.REUSED)
        return
    for kind in kinds:
        for length in _LENGTHS if plan.level == 1 else (*_LENGTHS, 512, 1000):
            for probe in _PROBES if length >= 3 else _PROBES[1:]:
                yield _case(plan, op, probe, f"{kind}/{length}", partial(draw, plan, kind, probe, length))
        for length in (33, 64, 96, 160) if plan.level == 1 else (64, 96, 129, 256, 512):
            yield _bounded(plan, op, draw, kind, length)
    for placement in Placement if plan.level == 1 else ():
        for kind in kinds[:3]:
            memory = partial(draw, plan, kind, "signs_all", 65)
            yield _case(plan, op, "memory", kind, memory, placement=placement)


def _bounded(plan: Plan, op: str, draw: Draw, kind: str, length: int) -> Case:
    allowed = {"weight_only_matmul": _allowed_weight_only, "fp8_matmul": _allowed_fp8, "mx_matmul": _allowed_mx}
    expected = Bounded(allowed=allowed[op])
    return _case(
        plan, op, "bounded", f"{kind}/{length}", partial(draw, plan, kind, "random", length), expected=expected
    )


def _left(plan: Plan, probe: str, weight: Tensor, step: int, generator: torch.Generator) -> Tensor:
    """The values of a probe, float32 [M, K]."""
    length = weight.shape[1]
    if probe == "random":
        return torch.randn(12, length, generator=generator)
    if probe == "ladder":
        return _ladder(length, plan.bits, step)
    named = {"signs_all": f"signs{length}", "signs_few": f"signs{max(length // 4, 1)}"}
    for left in _lefts(weight, step, plan, generator):
        if left.name == named.get(probe, probe):
            return left.values
    raise ValueError(f"no probe is called {probe!r}")


_PROBES = ("ladder", "identity1", "identity-1", "pairs", "signs_all", "signs_few", "nan")
"""The first needs three places."""

_WEIGHTS = (
    "uint4/group32/zero",
    "int8/row",
    "int4/group32",
    "uint4/g_idx/zero",
    "uint8/row/zero",
    "float8_e4m3fn/row",
    "mxfp4/block",
    "nf4/group32",
)
_FP8 = (
    "float8_e4m3fn/tensor",
    "float8_e5m2/row",
    "float8_e4m3fn/none",
    "float8_e4m3fn/group32",
    "float8_e4m3fnuz/row",
)
_MX = ("mxfp8_e4m3", "mxfp4", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxint8")


def _weight_only(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
    name, grouping, *more = kind.split("/")
    fmt, columns = FORMATS[name], 6
    generator = plan.generator(1000 + length + 7 * len(probe) + 13 * len(kind))
    step = 32
    groups = -(-length // step) if grouping != "row" else 1
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
        scale = 2.0 ** torch.randint(0, 1 if is_ladder else 2, (columns, groups), generator=generator).float()
        if probe in ("random", "identity1", "identity-1"):
            scale = torch.rand(columns, groups, generator=generator) * 0.1 + 0.01
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
            found["granularity"] = per_group(step) if grouping == "group32" else PER_TOKEN
        values = codes.double() if isinstance(fmt, IntFormat) else decode(codes, name, dtype=torch.float64)
        offset = 0 if zero is None else zero[:, g_idx].double()
        weight = (values - offset) * scale[:, g_idx].double()
    dtype = torch.float32 if is_ladder else _HALVES[(length + len(kind)) % 3]
    # A one-hot row takes any scale; sums of more need the weight to be exact in its dtype.
    exact = weight.to(dtype).double()
    x = _left(plan, probe, exact, step, generator)
    found |= {"x": x.to(dtype), "dtype": torch.float32}
    if probe.startswith("signs") and plan.bits >= 20:
        found["bias"] = torch.randint(-8, 9, (columns,), generator=generator).float()
    return found


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


def _fp8(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
    name, grouping = kind.split("/")
    generator = plan.generator(1100 + length + 7 * len(probe) + 13 * len(kind))
    columns, step = 6, 32
    granularities = {"tensor": PER_TENSOR, "row": PER_TOKEN, "group32": per_group(step), "none": PER_TENSOR}
    granularity = granularities[grouping]
    is_ladder = probe == "ladder"
    if probe == "random":
        weight = torch.randn(columns, length, generator=generator)
    elif is_ladder:
        weight = torch.ones(columns, length)
    else:
        weight = torch.randint(-4, 5, (columns, length), generator=generator).float() / 2
    w = encode(weight, name)
    values = decode(w, name, dtype=torch.float64)
    left = _left(plan, probe, values, step, generator)
    if is_ladder:
        # 2**bits is beyond these formats, so both factors have a part of it, at the same places.
        return _split_ladder(left, name, plan.bits)
    x = encode(left, name)
    found: dict[str, object] = {"x": x, "w": w, "x_fmt": name, "w_fmt": name, "x_scale": None, "w_scale": None}
    if grouping != "none":
        is_general = grouping != "group32" or probe == "random"
        for side, rows in (("x", x.shape[0]), ("w", columns)):
            shape = granularity.scale_shape((rows, length))
            powers = 2.0 ** torch.randint(0, 2, shape, generator=generator).float()
            found[f"{side}_scale"] = _scales(shape, generator) if is_general else powers
            found[f"{side}_granularity"] = granularity
    if probe == "random" and grouping == "group32":
        found["x_scale"], found["w_scale"] = None, None
        found["x_granularity"] = found["w_granularity"] = PER_TENSOR
    found["dtype"] = torch.float32 if grouping == "none" else _HALVES[length % 3]
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


def _mx(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
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
    left = _left(plan, probe, values, fmt.block_size, generator)
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


def _allowed_weight_only(arguments: Arguments, declared: Declared) -> Interval:
    x, w = arguments["x"], arguments["w"]
    scale, zero, g_idx = arguments["scale"], arguments.get("zero_point"), arguments.get("g_idx")
    fmt, granularity, dtype = arguments["fmt"], arguments.get("granularity", PER_TENSOR), arguments["dtype"]
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    assert isinstance(scale, Tensor)
    assert isinstance(fmt, str)
    assert isinstance(granularity, Granularity)
    assert isinstance(dtype, torch.dtype)
    assert zero is None or isinstance(zero, Tensor)
    if isinstance(g_idx, Tensor):
        scale, granularity = scale[:, g_idx], per_group(1)
        zero = None if zero is None else zero[:, g_idx]
    if isinstance(FORMATS[fmt], BlockFormat):
        weight = dequantize_mx(w, scale, fmt, dtype=x.dtype)
    elif isinstance(FORMATS[fmt], IntFormat):
        weight = dequantize_affine(w, scale, zero, granularity=granularity, dtype=x.dtype)
    else:
        values = decode(w, fmt)
        ones = torch.ones_like(w, dtype=torch.int8)
        factor = dequantize_affine(ones, scale, granularity=granularity)
        weight = (values * factor).to(x.dtype)
    layout = float_format_of(x.dtype)
    return round_interval(allowed_sums(x, weight, layout, layout, declared), dtype)


def _allowed_fp8(arguments: Arguments, declared: Declared) -> Interval:
    x, w, name, dtype = arguments["x"], arguments["w"], arguments["x_fmt"], arguments["dtype"]
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    assert isinstance(name, str)
    assert isinstance(dtype, torch.dtype)
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    sums = allowed_sums(decode(x, fmt), decode(w, fmt), fmt, fmt, declared)
    found = round_interval(sums, torch.float32)
    scales = [arguments["x_scale"], arguments["w_scale"]]
    if isinstance(scales[0], Tensor) and isinstance(scales[1], Tensor):
        left, right = scales[0], scales[1].T if scales[1].ndim else scales[1]
        found = map_interval(found, lambda acc: apply_scales(acc, left, right, ScaleOrder.PRODUCT))
    return map_interval(found, lambda value: value.to(dtype))


def _allowed_mx(arguments: Arguments, declared: Declared) -> Interval:
    values = []
    for side in ("x", "w"):
        codes, scale, name = arguments[side], arguments[f"{side}_scale"], arguments[f"{side}_fmt"]
        assert isinstance(codes, Tensor)
        assert isinstance(scale, Tensor)
        assert isinstance(name, str)
        values.append(dequantize_mx(codes, scale, name))
    layout = float_format_of(torch.float32)
    return round_interval(allowed_sums(values[0], values[1], layout, layout, declared), torch.float32)
