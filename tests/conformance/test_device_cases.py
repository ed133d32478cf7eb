"""Sweeps are given implementations that are wrong in one place, and have to find it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from conformance.device_cases import SECTIONS, Finding, SweepCase, Where
from incref.backends.backend import Backend, Kernel
from incref.formats import FORMATS, IntFormat, IntRange, NanRule, Overflow
from incref.ops import encode

# 64 chunks lie between two that are compared, so a sweep takes a second.
CHUNK, STRIDE = 1 << 20, 64


def finding_of(case: SweepCase, run: Callable[..., Tensor]) -> Finding:
    """Run a case on a backend whose `encode` is `run`."""
    kernel = Kernel(fn=run, why_not=lambda *_args, **_options: None)
    backend = Backend(name="planted", why_unavailable=lambda: None, kernels={"encode": kernel})
    return case.check(Where(backend=backend, device=torch.device("cpu"), chunk=CHUNK, stride=STRIDE))


def case_of(name: str, **options: object) -> SweepCase:
    fmt = FORMATS[name]
    assert isinstance(fmt, IntFormat)
    return SweepCase(fmt=fmt, **options)  # type: ignore[arg-type]


def test_the_reference_is_right() -> None:
    finding = finding_of(case_of("int8"), encode)
    assert (finding.checked, finding.mismatches) == (2**32 // STRIDE, 0)


@pytest.mark.parametrize("pattern", [0x00000000, 0x3C0FFFFF, 0xBC000005])
def test_one_wrong_pattern_of_all_is_found(pattern: int) -> None:
    def encode_wrong(x: Tensor, *args: object, **options: object) -> Tensor:
        is_it = x.view(torch.int32).to(torch.int64) & 0xFFFFFFFF == pattern
        return encode(x, *args, **options) ^ is_it.to(torch.int8)  # type: ignore[arg-type]

    finding = finding_of(case_of("int8"), encode_wrong)
    assert finding.mismatches == 1
    assert finding.first is not None
    assert finding.first.startswith(f"patterns from {pattern - pattern % CHUNK:#010x}: at ({pattern % CHUNK},) got ")


def test_a_code_where_an_error_is_due_is_found() -> None:
    def encode_lenient(x: Tensor, fmt: IntFormat, **options: object) -> Tensor:
        return encode(x, fmt, **options | {"nan": NanRule.ZERO})  # type: ignore[arg-type]

    case = case_of("int8", nan=NanRule.ERROR, overflow=Overflow.NONSATURATE)
    assert finding_of(case, encode).mismatches == 0
    assert finding_of(case, encode_lenient).first == "patterns from 0x44000000: got codes, want NanError"


@pytest.mark.parametrize("shape", [(5, 3), (5, 4), (0, 3)])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_parts_of_tensors_are_compared(shape: tuple[int, int], start: int) -> None:
    whole = torch.arange(40.0)
    finding = Finding()
    part = whole[start : start + shape[0] * shape[1]].view(shape)
    finding.add(part, part.clone(), "")
    finding.add(part[:, :2], part[:, :2].clone(), "")
    assert finding.mismatches == 0
    finding.add(part, part + 1, "")
    assert finding.mismatches == part.numel()


def test_named_formats_come_first_and_no_case_twice() -> None:
    sweeps = list(SECTIONS["sweep"]())
    kinds = [case.fmt.is_experimental for case in sweeps if isinstance(case, SweepCase)]
    assert kinds == sorted(kinds)
    for cases in SECTIONS.values():
        keys = [case.key for case in cases()]
        assert len(keys) == len(set(keys))


def test_options_are_those_that_sweeps_leave_out() -> None:
    keys = {case.key for section in ("sweep", "options") for case in SECTIONS[section]()}
    assert "sweep/int8/nearest_even/saturate" in keys
    for nan in NanRule:
        for int_range in IntRange:
            is_usual = nan is NanRule.MAX and int_range is IntRange.FULL
            key = f"options/int8/nearest_even/saturate/{nan.value}/{int_range.value}"
            assert (key in keys) is not is_usual
