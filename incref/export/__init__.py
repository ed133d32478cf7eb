"""Captured graphs: PyTorch 2 Export quantization, whose products are those of `int8_matmul`."""

from incref.export.capture import export
from incref.export.exact import exact

__all__ = ["exact", "export"]
