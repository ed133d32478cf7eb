"""Random products through a machine and through a model, compared bit for bit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conformance.accumulators.machine import Machine
from incref.formats import FloatFormat, NanRule, Overflow, Rounding
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import Accumulator, Aligned, Carry, Promoted, SplitK
from incref.ops.decode import decode
from incref.ops.encode import encode

__all__ = ["DISTRIBUTIONS", "Replay", "Sample", "best_of", "draw", "neighbours", "replay", "sample"]

DISTRIBUTIONS = ("normal", "codes", "outliers")
"""Normal values; every finite code as likely; normal values of which one in 32 is 64 times as large."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a machine made of random operands, or of a part of them.

    Attributes:
        label: how they were drawn.
        a: the rows that were kept, float32 [m, K].
        b: the columns that were kept, float32 [n, K].
        got: their products, float32 [m, n].
    """

    label: str
    a: Tensor
    b: Tensor
    got: Tensor

    def corner(self, side: int) -> "Sample":
        """The first rows and columns alone."""
        return Sample(
            label=self.label, a=self.a[:side].clone(), b=self.b[:side].clone(), got=self.got[:side, :side].clone()
        )


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How often a model gave the machine's bits.

    Attributes:
        label: of the sample.
        outputs: how many were compared.
        equal: how many were the same.
        first: the first others: row, column, the machine's bits, the model's.
    """

    label: str
    outputs: int
    equal: int
    first: tuple[tuple[int, int, str, str], ...]


def draw(kind: str, rows: int, length: int, fmt: FloatFormat, seed: int) -> Tensor:
    """Draw values of `fmt`, float32 [rows, length]; see `DISTRIBUTIONS`."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, length, generator=generator)
    if kind == "codes":
        # The exponent is uniform, as it is among codes; half of float32's exponents would overflow in products.
        least, most = max(fmt.emin - fmt.mantissa_bits, -60), min(fmt.emax, 60)
        power = torch.randint(least, most + 1, (rows, length), generator=generator)
        x = x.sign() * (1 + torch.rand(rows, length, generator=generator)) * torch.exp2(power.float())
    elif kind == "outliers":
        x = torch.where(torch.rand(rows, length, generator=generator) < 1 / 32, 64 * x, x)
    codes = encode(x, fmt, rounding=Rounding.NEAREST_EVEN, overflow=Overflow.SATURATE, nan=NanRule.ZERO)
    return decode(codes, fmt)


def sample(machine: Machine, kind: str, size: int, length: int, *, kept: int, seed: int) -> Sample:
    """Multiply random [size, K] operands on a machine and keep `kept` rows and columns, spread over all."""
    a = draw(kind, size, length, machine.a_fmt, seed)
    b = draw(kind, size, length, machine.b_fmt, seed + 1)
    places = torch.linspace(0, size - 1, kept).long()
    got = machine.product(a, b)[places][:, places]
    return Sample(label=f"{kind} {size}x{size}x{length}", a=a[places], b=b[places], got=got)


def replay(data: Sample, machine: Machine, model: Accumulator) -> Replay:
    """Compare a model with what a machine gave; NaNs count as equal."""
    want = accumulate(data.a, data.b, machine.a_fmt, machine.b_fmt, model)
    if getattr(machine, "out_dtype", torch.float32) is torch.bfloat16:
        want = want.to(torch.bfloat16).to(torch.float32)
    differs = (data.got.view(torch.int32) != want.view(torch.int32)) & ~(data.got.isnan() & want.isnan())
    first = tuple(
        (row, column, _hex(data.got[row, column]), _hex(want[row, column]))
        for row, column in differs.nonzero()[:3].tolist()
    )
    return Replay(label=data.label, outputs=want.numel(), equal=want.numel() - int(differs.sum()), first=first)


def _hex(x: Tensor) -> str:
    return f"{int(x.view(torch.int32)) & 0xFFFFFFFF:08x}"


def neighbours(model: Accumulator, length: int) -> Iterator[Accumulator]:
    """List models that differ from `model` in one or two respects: what it might be if it is not quite right."""
    inner = model if isinstance(model, Aligned) else getattr(model, "inner", None)
    if not isinstance(inner, Aligned):
        return
    variants = [inner]
    variants += [replace(inner, group=group) for group in (inner.group // 2, inner.group * 2) if group]
    variants += [replace(inner, fraction_bits=inner.fraction_bits + more) for more in (-1, 1, 2)]
    variants += [replace(inner, result_bits=bits) for bits in {inner.fraction_bits, 13, 23} if bits <= 23]
    variants += [replace(inner, result_rounding=mode) for mode in (Rounding.TOWARD_ZERO, Rounding.NEAREST_EVEN)]
    variants += [replace(inner, carry=carry) for carry in (Carry.ALIGNED, Carry.ADDED)]
    for variant in dict.fromkeys(variants):
        yield variant
        stretches = [every for every in (32, 64, 128, 256, 512) if every % variant.group == 0 and every < length]
        yield from (Promoted(inner=variant, every=every) for every in stretches)
    for parts in (2, 3, 4, 5, 6, 7, 8, 12, 16):
        for tile in (32, 64, 128):
            if parts * tile <= length:
                yield SplitK(inner=inner, parts=parts, tile=tile)
                if 128 % inner.group == 0:
                    yield SplitK(inner=Promoted(inner=inner, every=128), parts=parts, tile=tile)


def best_of(
    data: Sample, machine: Machine, models: Iterable[Accumulator], *, side: int = 16
) -> tuple[Accumulator, Replay]:
    """Find the model that gives most of the machine's bits, on a corner of the sample, and replay it on all of it."""
    corner = data.corner(side)
    tried = list(dict.fromkeys(models))
    best = max(tried, key=lambda model: replay(corner, machine, model).equal)
    return best, replay(data, machine, best)
