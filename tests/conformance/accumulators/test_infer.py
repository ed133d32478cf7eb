"""Probing recovers the parameters of models that stand in for machines."""

from dataclasses import replace

import pytest
import torch

from conformance.accumulators.infer import infer, model_of
from conformance.accumulators.machine import ModelMachine
from conformance.accumulators.measure import group_order
from conformance.accumulators.replay import replay, sample
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.numerics.accumulate.evaluate import accumulate_rows
from incref.numerics.accumulate.models import Accumulator, Aligned, AlignTo, Carry, Promoted, Reordered, Sequential

NARROW = Aligned(group=32, fraction_bits=13, result_bits=13)
WIDE = Aligned(group=16, fraction_bits=25, result_bits=23)
INTERLEAVED = tuple(k for first in (0, 2) for k in range(32) if k % 4 in (first, first + 1))


def machine(name: str, model: Accumulator) -> ModelMachine:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return ModelMachine(name=name, a_fmt=fmt, b_fmt=fmt, model=model)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("float8_e4m3fn", NARROW),
        ("float8_e5m2", replace(NARROW, group=16, fraction_bits=12)),
        ("float8_e4m3fn", Promoted(inner=NARROW, every=128)),
        ("float8_e4m3fn", replace(NARROW, term_rounding=Rounding.TOWARD_NEGATIVE)),
        ("float8_e4m3fn", replace(NARROW, result_rounding=Rounding.NEAREST_EVEN, align_to=AlignTo.PRODUCTS)),
        ("float16", WIDE),
        ("bfloat16", replace(WIDE, carry=Carry.ADDED)),
        ("float16", replace(WIDE, group=8, fraction_bits=24)),
        ("tf32", replace(WIDE, group=8)),
        ("float16", Sequential()),
        ("float16", Reordered(inner=WIDE, order=INTERLEAVED)),
        ("float8_e5m2", Reordered(inner=replace(WIDE, carry=Carry.ADDED), order=INTERLEAVED)),
    ],
    ids=str,
)
def test_planted_parameters_are_recovered(name: str, model: Accumulator) -> None:
    assert model_of(infer(machine(name, model), length=64, long=256)) == model


@pytest.mark.parametrize(
    "model",
    [Promoted(inner=NARROW, every=32), replace(NARROW, group=16, result_bits=23, term_rounding=Rounding.NEAREST_EVEN)],
    ids=["promoted after each group", "result never limits"],
)
def test_what_is_found_computes_the_same(model: Accumulator) -> None:
    probed = machine("float8_e4m3fn", model)
    found = model_of(infer(probed, length=64, long=256))
    assert found is not None
    data = sample(probed, "codes", 32, 256, kept=32, seed=0)
    assert replay(data, probed, found).equal == 32 * 32


def test_groups_that_do_not_repeat_are_no_model() -> None:
    class Shuffled(ModelMachine):
        def rows(self, a: torch.Tensor, b: torch.Tensor, carried: torch.Tensor | None = None) -> torch.Tensor:
            order = torch.cat([torch.arange(0, a.shape[1], 4), *(torch.arange(i, a.shape[1], 4) for i in (1, 2, 3))])
            return accumulate_rows(a[:, order], b[:, order], self.a_fmt, self.b_fmt, self.model, carried=carried)

    fmt = FORMATS["float8_e4m3fn"]
    assert isinstance(fmt, FloatFormat)
    found = infer(Shuffled(name="i", a_fmt=fmt, b_fmt=fmt, model=replace(NARROW, group=16)), length=64)
    assert found.group is None
    assert model_of(found) is None


def test_groups_from_the_last_to_the_first_are_no_model() -> None:
    class Reversed(ModelMachine):
        def rows(self, a: torch.Tensor, b: torch.Tensor, carried: torch.Tensor | None = None) -> torch.Tensor:
            return accumulate_rows(a.flip(1), b.flip(1), self.a_fmt, self.b_fmt, self.model, carried=carried)

    fmt = FORMATS["float8_e4m3fn"]
    assert isinstance(fmt, FloatFormat)
    found = infer(Reversed(name="r", a_fmt=fmt, b_fmt=fmt, model=NARROW), length=64, long=128)
    assert found.group == 32
    assert found.is_ascending is False
    assert model_of(found) is None


def test_zeros_that_align_are_no_model() -> None:
    class Zeros(ModelMachine):
        def rows(self, a: torch.Tensor, b: torch.Tensor, carried: torch.Tensor | None = None) -> torch.Tensor:
            # A zero with a factor that is none leaves nothing of the others.
            beside = ((a == 0) != (b == 0)).any(-1)
            found = super().rows(a, b, carried)
            return torch.where(beside, 0.0, found)

    fmt = FORMATS["float8_e4m3fn"]
    assert isinstance(fmt, FloatFormat)
    found = infer(Zeros(name="z", a_fmt=fmt, b_fmt=fmt, model=NARROW), length=64, long=128)
    assert found.zeros_align is True
    assert model_of(found) is None


def test_groups_of_unequal_length_have_no_order() -> None:
    share = torch.zeros(4, 4, dtype=torch.bool)
    share[:1, :1] = True
    share[1:, 1:] = True
    assert group_order(share) is None


def test_the_shortest_period_is_found() -> None:
    share = torch.block_diag(*[torch.ones(2, 2)] * 4) > 0
    assert group_order(share) == (4, (0, 1, 2, 3))
    crossing = [0, 2, 1, 3, 4, 6, 5, 7]
    assert group_order(share[crossing][:, crossing]) == (4, (0, 1, 4, 5, 2, 3, 6, 7))
    assert group_order(share[:2, :2]) is None
