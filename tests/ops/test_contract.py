"""Contracts say what they have to."""

import pytest

from incref.ops import OPS
from incref.ops.accumulated import ACCUMULATED
from incref.ops.contract import Exactness, Op


@pytest.mark.parametrize(("exactness", "tolerance"), [(Exactness.E2, None), (Exactness.E0, ACCUMULATED)])
def test_a_tolerance_goes_with_bounded_operations(exactness: Exactness, tolerance: object) -> None:
    with pytest.raises(ValueError, match="a tolerance goes with E2, and E2 with one, got E"):
        Op(lambda x: x, version="1.0", exactness=exactness, args=(), results=(), tolerance=tolerance)


def test_every_operation_is_bitwise_or_says_how_far_it_may_be() -> None:
    for op in OPS.values():
        assert op.exactness is Exactness.E0 or op.tolerance is not None
