"""Says what a product of matrices is inside: its accumulator, by models that are tried, and the order of its scales."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.conformance.case import argument_text
from incref.conformance.comparison import as_results
from incref.conformance.identification import Difference, Identification
from incref.conformance.implementation import Candidate
from incref.conformance.integer_sums import probe_integers
from incref.conformance.judge import bits_of
from incref.conformance.probe_accumulator import MOST_BITS, Measured, probe_accumulator
from incref.conformance.product_sums import SUMS, Sums, sums_of
from incref.formats import FORMATS, FloatFormat, ScaleOrder
from incref.numerics.accumulate.evaluate import accumulate_rows
from incref.numerics.accumulate.models import Accumulator, Aligned, Pairwise, Sequential, SplitK
from incref.numerics.accumulate.table import MACHINES
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import matmul_rounded
from incref.ops import encode
from incref.ops.table import OPS

__all__ = ["PRODUCTS", "identify_product"]

PRODUCTS = (*SUMS, "int8_matmul")
"""Operations that are products."""

_LENGTH = 288
_COUNTS = (2, 3, 4, 6, 8, 16, 32, 64, 128, _LENGTH)
_EACH = 16
_SPREAD = 13
_BLOCK = 32
_PARTS = (2, 3, 4, 8)
_SHOWN = 4
_SCALES = 6


def identify_product(candidate: Candidate, fmt: str) -> Identification:
    """Find the accumulator whose sums a product of matrices gives, and the order in which its scales enter.

    Args:
        candidate: of a product; it is called without the options that are asked for.
        fmt: of the factors: an 8-bit float for `fp8_matmul`, `fp8_bmm` and `fp8_conv2d`, blocks of floats for
            `mx_matmul`; of the activations for others: int8 or uint8, or float32, bfloat16 or float16.

    Raises:
        ValueError: for another operation or format.
    """
    if candidate.op == "int8_matmul":
        return _integers(candidate, fmt)
    sums = sums_of(candidate, fmt)
    measured = _measured(sums)
    x, w = _rows(sums)
    got = sums.of_factors(x, w)
    answers = {name: _evaluate(model, x, w, layout) for name, (model, layout) in _models(sums, measured).items()}
    wrong = {name: int(_differs(got, one).sum()) for name, one in answers.items()}
    best = min(wrong.values())
    matching = [name for name, count in wrong.items() if count == best]
    order, orders, differences = _order(candidate, fmt)
    return Identification(
        op=candidate.op,
        fmt=sums.fmt,
        options={
            **_described(measured),
            "accumulator": matching[0],
            **_nearest(wrong, best, got.numel()),
            **({} if order is None else {"order": order}),
        },
        undecided={
            **({"accumulator": tuple(matching[1:])} if matching[1:] else {}),
            **({"order": orders} if orders else {}),
        },
        mismatches=best,
        total=got.numel(),
        preset=tuple(name for name in matching if name in MACHINES) if best == 0 else (),
        differences=(*_told_apart(x, w, got, answers, matching), *differences),
        first_unexplained=_unexplained(x, w, got, answers[matching[0]]),
    )


def _nearest(wrong: Mapping[str, int], best: int, total: int) -> dict[str, str]:
    """The machine that comes nearest, unless one explains all."""
    machines = {name: count for name, count in wrong.items() if name in MACHINES}
    if not machines or best == 0 == min(machines.values()):
        return {}
    name = min(machines, key=lambda one: machines[one])
    return {"nearest_machine": f"{name} ({machines[name]} of {total} sums differ)"}


@dataclass(frozen=True, kw_only=True)
class _Layouts:
    """The formats that a model takes the factors for."""

    x: FloatFormat
    w: FloatFormat


def _measured(sums: Sums) -> Measured | None:
    """What single sums show; None where the format has too few exponents, or they show no accumulator."""
    try:
        return probe_accumulator(sums.candidate, sums.fmt)
    except ValueError:
        return None


def _described(found: Measured | None) -> dict[str, str]:
    if found is None:
        return {}
    return {
        "bits": f"at least {found.bits}" if found.bits == MOST_BITS else str(found.bits),
        "rounding": "unknown" if found.rounding is None else found.rounding.value,
        "group": str(found.group),
        **({"summation": found.order} if found.order else {}),
    }


def _models(sums: Sums, measured: Measured | None) -> dict[str, tuple[Accumulator | None, _Layouts]]:
    """Accumulators by name, None being exact sums; with the formats that they see."""
    # Narrow elements have scales here, and with them more exponents.
    layout = float_format_of(torch.bfloat16) if sums.is_narrow else sums.layout
    own = _Layouts(x=layout, w=layout)
    found: dict[str, tuple[Accumulator | None, _Layouts]] = {
        "exact": (None, own),
        "sequential": (Sequential(), own),
        "sequential_fused": (Sequential(is_fused=True), own),
        "pairwise": (Pairwise(), own),
    }
    for parts in _PARTS:
        model = SplitK(inner=Sequential(is_fused=True), parts=parts)
        found[f"sequential_fused in {parts} parts of K"] = (model, own)
    for name, row in MACHINES.items():
        layouts = [FORMATS[one] for one in row.formats if one in FORMATS]
        fitting = next((one for one in layouts if isinstance(one, FloatFormat) and _holds(one, layout)), None)
        if row.model is not None and fitting is not None:
            found[name] = (row.model, _Layouts(x=fitting, w=fitting))
    if measured is not None and measured.group > 1 and measured.rounding is not None:
        aligned = Aligned(
            group=measured.group,
            fraction_bits=measured.bits,
            result_bits=min(measured.bits, 23),
            term_rounding=measured.rounding,
            result_rounding=measured.rounding,
        )
        if all(aligned != other for other, _ in found.values()):
            found[f"groups of {measured.group}, as measured"] = (aligned, own)
    return found


def _holds(fmt: FloatFormat, other: FloatFormat) -> bool:
    """Whether every value of `other` is one of `fmt`."""
    least = [one.emin - one.mantissa_bits for one in (fmt, other)]
    return fmt.mantissa_bits >= other.mantissa_bits and fmt.emax >= other.emax and least[0] <= least[1]


def _rows(sums: Sums) -> tuple[Tensor, Tensor]:
    """Factors of few products first, then of more, at any places and of many exponents."""
    generator = torch.Generator().manual_seed(0)
    fmt = sums.layout
    low, high = max(fmt.emin, -_SPREAD), min(fmt.emax - 1, _SPREAD)
    rows = len(_COUNTS) * _EACH

    def draw(*, is_weight: bool) -> Tensor:
        fraction = 1 + torch.rand(rows, _LENGTH, generator=generator)
        exponent = torch.randint(low, high + 1, (rows, _LENGTH), generator=generator)
        sign = torch.randint(0, 2, (rows, _LENGTH), generator=generator) * 2.0 - 1
        if is_weight and sums.has_weights_of_one:
            return torch.randint(-127, 128, (rows, _LENGTH), generator=generator).to(torch.float32)
        values = _rounded(sign * torch.ldexp(fraction, exponent), fmt)
        if not sums.is_narrow:
            return values
        blocks = torch.randint(-_SPREAD // 2, _SPREAD // 2 + 1, (rows, _LENGTH // _BLOCK), generator=generator)
        return torch.ldexp(values, blocks.repeat_interleave(_BLOCK, 1))

    x, w = draw(is_weight=False), draw(is_weight=True)
    places = torch.rand(rows, _LENGTH, generator=generator).argsort(-1).argsort(-1)
    counts = torch.tensor(_COUNTS).repeat_interleave(_EACH).unsqueeze(-1)
    # Half of the short rows lie within one group of any unit.
    is_near = (torch.arange(rows) % 2 == 0).unsqueeze(-1)
    order = torch.where(is_near, torch.arange(_LENGTH).expand(rows, -1), places)
    return torch.where(order < counts, x, 0.0), torch.where(order < counts, w, 0.0)


def _rounded(x: Tensor, fmt: FloatFormat) -> Tensor:
    codes = encode(x, fmt)
    found: Tensor = OPS["decode"].reference(codes, fmt)
    return found


def _evaluate(model: Accumulator | None, x: Tensor, w: Tensor, layouts: _Layouts) -> Tensor:
    if model is None:
        return matmul_rounded(x.to(torch.float64), w.to(torch.float64), bias=None, dtype=torch.float32).diagonal()
    return accumulate_rows(x, w, layouts.x, layouts.w, model)


def _differs(got: Tensor, want: Tensor) -> Tensor:
    """Whether bits differ, signs of zeros apart."""
    found: Tensor = bits_of(got + 0.0) != bits_of(want + 0.0)
    return found & ~(got.isnan() & want.isnan())


def _told_apart(
    x: Tensor, w: Tensor, got: Tensor, answers: Mapping[str, Tensor], matching: list[str]
) -> Iterator[Difference]:
    """For every other model the shortest row of which it gives another sum than what came."""
    for name, would_be in answers.items():
        if name in matching:
            continue
        row = int(_differs(got, would_be).nonzero()[0])
        yield Difference(
            option="accumulator",
            other=name,
            place=(row,),
            given=_sum_text(x[row], w[row]),
            got=repr(float(got[row])),
            would_be=repr(float(would_be[row])),
        )


def _unexplained(x: Tensor, w: Tensor, got: Tensor, want: Tensor) -> str:
    wrong = _differs(got, want).nonzero()
    if not len(wrong):
        return ""
    row = int(wrong[0])
    return f"{_sum_text(x[row], w[row])} gives {float(got[row])!r}, not {float(want[row])!r}"


def _sum_text(x: Tensor, w: Tensor) -> str:
    """A sum of products with the place of each along K."""
    places = (x * w).nonzero().flatten().tolist()
    shown = [f"{float(x[k])!r} * {float(w[k])!r} at {k}" for k in places[:_SHOWN]]
    return " + ".join(shown) + (f" + {len(places) - len(shown)} more" if len(places) > len(shown) else "")


def _integers(candidate: Candidate, fmt: str) -> Identification:
    found = probe_integers(candidate, fmt)
    order, orders, differences = _order(candidate, fmt)
    return Identification(
        op=candidate.op,
        fmt=fmt,
        options={
            "accumulator": found.width or "unknown",
            "beyond": found.beyond,
            **({} if order is None else {"order": order}),
        },
        undecided={"order": orders} if orders else {},
        mismatches=0 if found.width else found.wrong,
        total=found.total,
        preset=(),
        differences=(*found.ruled_out, *differences),
        first_unexplained="" if found.width else found.first,
    )


def _order(candidate: Candidate, fmt: str) -> tuple[str | None, tuple[str, ...], list[Difference]]:
    """Which order of the scales explains scaled sums of small integers; others as good; what rules the rest out.

    None for operations without scales of both factors, and where scales are refused.
    """
    if candidate.op not in ("fp8_matmul", "fp8_conv2d", "int8_matmul"):
        return None, (), []
    right, ruled_out = list(ScaleOrder), list[Difference]()
    for seed in range(_SCALES):
        found = _asked(candidate, fmt, torch.Generator().manual_seed(seed))
        if found is None:
            return None, (), []
        arguments, got = found
        for order in tuple(right):
            want = as_results(OPS[candidate.op].reference(**arguments, order=order))[0]
            wrong = (got != want).nonzero()
            if len(wrong):
                right.remove(order)
                ruled_out.append(_order_differs(candidate, arguments, order, tuple(wrong[0].tolist()), got, want))
    if not right:
        return "none that is known", (), ruled_out
    return argument_text(right[0]), tuple(argument_text(one) for one in right[1:]), ruled_out


def _asked(candidate: Candidate, fmt: str, generator: torch.Generator) -> tuple[dict[str, object], Tensor] | None:
    """Small integers, whose sums any accumulator holds, with scales that are no powers of two; and the answer.

    Scales are of tensors, or of rows where those are refused; None if both are.
    """
    drawn = [torch.randint(-2, 3, (rows, 24), generator=generator).to(torch.float32) for rows in (24, 16)]
    for granularity in (PER_TENSOR, PER_TOKEN) if candidate.op != "fp8_conv2d" else (PER_TENSOR,):
        found: dict[str, object] = {"dtype": torch.float32}
        for side, values in zip(("x", "w"), drawn, strict=True):
            shape = (len(values), 1) if granularity == PER_TOKEN else ()
            found[f"{side}_scale"] = torch.rand(shape, generator=generator) * 0.09 + 0.01
            found[side] = _codes(candidate.op, fmt if side == "x" else "int8", values, fmt)
            if candidate.op != "int8_matmul":
                found[f"{side}_fmt"] = fmt
            if candidate.op != "fp8_conv2d":
                found[f"{side}_granularity"] = granularity
        with suppress(Exception):  # a kernel may refuse a granularity by anything
            return found, as_results(candidate.call(found))[0]
    return None


def _codes(op: str, integers: str, values: Tensor, fmt: str) -> Tensor:
    if op == "int8_matmul":
        return values.abs().to(torch.uint8) if integers == "uint8" else values.to(torch.int8)
    codes = encode(values, fmt)
    return codes[:, :, None, None] if op == "fp8_conv2d" else codes


def _order_differs(  # noqa: PLR0917  # a question and two answers
    candidate: Candidate,
    arguments: Mapping[str, object],
    order: ScaleOrder,
    place: tuple[int, ...],
    got: Tensor,
    want: Tensor,
) -> Difference:
    scales = []
    for side, at in (("x", place[0]), ("w", place[1])):
        scale = arguments[f"{side}_scale"]
        assert isinstance(scale, Tensor)
        scales.append(float(scale if scale.ndim == 0 else scale[at, 0]))
    plain = {**arguments, "x_scale": None, "w_scale": None}
    acc = as_results(OPS[candidate.op].reference(**plain))[0]
    return Difference(
        option="order",
        other=argument_text(order),
        place=place,
        given=f"a sum of {float(acc[place]):g} with the scales {scales[0].hex()} and {scales[1].hex()}",
        got=float(got[place]).hex(),
        would_be=float(want[place]).hex(),
    )
