"""All rows."""

from benchmarks.triton_native.language import blocks, conversions, elementwise, libdevice, memory, products

__all__ = ["ROWS"]

ROWS = [*elementwise.ROWS, *conversions.ROWS, *blocks.ROWS, *memory.ROWS, *products.ROWS, *libdevice.ROWS]
