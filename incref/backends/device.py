"""Whether a device is there."""

import torch

from incref.errors import UnsupportedError

__all__ = ["require_device"]


def require_device(device: torch.device | str) -> None:
    """Check that tensors can be put on a device.

    Raises:
        UnsupportedError: if PyTorch has no such device, or the machine hasn't.

    >>> require_device("cpu")
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        # PyTorch asserts that it was built for CUDA.
        raise UnsupportedError(f"nothing can be put on the device {str(device)!r}: {error}") from error
