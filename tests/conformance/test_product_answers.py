"""A reference of a product that is wrong in one step is caught where the oracle judges."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from incref.conformance.answers import Answers, Judge
from incref.conformance.generators.table import GENERATORS
from incref.conformance.implementation import Candidate, Choice, Implementation
from incref.conformance.judge import bits_of
from incref.conformance.oracle_answers import ORACLE_ANSWERS
from incref.conformance.result import Outcome, Status
from incref.conformance.run import run
from incref.ops import fp8_matmul, gptq_update, int8_matmul, mx_matmul, weight_only_matmul

PRODUCTS = ("int8_matmul", "weight_only_matmul", "fp8_matmul", "mx_matmul", "gptq_update", "fp8_bmm", "fp8_conv2d")


def judged(candidate: Candidate, match: str = "*", level: int = 0) -> Outcome:
    implementation = Implementation.of("mine", candidate)
    return run(implementation, level=level, match=match, answers=Answers(Judge.ORACLE))


def test_the_oracle_answers_every_operation() -> None:
    assert set(ORACLE_ANSWERS) == set(GENERATORS)


@pytest.mark.parametrize("op", PRODUCTS)
def test_references_pass(op: str) -> None:
    found = judged(Implementation.reference().candidates[op])
    assert {one.status for one in found.results} == {Status.PASS}


def one_step_up(y: Tensor) -> Tensor:
    """The first element one value further from zero."""
    changed = y.clone()
    if y.numel():
        bits_of(changed).view(-1)[0] += 1
    return changed


@pytest.mark.parametrize("op", [weight_only_matmul, fp8_matmul, mx_matmul], ids=lambda op: op.name)
def test_a_reference_is_held_to_the_last_bit(op: Callable[..., Tensor]) -> None:
    def wrong(*args: object, **options: object) -> Tensor:
        return one_step_up(op(*args, **options))

    name = op.name  # type: ignore[attr-defined]  # an operation
    exact = frozenset({Choice.EXACT_SUMS})
    found = judged(Candidate(op=name, fn=wrong, choices=exact), match="*/identity1/*")
    assert not found.is_good


def test_where_sums_are_exact_a_bound_is_not_asked() -> None:
    def wrong(*args: object, **options: object) -> Tensor:
        return one_step_up(weight_only_matmul(*args, **options))

    candidate = Candidate(op="weight_only_matmul", fn=wrong)
    assert {one.status for one in judged(candidate, match="*/bounded/*").results} == {Status.PASS}
    exact = replace(candidate, choices=frozenset({Choice.EXACT_SUMS}))
    assert {one.status for one in judged(exact, match="*/bounded/*").results} == {Status.FAIL}
    right = replace(exact, fn=weight_only_matmul)
    assert {one.status for one in judged(right, match="*/bounded/*").results} == {Status.PASS}


def test_a_sum_that_wraps_in_16_bits_is_caught() -> None:
    def wrong(x: Tensor, w: Tensor, *args: object, **options: object) -> Tensor:
        y = int8_matmul(x, w, *args, **options)
        return y.to(torch.int16).to(torch.int32) if y.dtype is torch.int32 else y

    assert not judged(Candidate(op="int8_matmul", fn=wrong)).is_good


def test_an_update_without_the_error_is_caught() -> None:
    def wrong(w: Tensor, upper: Tensor, *args: object, **options: object) -> object:
        return gptq_update(w, upper.diagonal().diag(), *args, **options)

    assert not judged(Candidate(op="gptq_update", fn=wrong)).is_good
