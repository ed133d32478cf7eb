import pytest
import torch
from torch import Tensor, nn

from incref.calibration.skipping import Wrapping, skip_blocks


@pytest.mark.parametrize(
    "output", [torch.ones(2), (torch.ones(2),), [torch.ones(2), None], (torch.ones(2), None, None)]
)
def test_another_hidden_state_is_wrapped_likewise(output: object) -> None:
    wrapping, other = Wrapping.of(output), torch.zeros(3)
    assert wrapping is not None
    wrapped = wrapping.wrap(other)
    assert type(wrapped) is type(output)
    if isinstance(output, Tensor):
        assert wrapped is other
    else:
        assert list(wrapped) == [other, *list(output)[1:]]  # type: ignore[call-overload]  # a tuple or a list


@pytest.mark.parametrize("output", [None, (), (torch.ones(2), torch.ones(2)), {"x": torch.ones(2)}, "x"])
def test_other_outputs_can_not_be_made(output: object) -> None:
    assert Wrapping.of(output) is None


def test_blocks_are_not_computed() -> None:
    blocks, x = [nn.Linear(1, 1) for _ in range(3)], torch.full((1, 1), 3.0)
    seen: list[Tensor] = []

    def run() -> None:
        hidden = x
        for block in blocks:
            seen.append(hidden)
            hidden = block(hidden)
        raise AssertionError

    skip_blocks(run, blocks, [Wrapping()] * 3, lambda args, _: args[0])
    assert len(seen) == 3
    assert all(hidden is x for hidden in seen)
