from dataclasses import replace

import pytest
import torch
from torch import Tensor

from incref.backends.declared import AnyOrder, Declared, in_any_order
from incref.conformance.answers import Answers, Judge
from incref.conformance.comparison import compare_bits
from incref.conformance.generators.table import GENERATORS
from incref.conformance.implementation import Candidate, Choice, Implementation
from incref.conformance.known_failures import KnownFailure
from incref.conformance.profiles import PROFILES
from incref.conformance.result import Outcome, Status
from incref.conformance.run import plan_cases, run
from incref.formats import Overflow, Rounding
from incref.numerics.accumulate.evaluate import accumulate_codes
from incref.numerics.accumulate.models import Accumulator, Aligned
from incref.ops import decode, encode, quantize_mx
from incref.ops.quantize_float import get_float_format
from incref.ops.table import OPS


def outcome_of(*candidates: Candidate, **options: object) -> Outcome:
    return run(Implementation.of("test", *candidates), **{"level": 0, **options})  # type: ignore[arg-type]


NARROW = Aligned(group=16, fraction_bits=13, result_bits=13)
DECODE = Candidate(op="decode", fn=decode)


@pytest.mark.parametrize("op", GENERATORS)
def test_keys_are_unique_and_do_not_change(op: str) -> None:
    candidate = Candidate(op=op, fn=OPS[op].reference)
    keys = [case.key for case in plan_cases(candidate, level=1)]
    assert len(set(keys)) == len(keys)
    assert keys == [case.key for case in plan_cases(candidate, level=1)]


@pytest.mark.parametrize("op", GENERATORS)
def test_a_case_draws_the_same_arguments_each_time(op: str) -> None:
    for case in plan_cases(Candidate(op=op, fn=OPS[op].reference), level=0):
        before = case.arguments
        case.forget()
        for name, one in case.arguments.items():
            other = before[name]
            if isinstance(one, Tensor):
                assert isinstance(other, Tensor)
                assert compare_bits((one,), (other,)) is None
            else:
                assert one == other


@pytest.mark.parametrize("op", ["encode", "decode", "compute_scale", "quantize_mx", "pack", "unpack"])
def test_the_reference_passes_before_the_oracle(op: str) -> None:
    outcome = run(Implementation.reference(), level=0, ops=[op], answers=Answers(Judge.ORACLE))
    assert outcome.is_good
    assert outcome.counts[Status.PASS] == len(outcome.results)


def test_a_whole_level_carries_its_name() -> None:
    outcome = outcome_of(DECODE)
    assert outcome.verdict.startswith("passed suite")
    assert "level 0 for decode" in outcome.verdict
    assert "correct" not in outcome.verdict


@pytest.mark.parametrize("options", [{"match": "*/float8_*"}, {"ops": ["decode"]}, {"most_seconds": -1.0}])
def test_a_part_of_a_level_does_not(options: dict[str, object]) -> None:
    assert not outcome_of(DECODE, **options).is_whole
    assert "level 0 for" not in outcome_of(DECODE, **options).verdict


def test_running_nothing_fails() -> None:
    for outcome in (outcome_of(DECODE, match="nothing"), outcome_of(DECODE, most_seconds=-1.0)):
        assert not outcome.is_good
        assert outcome.verdict == "failed: no case was run"


def test_supporting_nothing_fails() -> None:
    outcome = outcome_of(replace(DECODE, supports=lambda _: False))
    assert outcome.counts[Status.NOT_SUPPORTED] == len(outcome.results) > 0
    assert not outcome.is_good


def test_an_exception_is_an_error_and_no_skip() -> None:
    def broken(*_: object, **__: object) -> Tensor:
        raise RuntimeError("no such kernel")

    outcome = outcome_of(replace(DECODE, fn=broken))
    assert outcome.counts[Status.ERROR] == len(outcome.results)
    assert "no such kernel" in outcome.results[0].reason
    outcome = outcome_of(replace(DECODE, supports=broken))
    assert outcome.counts[Status.ERROR] == len(outcome.results)


def test_options_that_are_not_declared_are_not_supported_and_counted() -> None:
    candidate = Candidate(op="decode", fn=decode, options={"fmt": ["float8_e5m2"]})
    outcome = outcome_of(candidate)
    assert outcome.counts[Status.PASS] > 0
    assert outcome.counts[Status.NOT_SUPPORTED] > 0
    assert "without" in outcome.verdict
    assert "fmt=float8_e4m3fn is not among" in next(
        result.reason for result in outcome.results if "e4m3fn/" in result.key
    )


def test_a_default_that_is_not_declared_is_not_supported() -> None:
    candidate = Candidate(op="encode", fn=encode, options={"rounding": [Rounding.TOWARD_ZERO]})
    assert outcome_of(candidate).counts[Status.PASS] == 0


def test_a_wrong_answer_names_its_place_bits_and_kind() -> None:
    outcome = outcome_of(replace(DECODE, fn=lambda *args, **kwargs: -decode(*args, **kwargs)), match="*/all/int8/*")
    (result,) = outcome.results
    assert result.status is Status.FAIL
    assert "got 0x1." in result.reason
    assert "want -0x1." in result.reason
    assert result.mismatch is not None
    assert result.mismatch.count == 256
    assert outcome.verdict.startswith("failed 1 of 1")


def test_known_failures_are_strict() -> None:
    wrong = replace(DECODE, fn=lambda *args, **kwargs: -decode(*args, **kwargs))
    known = KnownFailure(cases="decode@*", reason="sign", link="https://example.org/1")
    assert outcome_of(wrong, known=[known]).counts[Status.XFAIL] > 0
    outcome = outcome_of(DECODE, known=[known])
    assert outcome.counts[Status.XPASS] == len(outcome.results)
    assert not outcome.is_good


def test_a_declared_choice_is_allowed_and_an_undeclared_one_is_not() -> None:
    def other_nan(x: Tensor, fmt: str, **options: object) -> Tensor:
        codes = encode(x, fmt, **options)  # type: ignore[arg-type]
        return torch.where(codes == 0x7E, 0x7F, codes)

    plain = Candidate(op="encode", fn=other_nan, options={"fmt": ["float8_e5m2"]})
    assert not outcome_of(plain).is_good
    assert outcome_of(replace(plain, choices=frozenset({Choice.ANY_NAN_CODE}))).is_good


@pytest.mark.parametrize("fmt", ["float8_e4m3fnuz", "float8_e5m2fnuz", "binary8p3se"])
def test_a_number_is_no_other_code_of_a_nan(fmt: str) -> None:
    def all_ones(x: Tensor, fmt: str, **options: object) -> Tensor:
        codes = encode(x, fmt, **options)  # type: ignore[arg-type]
        # The one NaN of these formats is 0x80; 0xFF is the lowest value, or -Inf.
        return torch.where(codes == 0x80, 0xFF, codes)

    candidate = Candidate(op="encode", fn=all_ones, options={"fmt": [fmt]}, choices=frozenset({Choice.ANY_NAN_CODE}))
    assert not outcome_of(candidate).is_good
    assert outcome_of(replace(candidate, fn=encode)).is_good


def test_any_code_of_a_nan_is_allowed_in_a_block() -> None:
    def other_nan(x: Tensor, fmt: str, **options: object) -> tuple[Tensor, ...]:
        codes, *scales = quantize_mx(x, fmt, **options)  # type: ignore[arg-type]
        return torch.where(codes == 0x7E, 0x7F, codes), *scales

    plain = Candidate(op="quantize_mx", fn=other_nan, options={"fmt": ["mxfp8_e5m2"]})
    match = "*/mxfp8_e5m2/float32/axis-1/default/*/element/element/*"
    assert not outcome_of(plain, level=1, match=match).is_good
    assert outcome_of(replace(plain, choices=frozenset({Choice.ANY_NAN_CODE})), level=1, match=match).is_good


def test_flushing_is_judged_as_declared() -> None:
    def flushing(x: Tensor, fmt: str, **options: object) -> Tensor:
        small = x.abs() < torch.finfo(x.dtype).tiny
        return encode(torch.where(small, torch.zeros_like(x).copysign(x), x), fmt, **options)  # type: ignore[arg-type]

    plain = Candidate(op="encode", fn=flushing, options={"fmt": ["float8_e8m0fnu"], "overflow": [Overflow.SATURATE]})
    declared = replace(plain, choices=frozenset({Choice.FLUSHES_INPUTS}))
    match = "*/boundaries/float8_e8m0fnu/float32/*"
    assert not outcome_of(plain, level=1, match=match).is_good
    assert outcome_of(declared, level=1, match=match).is_good
    # Who declares it and does not do it is found out too.
    assert not outcome_of(replace(declared, fn=encode), level=1, match=match).is_good


def test_a_profile_needs_all_its_operations() -> None:
    outcome = outcome_of(DECODE, profile=PROFILES["fp8-ocp"])
    assert "fp8_matmul" in outcome.missing
    assert "profile fp8-ocp is not met" in outcome.verdict
    assert all("float8_e4m3fn" in result.key or "float8_e5m2" in result.key for result in outcome.results)


def test_unknown_operations_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="no operation is called"):
        Candidate(op="dequant", fn=decode)
    with pytest.raises(ValueError, match="takes the arguments"):
        Candidate(op="decode", fn=decode, options={"format": ["int8"]})
    with pytest.raises(ValueError, match="at least one"):
        Implementation.of("empty")


def test_the_accumulator_is_part_of_what_is_declared() -> None:
    outcome = outcome_of(replace(DECODE, accumulator=AnyOrder(fraction_bits=10)))
    assert "fraction_bits=10" in str(outcome.declared["decode"])


@pytest.mark.parametrize("wrong", [replace(NARROW, group=8), replace(NARROW, fraction_bits=14)], ids=str)
def test_an_accumulator_that_is_declared_in_full_is_held_to_every_bit(wrong: Aligned) -> None:
    def judged(model: Accumulator, declared: Declared) -> Outcome:
        def multiply(
            x: Tensor, w: Tensor, *_: None, x_fmt: str, w_fmt: str, dtype: torch.dtype, **__: object
        ) -> Tensor:
            return accumulate_codes(x, w, get_float_format(x_fmt), get_float_format(w_fmt), model).to(dtype)

        box = Candidate(op="fp8_matmul", fn=multiply, options={"x_scale": [None]}, accumulator=declared)
        return outcome_of(box, level=1, match="*/bounded/float8_e4m3fn/*")

    assert judged(NARROW, NARROW).is_good
    assert not judged(wrong, NARROW).is_good
    # Who says less is held to a bound, which both are within.
    assert judged(wrong, in_any_order(replace(NARROW, group=8))).is_good


def test_level_three_goes_on_with_new_seeds() -> None:
    keys = []
    for case in plan_cases(Candidate(op="quantize_mx", fn=OPS["quantize_mx"].reference), level=3):
        keys.append(case.key)
        if len(keys) == 2500:
            break
    assert len(set(keys)) == len(keys)
