"""The results that a bound allows, on the grid of the output."""

from pathlib import Path

import pytest
import torch

from conformance.accumulators.replay import draw
from conformance.tensor_core_record import VECTORS, read_vectors
from incref.backends.declared import AnyGroups, AnyOrder, Declared
from incref.conformance.allowed import Interval, allowed_sums, count_outside, map_interval, round_interval
from incref.formats import FORMATS, FloatFormat
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.accumulate.models import Aligned, Sequential, SplitK
from incref.ops import decode, fp8_matmul
from incref.ops.encode import encode

E4M3 = FORMATS["float8_e4m3fn"]
assert isinstance(E4M3, FloatFormat)
NARROW = Aligned(group=32, fraction_bits=13, result_bits=13)


def test_the_reference_and_right_sums_are_allowed() -> None:
    a, b = draw("normal", 20, 300, E4M3, 1), draw("outliers", 24, 300, E4M3, 2)
    for declared, model in (
        (NARROW, NARROW),
        (AnyOrder(), SplitK(inner=Sequential(), parts=3)),
        (Sequential(), Sequential()),
    ):
        sums = allowed_sums(a, b, E4M3, E4M3, declared)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            allowed = round_interval(sums, dtype)
            assert count_outside(accumulate(a, b, E4M3, E4M3, model).to(dtype), allowed) == 0
            reference = fp8_matmul(encode(a, E4M3), encode(b, E4M3), None, None, x_fmt=E4M3, w_fmt=E4M3, dtype=dtype)
            assert count_outside(reference, allowed) == 0


def test_faults_are_outside() -> None:
    a, b = draw("normal", 40, 128, E4M3, 1), draw("normal", 40, 128, E4M3, 2)
    allowed = round_interval(allowed_sums(a, b, E4M3, E4M3, AnyOrder()), torch.float32)
    dropped = accumulate(a[:, :-1], b[:, :-1], E4M3, E4M3, Sequential())
    assert count_outside(dropped, allowed) > 0.95 * dropped.numel()
    halves = accumulate(a, b, E4M3, E4M3, Sequential()).half().float()
    assert count_outside(halves, allowed) > 0.5 * halves.numel()


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_device_is_within_what_it_should_declare(path: Path) -> None:
    machine = "tl.dot float8_e5m2 max_num_imprecise_acc=None"
    a, b, got, a_fmt, b_fmt = read_vectors(path)[machine]
    left, right = decode(a, a_fmt), decode(b, b_fmt)

    def outside(declared: Declared) -> int:
        return int(count_outside(got, round_interval(allowed_sums(left, right, a_fmt, b_fmt, declared), torch.float32)))

    assert outside(NARROW) == outside(AnyGroups(group=32, fraction_bits=13, result_bits=13)) == 0
    # It keeps 14 bits, and who declares float32 for it is found out.
    assert outside(AnyOrder()) > 0


def test_a_narrow_output_leaves_one_result() -> None:
    a, b = draw("normal", 30, 64, E4M3, 1), draw("normal", 30, 64, E4M3, 2)
    allowed = round_interval(allowed_sums(a, b, E4M3, E4M3, NARROW), torch.bfloat16)
    assert (allowed.low == allowed.high).float().mean() > 0.75


def test_scales_and_biases_map_the_ends() -> None:
    values = Interval(low=torch.tensor([1.0, -2.0]), high=torch.tensor([2.0, -1.0]))
    down = map_interval(values, lambda x: x * -3.0)
    assert (down.low.tolist(), down.high.tolist()) == ([-6.0, 3.0], [-3.0, 6.0])


def test_an_exact_sum_is_the_only_one() -> None:
    a = torch.tensor([[1.0, 2.0]])
    sums = allowed_sums(a, a, E4M3, E4M3, NARROW)
    assert sums.low.item() == sums.high.item() == 5.0
    assert count_outside(torch.tensor([[5.0]]), round_interval(sums, torch.float32)) == 0
    assert (
        count_outside(torch.nextafter(torch.tensor([[5.0]]), torch.tensor(0.0)), round_interval(sums, torch.float32))
        == 1
    )


def test_a_verdict_is_never_empty() -> None:
    one = torch.ones(2)
    assert count_outside(torch.tensor([torch.nan, 1.0]), Interval(low=one, high=one)) == 1
    with pytest.raises(ValueError, match="there are no results to compare"):
        count_outside(one[:0], Interval(low=one[:0], high=one[:0]))
    with pytest.raises(ValueError, match=r"results must be torch\.float32 \(2,\), got torch\.float64 \(2,\)"):
        count_outside(one.double(), Interval(low=one, high=one))
    for low in (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0])):
        with pytest.raises(ValueError, match="an interval has no NaN, and low is at most high"):
            Interval(low=low, high=one)
