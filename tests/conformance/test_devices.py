import pytest
import torch
from torch import Tensor

from conformance import devices


def test_a_device_agrees_with_itself() -> None:
    found = dict(devices.differences(torch.device("cpu"), only="mxfp4 floor"))
    assert found == {"quantize_mx mxfp4 floor axis -1": 0, "quantize_mx mxfp4 floor axis 0": 0}


def test_differences_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky:
        calls = 0

        def __call__(self, _x: Tensor) -> Tensor:
            self.calls += 1
            wrong = torch.tensor([1.0, -0.0, torch.nan, 4.0])
            return wrong if self.calls == 2 else torch.tensor([1.0, 0.0, -torch.nan, 3.0])

    monkeypatch.setattr(devices, "_calls", lambda: iter([("flaky", torch.zeros(1), Flaky())]))
    assert list(devices.differences(torch.device("cpu"))) == [("flaky", 2)]
