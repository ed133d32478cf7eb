"""Coordinate descent after GPTQ beside its formula, and what it promises."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from incref.algorithms.gptq import gptq
from incref.algorithms.gptq_reference import gptq_reference
from incref.config.method import GPTQ
from incref.qtensor.spec import QuantSpec
from tests.algorithms.test_gptq import METHODS, SPECS, data


@pytest.mark.parametrize("method", ["given-current", "descending-original", "descending-current"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_equals_the_formula(spec: QuantSpec, method: str) -> None:
    w, h = data()
    refined = replace(METHODS[method], refine_sweeps=2)
    got = gptq(w, h, spec, refined, dtype=torch.float64).qweight
    assert torch.equal(got.dequantize(), gptq_reference(w, h, spec, refined))


@settings(deadline=None, max_examples=15)
@given(
    spec=st.sampled_from(sorted(SPECS)),
    method=st.sampled_from(sorted(METHODS)),
    seed=st.integers(0, 1 << 32),
    tokens=st.integers(1, 200),
    percdamp=st.sampled_from([0.0, 1e-4, 0.01, 1.0]),
)
def test_the_error_never_rises(spec: str, method: str, seed: int, tokens: int, percdamp: float) -> None:
    w, h = data(tokens, seed)
    found = [
        gptq(w, h, SPECS[spec], replace(METHODS[method], percdamp=percdamp, refine_sweeps=sweeps))
        for sweeps in range(3)
    ]
    w[:, found[0].factor.is_dead] = 0
    order, upper = found[0].factor.order, found[0].factor.upper
    differences = [(one.qweight.dequantize() - w.to(torch.float64))[:, order] for one in found]
    losses = [float((d @ upper).square().sum()) for d in differences]
    # Residuals are sums of K products and of a change a column and sweep, none larger than `spread`; where a rounding
    # of them decides, the error rises by twice its product with a change at most.
    spread = sum(d.abs() for d in differences) @ upper.abs()
    slack = 2 * len(found) * len(h) * torch.finfo(torch.float64).eps * float(spread.square().sum())
    for less, more in itertools.pairwise(losses[::-1]):
        assert less <= more + slack


def test_most_layers_gain() -> None:
    w, h = data()
    for name, spec in SPECS.items():
        start, refined = (gptq(w, h, spec, GPTQ(refine_sweeps=n)) for n in (0, 1))
        assert refined.loss < start.loss, name
        assert torch.equal(refined.qweight.scale, start.qweight.scale)


def test_sweeps_are_counted_from_zero() -> None:
    with pytest.raises(ValueError, match="refine_sweeps must not be negative, got -1"):
        GPTQ(refine_sweeps=-1)
