"""Weights with random codes, and what files say of them, told without the code that is tested."""

import torch
from torch import Tensor

from incref.formats import FORMATS
from incref.numerics.granularity import per_channel, per_group
from incref.qtensor.parts import Parts
from incref.qtensor.qtensor import QTensor
from incref.qtensor.spec import QuantSpec


def draw_weight(
    rows: int,
    columns: int,
    bits: int,
    group_size: int,
    *,
    symmetric: bool = True,
    ordered: bool = False,
    dtype: torch.dtype = torch.float16,
) -> QTensor:
    """A weight whose scales are numbers of `dtype`, and whose zero points are not 0."""
    generator = torch.Generator().manual_seed(rows * columns + bits)
    groups = 1 if group_size == -1 else -(-columns // group_size)
    scale = (torch.rand(rows, groups, generator=generator) + 0.01).to(dtype).float()
    granularity = per_channel() if group_size == -1 else per_group(group_size)
    order = torch.randperm(columns, generator=generator).to(torch.int32) if ordered else None
    codes = torch.randint(0, 1 << bits, (rows, columns), generator=generator)
    if symmetric:
        parts = Parts(codes=(codes - (1 << (bits - 1))).to(torch.int8), scale=scale)
        spec = QuantSpec(fmt=FORMATS[f"int{bits}"], granularity=granularity)
    else:
        zero = torch.randint(1, 1 << bits, (rows, groups), generator=generator, dtype=torch.int32)
        parts = Parts(codes=codes.to(torch.uint8), scale=scale, zero_point=zero)
        spec = QuantSpec(fmt=FORMATS[f"uint{bits}"], granularity=granularity, symmetric=False)
    return QTensor.from_parts(parts, spec, dtype, order=order)


def stream(words: Tensor, bits: int, count: int) -> list[int]:
    """The codes of a stream of bits in words of 32, by an integer of as many bits as it takes."""
    number = sum((word % (1 << 32)) << (32 * i) for i, word in enumerate(words.tolist()))
    return [(number >> (bits * i)) % (1 << bits) for i in range(count)]


def convert_from_uint4(words: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """What Gaudi's operator computes, a nibble at a time: the difference with its sign, times the scale, [K, N]."""
    group = words.shape[0] // scales.shape[0]
    rows = []
    for k, row in enumerate(words.tolist()):
        codes = [(word >> (4 * j)) & 15 for word in row for j in range(8)]
        zero = [(word >> (4 * j)) & 15 for word in zeros[k // group].tolist() for j in range(8)]
        rows.append((torch.tensor(codes) - torch.tensor(zero)) * scales[k // group])
    return torch.stack(rows)
