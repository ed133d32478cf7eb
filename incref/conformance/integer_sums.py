"""Says what becomes of sums of products of integers: whether all bits are kept, and what follows on the largest sum."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from incref.conformance.comparison import as_results
from incref.conformance.identification import Difference
from incref.conformance.implementation import Candidate

__all__ = ["IntegerSums", "probe_integers"]

_INT32 = torch.iinfo(torch.int32)
_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class IntegerSums:
    """What was seen of the sums of `int8_matmul`.

    Attributes:
        width: the accumulator in words: int32, float32, or 16 bits that saturate or wrap; "" if it is none of these.
        beyond: what becomes of a sum of `2**31`, in words.
        total: how many results were compared with exact sums, all of them within int32.
        wrong: how many differ.
        first: the first of these in words; "" if there is none.
        ruled_out: inputs that tell the width from others.
    """

    width: str
    beyond: str
    total: int
    wrong: int
    first: str
    ruled_out: tuple[Difference, ...]


def probe_integers(candidate: Candidate, fmt: str = "int8") -> IntegerSums:
    """Ask for sums that leave 16 bits, 24 bits and 32 bits.

    Args:
        candidate: of `int8_matmul`; it is called without scales.
        fmt: of `x`: int8 or uint8.

    Raises:
        ValueError: for another operation or format.
    """
    if candidate.op != "int8_matmul" or fmt not in ("int8", "uint8"):
        raise ValueError(f"integer sums are those of int8_matmul with x in int8 or uint8, got {candidate.op} {fmt}")
    dtype = torch.int8 if fmt == "int8" else torch.uint8
    found = [(x, w, _ask(candidate, x, w), _exact(x, w)) for x, w in _factors(dtype)]
    wrong = sum(int((got != want).sum()) for _, _, got, want in found)
    return IntegerSums(
        width=next((name for name, model in _WIDTHS.items() if _differing(found, model) is None), ""),
        beyond=_beyond(candidate, dtype),
        total=sum(want.numel() for *_, want in found),
        wrong=wrong,
        first=next((text for one in found if (text := _first(*one))), ""),
        ruled_out=tuple(one for name, model in _WIDTHS.items() if (one := _differing(found, model, name)) is not None),
    )


def _factors(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Factors whose sums need 16, 17, 25 and 31 bits, the shortest rows first."""
    limits = torch.iinfo(dtype)
    generator = torch.Generator().manual_seed(0)

    def full(length: int, value: int, of: torch.dtype) -> Tensor:
        return torch.full((1, length), value, dtype=of)

    # Two products of -128 leave 16 bits where two of 127 don't.
    most = -128 if limits.min else 127
    rows = [(full(2, most if limits.min else limits.max, dtype), full(2, most, torch.int8))]
    rows += [(full(length, limits.max, dtype), full(length, 127, torch.int8)) for length in (3, 4, 1041, 1 << 15)]
    drawn = (
        torch.randint(limits.min, limits.max + 1, (_ROWS, 4096), generator=generator).to(dtype),
        torch.randint(-128, 128, (_ROWS, 4096), generator=generator).to(torch.int8),
    )
    return [*rows, drawn]


def _ask(candidate: Candidate, x: Tensor, w: Tensor) -> Tensor:
    return as_results(candidate.call({"x": x, "w": w}))[0].to(torch.float64)


def _exact(x: Tensor, w: Tensor) -> Tensor:
    return x.to(torch.float64) @ w.to(torch.float64).T


def _differing(
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]], model: Callable[[Tensor, Tensor], Tensor], name: str = ""
) -> Difference | None:
    """The first sum that an accumulator does not explain."""
    for number, (x, w, got, _) in enumerate(found):
        would_be = model(x, w)
        wrong = (got != would_be).nonzero()
        if len(wrong):
            m, n = wrong[0].tolist()
            return Difference(
                option="accumulator",
                other=name,
                place=(number, m, n),
                given=_given(x, w, m, n),
                got=str(int(got[m, n])),
                would_be=str(int(would_be[m, n])),
            )
    return None


def _given(x: Tensor, w: Tensor, m: int, n: int) -> str:
    return f"{int(x[m, 0])} * {int(w[n, 0])} + ... of {x.shape[1]} products"


def _wrapped(x: Tensor, bits: int) -> Tensor:
    half = 2.0 ** (bits - 1)
    return (x + half).remainder(2 * half) - half


def _pairs(x: Tensor, w: Tensor, *, saturates: bool) -> Tensor:
    """Sums of neighbours' products in 16 bits, and their exact sum."""
    missing = x.shape[1] % 2
    left, right = (torch.nn.functional.pad(one.to(torch.float64), (0, missing)) for one in (x, w))
    total = torch.zeros(len(x), len(w), dtype=torch.float64)
    for row in range(len(x)):
        pairs = (left[row] * right).unflatten(1, (-1, 2)).sum(-1)
        narrow = pairs.clamp(-(2.0**15), 2.0**15 - 1) if saturates else _wrapped(pairs, 16)
        total[row] = narrow.sum(-1)
    return total


def _singles(x: Tensor, w: Tensor) -> Tensor:
    acc = torch.zeros(len(x), len(w))
    for k in range(x.shape[1]):
        acc = acc + x[:, k : k + 1].to(torch.float32) * w[:, k].to(torch.float32)
    return acc.to(torch.float64)


def _beyond(candidate: Candidate, dtype: torch.dtype) -> str:
    """What a sum beyond int32 becomes."""
    x, value = ((-128, -128), (128, 127))[dtype is torch.uint8]
    length = -(-(_INT32.max + 1) // (x * value))
    exact = length * x * value
    left, right = torch.full((1, length), x, dtype=dtype), torch.full((1, length), value, dtype=torch.int8)
    try:
        got = int(_ask(candidate, left, right).item())
    except Exception as error:  # noqa: BLE001  # a kernel may refuse it by anything
        return f"a sum of {exact} is refused ({type(error).__name__})"
    kinds = {int(_wrapped(torch.tensor(float(exact), dtype=torch.float64), 32)): "wraps", _INT32.max: "saturates"}
    return f"a sum of {exact} {kinds.get(got, 'is neither wrapped nor saturated')}: {got}"


def _first(x: Tensor, w: Tensor, got: Tensor, want: Tensor) -> str:
    wrong = (got != want).nonzero()
    if not len(wrong):
        return ""
    m, n = wrong[0].tolist()
    return f"{_given(x, w, m, n)} gives {int(got[m, n])}, not {int(want[m, n])}"


_WIDTHS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "int32": _exact,
        "int16 that saturates, for pairs of products": partial(_pairs, saturates=True),
        "int16 that wraps, for pairs of products": partial(_pairs, saturates=False),
        "int16 that wraps": lambda x, w: _wrapped(_exact(x, w), 16),
        "float32, products one after the other": _singles,
        "float32, rounded once": lambda x, w: _exact(x, w).to(torch.float32).to(torch.float64),
    }
)
"""Accumulators by name."""
