"""Probes have one answer: right accumulators of every kind give it, and faults do not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from incref.conformance.judge import assert_same_bits
from incref.conformance.probes import Probe, gemm_probes, guarded, identity, ladder, nan_rows, small_integers, surround
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import (
    Accumulator,
    Aligned,
    AlignTo,
    Carry,
    Pairwise,
    Promoted,
    Sequential,
    SplitK,
)

BF16 = FORMATS["bfloat16"]
assert isinstance(BF16, FloatFormat)
NARROW = Aligned(group=32, fraction_bits=13, result_bits=13)
RIGHT: list[Accumulator] = [
    Sequential(),
    Sequential(is_fused=True),
    Pairwise(),
    SplitK(inner=Pairwise(), parts=5),
    NARROW,
    replace(NARROW, group=5, align_to=AlignTo.PRODUCTS, carry=Carry.ADDED),
    replace(NARROW, term_rounding=Rounding.TOWARD_NEGATIVE, result_rounding=Rounding.NEAREST_EVEN, flushes=True),
    Promoted(inner=NARROW, every=64),
    SplitK(inner=NARROW, parts=3, tile=32),
]
PROBES = [
    probe
    for shape, edges in (((5, 7, 200), (32, 64, 128)), ((3, 4, 1000), (512,)), ((1, 1, 3), ()), ((2, 2, 1), ()))
    for probe in gemm_probes(*shape, bits=13, edges=edges)
]


@pytest.mark.parametrize("model", RIGHT, ids=str)
def test_right_accumulators_pass(model: Accumulator) -> None:
    for probe in PROBES:
        got = accumulate(probe.x, probe.w, BF16, BF16, model)
        assert_same_bits(got + 0.0, probe.want, note=probe.name)


def test_probes_need_no_more_bits_than_they_say() -> None:
    assert all(probe.bits <= 13 for probe in PROBES)
    assert [ladder(8, bits, range(3)).bits for bits in (7, 10, 13, 23)] == [7, 10, 13, 23]
    for length in (10, 500, 5000):
        assert all(small_integers(4, 4, length, bits).bits <= bits for bits in (7, 10, 13))


Fault = Callable[[Tensor, Tensor], Tensor]


def float32(x: Tensor, w: Tensor) -> Tensor:
    return accumulate(x, w, BF16, BF16, Sequential())


def drops_last(x: Tensor, w: Tensor) -> Tensor:
    return float32(x[:, :-1], w[:, :-1])


def drops_tail(x: Tensor, w: Tensor) -> Tensor:
    whole = 32 * (x.shape[1] // 32)
    return float32(x[:, :whole], w[:, :whole])


def swaps_neighbours(x: Tensor, w: Tensor) -> Tensor:
    order = torch.arange(w.shape[1]).view(-1, 2).flip(1).flatten()
    return float32(x, w[:, order])


def doubles_a_group(x: Tensor, w: Tensor) -> Tensor:
    scale = torch.ones(w.shape[1])
    scale[32:64] = 2
    return float32(x, w * scale)


def repeats_an_edge(x: Tensor, w: Tensor) -> Tensor:
    return float32(torch.cat([x, x[:, 64:65]], 1), torch.cat([w, w[:, 64:65]], 1))


def has_few_bits(x: Tensor, w: Tensor) -> Tensor:
    return accumulate(x, w, BF16, BF16, replace(NARROW, fraction_bits=12))


def shortens_sums(x: Tensor, w: Tensor) -> Tensor:
    return accumulate(x, w, BF16, BF16, replace(NARROW, result_bits=10))


def forgets_the_sign(x: Tensor, w: Tensor) -> Tensor:
    return float32(x.abs(), w)


def drops_nan(x: Tensor, w: Tensor) -> Tensor:
    return float32(x.nan_to_num(0.0), w.nan_to_num(0.0))


def spreads_nan(x: Tensor, w: Tensor) -> Tensor:
    found = float32(x, w)
    return found + found.roll(1, 0) * 0


@pytest.mark.parametrize(
    "fault",
    [
        drops_last,
        drops_tail,
        swaps_neighbours,
        doubles_a_group,
        repeats_an_edge,
        has_few_bits,
        shortens_sums,
        forgets_the_sign,
        drops_nan,
        spreads_nan,
    ],
    ids=lambda fault: fault.__name__,
)
def test_faults_are_caught(fault: Fault) -> None:
    def passes(probe: Probe) -> bool:
        got = fault(probe.x, probe.w)
        return torch.equal(got.nan_to_num(12345.0), probe.want.nan_to_num(12345.0))

    assert not all(passes(probe) for probe in gemm_probes(5, 7, 200, bits=13, edges=(32, 64, 128)))


def test_identity_reads_every_weight() -> None:
    weight = torch.arange(12.0).view(3, 4)
    assert_same_bits(identity(weight, factor=-1.0).want, -weight.T + 0.0)


def test_nan_is_in_one_row_and_one_column() -> None:
    probe = nan_rows(4, 5, 6)
    assert int(probe.want.isnan().sum()) == 4 + 5 - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_poison_surrounds_a_copy(dtype: torch.dtype) -> None:
    x = torch.arange(6).view(2, 3).to(dtype)
    inside, buffer = surround(x, 0xFF)
    assert_same_bits(inside, x)
    assert guarded(buffer, inside, 0xFF)
    inside.fill_(1)
    assert guarded(buffer, inside, 0xFF)
    beyond = torch.as_strided(inside.flatten(), (1,), (1,), inside.storage_offset() + inside.numel())
    if dtype is torch.float32:
        assert beyond.isnan().all()
    beyond.fill_(0)
    assert not guarded(buffer, inside, 0xFF)
