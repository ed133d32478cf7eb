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
