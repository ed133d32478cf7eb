import pytest
import torch

from incref.backends.device import require_device
from incref.errors import UnsupportedError


@pytest.mark.parametrize("device", ["cpu", "meta", torch.device("cpu")])
def test_devices_that_are_there(device: str | torch.device) -> None:
    require_device(device)


@pytest.mark.parametrize("device", ["hip", "nonsense", torch.device("vulkan")])
def test_devices_that_are_not_there_are_named(device: str | torch.device) -> None:
    with pytest.raises(UnsupportedError, match=f"nothing can be put on the device '{device}': "):
        require_device(device)
