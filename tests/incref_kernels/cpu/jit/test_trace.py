import torch
from torch import Tensor

from incref_kernels.cpu.jit.trace import trace


def half_more(x: Tensor) -> Tensor:
    return x.to(torch.float64) + 0.5


def test_inference_mode_changes_no_step() -> None:
    inputs = [(torch.float32, (32,))]
    want = trace(half_more, inputs).steps
    assert [step.name for step in want] == ["_to_copy", "add"]
    with torch.inference_mode():
        assert [step.name for step in trace(half_more, inputs).steps] == [step.name for step in want]
