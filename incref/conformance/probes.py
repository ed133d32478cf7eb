"""Matrix products whose answer is the same for every order, grouping and splitting of the sum.

In each, all terms are multiples of one power of two, and neither the positive nor the negative ones add up to more bits
than the narrowest accumulator that the probe is for keeps; so nothing is ever rounded (B0 in
`conformance/contracts/accumulation.md`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from incref.numerics.accumulate.float_parts import last_bit_of

__all__ = [
    "Probe",
    "gemm_probes",
    "guarded",
    "identity",
    "ladder",
    "nan_rows",
    "selection",
    "small_integers",
    "surround",
]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A product and its answer.

    Attributes:
        name: what it looks at.
        x: float32 [M, K].
        w: float32 [N, K].
        want: float32 [M, N], the only right answer.
    """

    name: str
    x: Tensor
    w: Tensor
    want: Tensor

    @property
    def bits(self) -> int:
        """How many bits below its first an accumulator has to keep for the answer to be the only one."""
        x, w = self.x.nan_to_num(0.0).double(), self.w.nan_to_num(0.0).double()
        # Every sum of some of the terms lies between that of the negative and that of the positive ones.
        up = x.clamp(min=0) @ w.clamp(min=0).T + x.clamp(max=0) @ w.clamp(max=0).T
        down = x.clamp(min=0) @ -w.clamp(max=0).T - x.clamp(max=0) @ w.clamp(min=0).T
        largest = torch.maximum(up, down).max() / (last_bit_of(x).min() * last_bit_of(w).min())
        return max(int(torch.frexp(largest).exponent) - 1, 0)


def identity(weight: Tensor, *, factor: float = 1.0) -> Probe:
    """Read every weight out: row k of `x` is `factor` at column k, so the answer is `factor * weight.T`.

    It sees each decoded weight with its scale through the whole kernel: the order of packed codes, groups, zero points,
    masks at the ends.

    Args:
        weight: float32 [N, K]; NaN and Inf are none of its values.
        factor: 1, -1 or another power of two.
    """
    x = factor * torch.eye(weight.shape[1])
    return Probe(name=f"identity by {factor:g}", x=x, w=weight, want=factor * weight.T + 0.0)


def selection(length: int, columns: int, edges: Sequence[int], *, seed: int = 0) -> Probe:
    """Take the sum of two terms, one on either side of every edge between tiles or groups, of small random integers.

    It sees terms that are counted twice, or not at all, where tiles meet.

    Args:
        length: K.
        columns: N.
        edges: places along K; each is paired with the one before it, with the first and with the last.
        seed: of the integers.
    """
    pairs = [
        (a, b) for edge in edges if 0 < edge < length for a, b in ((edge - 1, edge), (0, edge), (edge, length - 1))
    ]
    x = torch.zeros(len(pairs), length)
    for row, (one, other) in enumerate(pairs):
        x[row, one], x[row, other] = 1.0, 1.0
    w = _integers(columns, length, 3, seed)
    return Probe(name="selection", x=x, w=w, want=(x.double() @ w.double().T).float() + 0.0)


def small_integers(rows: int, columns: int, length: int, bits: int, *, seed: int = 0) -> Probe:
    """Multiply random integers so small, or so few, that no sum of magnitudes exceeds `2**bits`.

    Where K is too large for integers up to 3 everywhere, a random part of each row of `x` is 0; its last place never
    is.

    Args:
        rows: M.
        columns: N.
        length: K.
        bits: of the narrowest accumulator.
        seed: of the integers.
    """
    largest = 3 if bits >= 8 else 1
    budget = (1 << bits) // (largest * largest)
    x, w = _integers(rows, length, largest, seed), _integers(columns, length, largest, seed + 1)
    x = torch.where(x == 0, 1.0, x)
    if budget < length:
        generator = torch.Generator().manual_seed(seed + 2)
        order = torch.rand(rows, length, generator=generator)
        order[:, -1] = -1.0
        x = torch.where(order.argsort(-1).argsort(-1) < budget, x, 0.0)
    return Probe(name=f"integers of {bits} bits", x=x, w=w, want=(x.double() @ w.double().T).float() + 0.0)


def ladder(length: int, bits: int, places: Sequence[int]) -> Probe:
    """Add 1 between `2**bits` and `-2**bits`, at any three of some places: 1 is left.

    It sees an accumulator with fewer bits. Only `x` varies; `w` is powers of two that both factors share.

    Args:
        length: K.
        bits: that the accumulator is said to keep.
        places: along K, at least three.
    """
    triples = [
        (places[i], places[j], places[k])
        for i in range(len(places))
        for j in range(i + 1, len(places))
        for k in range(j + 1, len(places))
    ]
    half = bits // 2
    x, w = torch.zeros(2 * len(triples), length), torch.ones(1, length)
    rows = [(triple, sign) for triple in triples for sign in (1.0, -1.0)]
    for row, ((first, middle, last), sign) in enumerate(rows):
        x[row, first], x[row, last] = sign * 2.0 ** (bits - half), -sign * 2.0 ** (bits - half)
        x[row, middle] = sign * 2.0**-half
    want = torch.tensor([sign for _, sign in rows]).unsqueeze(1)
    return Probe(name=f"ladder of {bits} bits", x=x, w=w * 2.0**half, want=want)


def nan_rows(rows: int, columns: int, length: int, *, seed: int = 0) -> Probe:
    """Put one NaN in a row of `x` and one in a row of `w`: only their row and column of the answer are NaN.

    Args:
        rows: M.
        columns: N.
        length: K.
        seed: of the other values, and of the place of each NaN.
    """
    x, w = _integers(rows, length, 1, seed), _integers(columns, length, 1, seed + 1)
    want = (x.double() @ w.double().T).float() + 0.0
    generator = torch.Generator().manual_seed(seed + 2)
    for matrix, extent in ((x, rows), (w, columns)):
        row, place = (int(torch.randint(0, most, (), generator=generator)) for most in (extent, length))
        matrix[row, place] = torch.nan
    want[x.isnan().any(-1)] = torch.nan
    want[:, w.isnan().any(-1)] = torch.nan
    return Probe(name="NaN", x=x, w=w, want=want)


def gemm_probes(rows: int, columns: int, length: int, *, bits: int, edges: Sequence[int]) -> Iterator[Probe]:
    """List the probes of one shape.

    Args:
        rows: M.
        columns: N.
        length: K.
        bits: that the accumulator is said to keep below the first.
        edges: places along K where tiles or groups begin.
    """
    weight = _integers(columns, length, 3, 7)
    yield from (identity(weight, factor=factor) for factor in (1.0, -1.0, 0.25))
    if any(0 < edge < length for edge in edges):
        yield selection(length, columns, edges)
    yield from (small_integers(rows, columns, length, bits, seed=seed) for seed in range(3))
    inside = sorted({0, length - 1, *(edge + by for edge in edges for by in (-1, 0, 1) if 0 <= edge + by < length)})
    if length >= 3:
        yield ladder(length, bits, inside if len(inside) >= 3 else range(3))
    yield nan_rows(rows, columns, length)


def _integers(rows: int, length: int, largest: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, (rows, length), generator=generator).to(torch.float32)


def surround(x: Tensor, fill: int, *, guard: int = 64) -> tuple[Tensor, Tensor]:
    """Copy `x` into the middle of a buffer of poison.

    A kernel that reads beyond its argument takes in poison, and one that writes there can be seen by `guarded`.

    Args:
        x: any dtype and shape.
        fill: the byte that the buffer is full of: one that makes a NaN of the dtype, such as 0xFF.
        guard: how many elements of poison stand before and after.

    Returns:
        The copy, contiguous, and the bytes of the buffer that it is in.
    """
    size = x.element_size()
    buffer = torch.full(((x.numel() + 2 * guard) * size,), fill, dtype=torch.uint8, device=x.device)
    inside = buffer[guard * size : (guard + x.numel()) * size].view(x.dtype).view(x.shape)
    inside.copy_(x)
    return inside, buffer


def guarded(buffer: Tensor, inside: Tensor, fill: int) -> bool:
    """Whether the poison around `inside` is as `surround` left it."""
    start = inside.data_ptr() - buffer.data_ptr()
    stop = start + inside.numel() * inside.element_size()
    return bool((buffer[:start] == fill).all() and (buffer[stop:] == fill).all())
