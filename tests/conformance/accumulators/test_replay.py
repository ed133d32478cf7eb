"""Replays count every difference, and find the model that was planted."""

from dataclasses import replace

import pytest
import torch

from conformance.accumulators.machine import ModelMachine
from conformance.accumulators.replay import DISTRIBUTIONS, best_of, draw, neighbours, replay, sample
from incref.formats import FORMATS, FloatFormat
from incref.numerics.accumulate.models import Accumulator, Aligned, Promoted, SplitK

NARROW = Aligned(group=32, fraction_bits=13, result_bits=13)
E4M3 = FORMATS["float8_e4m3fn"]
assert isinstance(E4M3, FloatFormat)


def machine(model: Accumulator) -> ModelMachine:
    return ModelMachine(name="m", a_fmt=E4M3, b_fmt=E4M3, model=model)


def test_one_other_bit_is_counted_and_shown() -> None:
    probed = machine(NARROW)
    data = sample(probed, "normal", 40, 64, kept=20, seed=0)
    assert replay(data, probed, NARROW).equal == 400
    data.got.view(torch.int32)[3, 7] ^= 1
    seen = replay(data, probed, NARROW)
    assert (seen.equal, seen.outputs, len(seen.first)) == (399, 400, 1)
    row, column, got, want = seen.first[0]
    assert (row, column, int(got, 16) ^ int(want, 16)) == (3, 7, 1)


@pytest.mark.parametrize("planted", [Promoted(inner=NARROW, every=64), SplitK(inner=NARROW, parts=3, tile=64)], ids=str)
def test_a_neighbour_is_found(planted: Accumulator) -> None:
    probed = machine(planted)
    data = sample(probed, "normal", 32, 512, kept=32, seed=0)
    assert replay(data, probed, NARROW).equal < 1024
    best, seen = best_of(data, probed, [NARROW, *neighbours(NARROW, 512)])
    assert best == planted
    assert seen.equal == 1024


def test_neighbours_differ() -> None:
    models = list(neighbours(replace(NARROW, group=16), 512))
    assert len(models) == len(set(models))
    assert list(neighbours(SplitK(inner=Promoted(inner=NARROW, every=32), parts=2), 64)) == []


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_values_are_of_the_format_and_finite(kind: str) -> None:
    x = draw(kind, 8, 64, E4M3, 1)
    assert set(x.abs().flatten().tolist()) <= {value for value in E4M3.values if value >= 0}
    assert x.isfinite().all()
    assert x.unique().numel() > 40
    assert not torch.equal(x, draw(kind, 8, 64, E4M3, 2))
