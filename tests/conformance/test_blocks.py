"""A sample of the blocks of every class; the whole is `python -m conformance.blocks`."""

import pytest
import torch

from conformance import blocks
from conformance.blocks import BlockCase, all_cases, check
from incref.ops import quantize_mx


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.key)
def test_blocks(case: BlockCase) -> None:
    outcome = check(case, scale=0.03, seed=1)
    assert outcome.first is None
    assert not any(outcome.bad.values())
    assert all(count > 0 for count in outcome.blocks.values())


def test_all_rules_meet_all_formats() -> None:
    assert len({case.key for case in all_cases()}) == 6 * 4 + 2


@pytest.mark.parametrize("what", ["codes", "scale"])
def test_one_wrong_element_or_scale_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*args: object, **options: object) -> tuple[torch.Tensor, ...]:
        codes, scale, *rest = quantize_mx(*args, **options)
        if what == "codes":
            codes[0, -1] ^= 1
        else:
            scale[0] ^= 1
        return codes, scale, *rest

    monkeypatch.setattr(blocks, "quantize_mx", faulty)
    outcome = check(all_cases()[0], scale=0.01)
    # One in each class, of which each is quantized at once at this scale.
    assert outcome.bad == dict.fromkeys(outcome.blocks, 1)
    assert outcome.first is not None
    assert outcome.first.startswith("random: values [")
