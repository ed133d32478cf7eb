import pytest
import torch

from incref.numerics.checks import is_finite


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_one_element_that_is_not_finite_is_found(dtype: torch.dtype, bad: float) -> None:
    x = torch.full((70, 60), torch.finfo(dtype).max, dtype=dtype)
    assert is_finite(x)
    for place in ((0, 0), (35, 7), (69, 59)):
        spoilt = x.clone()
        spoilt[place] = bad
        assert not is_finite(spoilt)


def test_nothing_is_finite() -> None:
    assert is_finite(torch.empty(0, 3))
