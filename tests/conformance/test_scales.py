"""A sample of the scale rules: every 64th run of 2**20 magnitudes; the whole is `python -m conformance.scales`."""

import pytest

from conformance.expect import Mismatch
from conformance.scales import ScaleCase, all_cases

STRIDE = 64


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.key)
def test_magnitudes(case: ScaleCase) -> None:
    outcome = case.check(stride=STRIDE)
    assert outcome.first is None, case.describe(outcome.first)
    assert outcome.patterns == (1 << 31) // STRIDE


def test_all_rules_meet_all_elements() -> None:
    assert len({case.key for case in all_cases()}) == 4 * 6


def test_a_mismatch_is_explained() -> None:
    text = all_cases()[0].describe(Mismatch(pattern=0x3F7FFFFF, got=119, want=118))
    assert text == "amax 0x3f7fffff: compute_scale gave code 119, the oracle 118"
