"""A program that multiplies 8-bit floats as an Ada GPU does: `fp8_matmul` without scales, over a pipe.

With the argument `ada` it declares that, with `sequential` sums one after the other, which is not what it does.
"""

import json
import sys

import torch
from safetensors.torch import load, save
from torch import Tensor

from incref.formats import FORMATS, FloatFormat
from incref.numerics.accumulate.evaluate import accumulate_codes
from incref.numerics.accumulate.table import find_accumulator

ADA = find_accumulator("ada_mma_fp8")
DECLARED = {"ada": "ada_mma_fp8", "sequential": {"sequential": {}}}


def answer(tensors: dict[str, Tensor], options: dict[str, str]) -> dict[str, Tensor]:
    """Multiply, scale, round."""
    fmt = FORMATS[options["x_fmt"]]
    assert isinstance(fmt, FloatFormat)
    y = accumulate_codes(tensors["x"], tensors["w"], fmt, fmt, ADA)
    if "x_scale" in tensors:
        y *= tensors["x_scale"] * tensors["w_scale"]
    return {"0": y.to(getattr(torch, options["dtype"]))}


def main() -> None:
    """Answer calls until there are no more."""
    while size := sys.stdin.buffer.read(8):
        message = sys.stdin.buffer.read(int.from_bytes(size, "little"))
        told = json.loads(message[8 : 8 + int.from_bytes(message[:8], "little")])["__metadata__"]
        if told["call"] == "describe":
            accumulators = {"fp8_matmul": DECLARED[sys.argv[1]]}
            found = save({}, {"ops": json.dumps({"fp8_matmul": {}}), "accumulators": json.dumps(accumulators)})
        else:
            found = save(answer(load(message), json.loads(told["options"])))
        sys.stdout.buffer.write(len(found).to_bytes(8, "little") + found)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
