"""What a call must not do to memory is seen."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from incref.conformance.case import Case, Placement
from incref.conformance.implementation import Candidate, Implementation
from incref.conformance.memory import place
from incref.conformance.run import run
from incref.ops import decode

DECODE = Candidate(op="decode", fn=decode, options={"fmt": ["float8_e4m3fn"], "dtype": [torch.float32]})


def reasons(candidate: Candidate, level: int = 1) -> str:
    outcome = run(Implementation.of("test", candidate), level=level)
    return "\n".join(f"{result.key}: {result.reason}" for result in outcome.results if result.status.is_bad)


def test_a_right_kernel_passes_in_every_placement() -> None:
    assert not reasons(DECODE)


def test_writing_to_an_argument_is_seen() -> None:
    def writes(codes: Tensor, fmt: str, *, dtype: torch.dtype) -> Tensor:
        values = decode(codes, fmt, dtype=dtype)
        codes.fill_(1)
        return values

    assert "wrote to or around its arguments codes" in reasons(replace(DECODE, fn=writes))


def test_writing_beyond_an_argument_is_seen() -> None:
    def writes(codes: Tensor, fmt: str, *, dtype: torch.dtype) -> Tensor:
        torch.as_strided(codes, (1,), (1,), codes.storage_offset() + codes.numel()).fill_(3)
        return decode(codes, fmt, dtype=dtype)

    assert "wrote to or around" in reasons(replace(DECODE, fn=writes))


def test_ignoring_strides_is_seen() -> None:
    def reads(codes: Tensor, fmt: str, *, dtype: torch.dtype) -> Tensor:
        straight = torch.as_strided(codes, (codes.numel(),), (1,), codes.storage_offset())
        return decode(straight, fmt, dtype=dtype).view(codes.shape)

    said = reasons(replace(DECODE, fn=reads))
    assert "/strided" in said
    assert "/transposed" in said


def test_a_cached_result_is_seen() -> None:
    kept: dict[tuple[int, torch.Size], Tensor] = {}

    def cached(codes: Tensor, fmt: str, *, dtype: torch.dtype) -> Tensor:
        key = (codes.data_ptr(), codes.shape)
        if key not in kept:
            kept[key] = decode(codes, fmt, dtype=dtype)
        return kept[key].clone()

    assert "/reused" in reasons(replace(DECODE, fn=cached))


def test_memory_that_is_not_written_is_seen() -> None:
    def leaves(codes: Tensor, fmt: str, *, dtype: torch.dtype) -> Tensor:
        values = torch.empty(codes.shape, dtype=dtype)
        # What is zero anyway is not written.
        found = decode(codes, fmt, dtype=dtype)
        values[found != 0] = found[found != 0]
        return values

    assert "/reused" in reasons(replace(DECODE, fn=leaves))


def test_two_answers_to_one_question_are_seen() -> None:
    calls = [0]

    def wavers(codes: Tensor, fmt: str, *, dtype: torch.dtype) -> Tensor:
        calls[0] += 1
        values = decode(codes, fmt, dtype=dtype)
        return values if calls[0] % 2 else values * 2

    assert "two calls with the same arguments" in reasons(replace(DECODE, fn=wavers))


def test_a_kernel_that_writes_to_out_is_judged_by_it() -> None:
    def fills(codes: Tensor, fmt: str, *, dtype: torch.dtype, out: Tensor) -> None:
        out.copy_(decode(codes, fmt, dtype=dtype))

    def spills(codes: Tensor, fmt: str, *, dtype: torch.dtype, out: Tensor) -> None:
        fills(codes, fmt, dtype=dtype, out=out)
        torch.as_strided(out, (1,), (1,), out.storage_offset() + out.numel()).fill_(3.0)

    assert not reasons(replace(DECODE, fn=fills, takes_out=True))
    assert "wrote around its outputs" in reasons(replace(DECODE, fn=spills, takes_out=True))
    assert "elements of result 0 are wrong" in reasons(replace(DECODE, fn=lambda *_, **__: None, takes_out=True))


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 3, 4)])
def test_every_placement_keeps_the_values(placement: Placement, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    placed = place({"x": x, "n": 3}, placement, torch.device("cpu"))
    got = placed.arguments["x"]
    assert isinstance(got, Tensor)
    assert torch.equal(got, x)
    assert placed.arguments["n"] == 3
    assert not placed.changed()
    if x.numel():
        placed.overwrite()
        placed.restore()
        assert torch.equal(got, x)


def test_an_offset_is_off_every_alignment() -> None:
    placed = place({"x": torch.zeros(8)}, Placement.OFFSET, torch.device("cpu"))
    x = placed.arguments["x"]
    assert isinstance(x, Tensor)
    assert x.data_ptr() % 16 == 4


def test_supports_sees_the_case() -> None:
    def supports(case: Case) -> str | None:
        return None if case.tensors["codes"].ndim == 2 else "two dimensions only"

    outcome = run(Implementation.of("test", replace(DECODE, supports=supports)), level=0)
    assert any(result.reason == "two dimensions only" for result in outcome.results)
    assert outcome.is_good


def test_the_state_of_pytorch_is_left_as_it_was() -> None:
    def checks(codes: Tensor, fmt: str, *, dtype: torch.dtype) -> Tensor:
        return decode(codes, fmt, dtype=dtype)

    functions: list[Callable[..., object]] = [checks]
    reasons(replace(DECODE, fn=functions[0]))
    assert not torch.are_deterministic_algorithms_enabled()
