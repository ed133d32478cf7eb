"""Backend "hpu": Intel Gaudi, by the operators of `torch.ops.hpu`, or by what simulates them on the CPU.

INCREF_HPU_SIMULATOR=gaudi2 (or gaudi3) simulates until the process ends, `simulate("gaudi2")` until its block does.
Nothing here was ever run on a Gaudi.
"""

import os

from incref.backends.backend import Backend
from incref_kernels.hpu import (
    decode,
    dequantize_float,
    encode,
    fp8_bmm,
    fp8_conv2d,
    fp8_matmul,
    quantize_float,
    weight_only_matmul,
)
from incref_kernels.hpu.available import home, why_unavailable
from incref_kernels.hpu.runtime import settle
from incref_kernels.hpu.simulator.simulate import simulate, start

__all__ = ["BACKEND", "simulate"]

BACKEND = Backend(
    name="hpu",
    why_unavailable=why_unavailable,
    kernels={
        "encode": encode.KERNEL,
        "decode": decode.KERNEL,
        "quantize_float": quantize_float.KERNEL,
        "dequantize_float": dequantize_float.KERNEL,
        "fp8_matmul": fp8_matmul.KERNEL,
        "fp8_bmm": fp8_bmm.KERNEL,
        "fp8_conv2d": fp8_conv2d.KERNEL,
        "weight_only_matmul": weight_only_matmul.KERNEL,
    },
    devices=("hpu",),
    home=home,
    settle=settle,
)

if os.environ.get("INCREF_HPU_SIMULATOR"):
    start(os.environ["INCREF_HPU_SIMULATOR"].lower())
