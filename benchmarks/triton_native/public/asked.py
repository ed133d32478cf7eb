"""What packages ask CUDA while they are imported, answered where there is no GPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest import mock

__all__ = ["answered"]

_PROPERTIES = SimpleNamespace(name="gfx942", major=9, minor=4, multi_processor_count=304, total_memory=1 << 36)
_ANSWERS = {
    "torch.cuda.get_device_properties": _PROPERTIES,
    "torch.cuda.get_device_capability": (_PROPERTIES.major, _PROPERTIES.minor),
    "torch.utils._triton.has_triton": True,
}


@contextmanager
def answered() -> Iterator[None]:
    """Answer as for the GPU that kernels are compiled for: whether there is Triton, and what GPU there is.

    torchao defines no kernels otherwise, gemlite is not imported.
    """
    with ExitStack() as stack:
        for name, answer in _ANSWERS.items():
            stack.enter_context(mock.patch(name, return_value=answer))
        yield
