"""A part of the comparison of Gaudi's casts with the oracle; the whole is recorded in conformance/results/hpu.json."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from conformance import hpu
from conformance.record import load
from incref.formats import FORMATS, FloatFormat, Rounding
from incref.formats.gaudi import GAUDI
from incref.ops.decode import decode
from incref.ops.encode import encode
from incref_kernels.hpu.simulator import casts
from incref_kernels.hpu.simulator.options import Denormals, Inf
from incref_kernels.hpu.simulator.profile import HpuProfile
from incref_kernels.hpu.simulator.simulate import simulate


def wrong(chip: str, key: str = "", *, every: int = 1, **options: object) -> int:
    """Mismatches of the checks whose key has `key` in it, on every n-th bfloat16 number."""
    with simulate(chip, **options):
        return sum(check.compare() for check in hpu.checks(chip, every=every) if key in check.key)


def test_gaudi_2() -> None:
    assert wrong("gaudi2", every=31) == 0


@pytest.mark.parametrize("key", ["aligned/1.0", "input/1.3", "compute/0.1", "bfloat16/0.1"])
def test_gaudi_3(key: str) -> None:
    assert wrong("gaudi3", key) == 0


def test_the_whole_was_compared_without_a_difference() -> None:
    found = load("hpu")
    assert set(found) == set(GAUDI)
    for chip, result in found.items():
        assert isinstance(result, dict)
        with simulate(chip):
            assert result["compared"] == sum(check.inputs for check in hpu.checks(chip))
        assert result["mismatches"] == 0
        contracts = result["contracts"]
        assert isinstance(contracts, dict)
        assert (contracts["fail"], contracts["error"]) == (0, 0)
        assert isinstance(contracts["pass"], int)
        assert contracts["pass"] > 100


def _name(name: str) -> FloatFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


def fnuz(patch: pytest.MonkeyPatch) -> None:
    """The bias is 8, the largest value the same."""
    patch.setattr(HpuProfile, "cast_format", lambda _self, _dtype: _name("float8_e4m3fnuz"))


def ocp(patch: pytest.MonkeyPatch) -> None:
    """The largest value is 448."""
    patch.setattr(HpuProfile, "cast_format", lambda _self, _dtype: _name("float8_e4m3fn"))


def divided(patch: pytest.MonkeyPatch) -> None:
    """A cast divides by the scale that it should multiply with."""
    right = casts._factor
    patch.setattr(casts, "_factor", lambda *args: None if args[0] is None else 1 / right(*args))  # type: ignore[operator]


def rounded_once(patch: pytest.MonkeyPatch) -> None:
    """The product is not rounded in the dtype of the input."""
    right = casts.Casts._cast

    def wide(self: casts.Casts, x: Tensor, scale: Tensor, *rest: object, **options: object) -> Tensor:
        narrow = scale if scale is None or not isinstance(scale, Tensor) else scale.to(x.dtype)
        return right(self, x.to(torch.float32), narrow, *rest, **options)  # type: ignore[arg-type]

    patch.setattr(casts.Casts, "_cast", wide)


def wide_scale(patch: pytest.MonkeyPatch) -> None:
    """The scale is not rounded to the dtype of the values."""
    patch.setattr(
        casts,
        "_factor",
        lambda scale, *_: None if scale is None else torch.as_tensor(scale).to(torch.float32).view(-1)[:1],
    )


def ties_away(patch: pytest.MonkeyPatch) -> None:
    """A tie is rounded away from zero."""
    patch.setattr(
        casts, "encode", lambda *args, **options: encode(*args, **{**options, "rounding": Rounding.NEAREST_AWAY})
    )


def codes_of_ieee(patch: pytest.MonkeyPatch) -> None:
    """The codes of Inf and NaN are decoded as numbers."""
    patch.setattr(casts, "decode", lambda codes, _fmt, *, dtype: decode(codes, "float8_e4m3fn", dtype=dtype))


FAULTS = {
    fnuz: "aligned/1.0",
    ocp: "aligned/1.0",
    divided: "aligned/16.0",
    rounded_once: "input/1.3",
    wide_scale: "input/1.3",
    ties_away: "aligned/1.0",
    codes_of_ieee: "float32/1.0",
}
"""What is wrong, and the checks that see it."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    assert wrong("gaudi2", f"float8_e4m3/{FAULTS[fault]}") > 0


def test_scales_that_are_not_rounded_on_the_way_back_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wide_scale(monkeypatch)
    assert wrong("gaudi2", "bfloat16/1.3/cast_from") > 0


@pytest.mark.parametrize("options", [{"inf": Inf.KEPT}, {"denormals": Denormals.ZERO}], ids=str)
def test_another_answer_to_an_open_question_is_seen(options: dict[str, object]) -> None:
    assert wrong("gaudi2", "float8_e4m3/aligned/1.0", **options) > 0
