"""Which operations have a kernel for the CPU."""

from markdown_cells import code, table

from incref.ops import OPS
from incref_kernels.cpu.table import KERNELS

__all__ = ["cpu_kernels"]


def cpu_kernels() -> str:
    """Operations with a kernel, and those that the reference computes."""
    rows = [
        ["in a kernel", ", ".join(code(name) for name in OPS if name in KERNELS)],
        ["by the reference", ", ".join(code(name) for name in OPS if name not in KERNELS)],
    ]
    return table(["computed", "operations"], rows)
