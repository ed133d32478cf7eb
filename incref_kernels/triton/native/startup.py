"""What `TRITON_NATIVE=1` does: every launch of the process runs on the CPU.

`incref_triton_native.pth`, which an installed wheel puts beside its packages, calls this before a script begins.
"""

import atexit

from incref_kernels.triton.native.install import installed

__all__ = ["start"]


def start() -> None:
    """Let every launch of a Triton kernel run on the CPU until the process ends."""
    block = installed()
    block.__enter__()
    atexit.register(block.__exit__, None, None, None)
