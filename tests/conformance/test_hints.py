import torch
from torch import Tensor

from incref.conformance.comparison import Mismatch, compare_bits
from incref.conformance.hints import find_hint


def hint_of(wrong: Tensor, value: float = 3.3) -> str:
    want = torch.ones(wrong.shape)
    found = compare_bits((torch.where(wrong, value, want),), (want,))
    assert isinstance(found, Mismatch)
    return find_hint(found)


def places(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.bool)


def test_a_tail() -> None:
    wrong = places(6, 100)
    wrong[0, 97], wrong[1, 96], wrong[2, 99] = True, True, True
    assert "index 1 >= 96: tail" in hint_of(wrong)


def test_one_row() -> None:
    wrong = places(6, 9)
    wrong[5, 2], wrong[5, 7] = True, True
    assert "index 0 == 5 (the last)" in hint_of(wrong)


def test_a_period() -> None:
    wrong = places(200)
    wrong[7::16] = True
    assert "index 0 % 16 == 7" in hint_of(wrong)


def test_everything_and_its_kind() -> None:
    assert (
        hint_of(~places(4, 5), 2.0) == "every element is wrong; all are off by a factor of two: an exponent or a scale"
    )


def test_nothing_in_common_says_nothing() -> None:
    wrong = places(10)
    wrong[0], wrong[3], wrong[9] = True, True, True
    assert not hint_of(wrong)


def test_scales_are_looked_at_before_codes() -> None:
    codes, scales = torch.arange(8, dtype=torch.uint8), torch.tensor([3, 4, 5], dtype=torch.uint8)
    found = compare_bits((codes + 1, scales + torch.tensor([0, 1, 1], dtype=torch.uint8)), (codes, scales))
    assert isinstance(found, Mismatch)
    assert find_hint(found).startswith(
        "every element is wrong; "
        "result 1 is wrong too (2 of 3, each 1 above the right one, first at (1,): got 5, want 4): look there first"
    )
    found = compare_bits((codes + 1, scales - torch.tensor([0, 1, 2], dtype=torch.uint8)), (codes, scales))
    assert isinstance(found, Mismatch)
    assert "result 1 is wrong too (2 of 3, first at (1,): got 3, want 4): look there first" in find_hint(found)


def test_right_scales_are_not_spoken_of() -> None:
    codes, scales = torch.arange(8, dtype=torch.uint8), torch.tensor([3, 4, 5], dtype=torch.uint8)
    found = compare_bits((codes + 1, scales), (codes, scales))
    assert isinstance(found, Mismatch)
    assert found.also is None
    assert "result" not in find_hint(found)
