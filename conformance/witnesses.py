"""Other libraries' conversions, asked the same questions: witnesses, not judges.

python -m conformance.witnesses

`conformance.known_differences` lists where one differs from the reference, and why.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from conformance.known_differences import KNOWN_DIFFERENCES
from incref.conformance.judge import bits_of
from incref.conformance.samples import all_patterns
from incref.formats import FORMATS, ElementFormat, FloatFormat, NanRule, Overflow
from incref.ops import decode, encode

__all__ = ["INPUTS", "WITNESSES", "Witness", "differing_inputs", "sources"]


def _element(name: str) -> ElementFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    return fmt


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A library that converts to some formats.

    Attributes:
        name: of the package.
        overflow: what it does with values outside the range, by full name of each format that it has.
        encode: values and the full name of a format to codes, uint8.
        decode: codes, uint8, and the full name of a format to values, float32.
    """

    name: str
    overflow: Mapping[str, Overflow]
    encode: Callable[[Tensor, str], Tensor]
    decode: Callable[[Tensor, str], Tensor]


def _ml_dtypes_encode(x: Tensor, name: str) -> Tensor:
    witness = import_module("ml_dtypes")
    source = witness.bfloat16 if x.dtype is torch.bfloat16 else np.dtype(f"f{x.itemsize}")
    array = bits_of(x).numpy().view(source)
    with np.errstate(all="ignore"):
        return torch.from_numpy(array.astype(getattr(witness, name)).view(np.uint8))


def _ml_dtypes_decode(codes: Tensor, name: str) -> Tensor:
    witness = import_module("ml_dtypes")
    with np.errstate(all="ignore"):
        return torch.from_numpy(codes.numpy().view(getattr(witness, name)).astype(np.float32))


def _torch_encode(x: Tensor, name: str) -> Tensor:
    return x.to(getattr(torch, name)).view(torch.uint8)


def _torch_decode(codes: Tensor, name: str) -> Tensor:
    return codes.view(getattr(torch, name)).to(torch.float32)


_NONSATURATE = Overflow.NONSATURATE
_TORCH_SATURATES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)

WITNESSES: tuple[Witness, ...] = (
    Witness(
        name="ml_dtypes",
        overflow=MappingProxyType(
            # FP6 and FP4 have nothing beyond their range, and are saturated.
            dict.fromkeys(("float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"), Overflow.SATURATE)
            | dict.fromkeys(
                (
                    "float8_e4m3fn",
                    "float8_e5m2",
                    "float8_e4m3fnuz",
                    "float8_e5m2fnuz",
                    "float8_e4m3",
                    "float8_e4m3b11fnuz",
                    "float8_e3m4",
                    "float8_e8m0fnu",
                ),
                _NONSATURATE,
            )
        ),
        encode=_ml_dtypes_encode,
        decode=_ml_dtypes_decode,
    ),
    Witness(
        name="torch",
        overflow=MappingProxyType(
            {
                # What an overflow becomes changed twice: NaN up to 2.11, for finite values the largest one in 2.12, and
                # for infinities too from 2.13 on.
                "float8_e4m3fn": Overflow.SATURATE if _TORCH_SATURATES else _NONSATURATE,
                "float8_e5m2": _NONSATURATE,
                "float8_e4m3fnuz": _NONSATURATE,
                "float8_e5m2fnuz": _NONSATURATE,
                "float8_e8m0fnu": _NONSATURATE,
            }
        ),
        encode=_torch_encode,
        decode=_torch_decode,
    ),
)
"""The libraries whose conversions take whole arrays. gfloat's take one number at a time: see the oracle's tests."""


def _is_tie(x: Tensor, fmt: FloatFormat) -> Tensor:
    """Whether a value lies midway between two powers of two, the only ties of a format without mantissa."""
    mantissa, _ = torch.frexp(x.to(torch.float64).abs())
    # frexp counts from 1/2, so midway is 3/4; below the smallest value there is nothing to tie with.
    return (mantissa == 0.75) & (fmt.mantissa_bits == 0)


def _in_first_step(ratio: Tensor) -> Tensor:
    return (ratio > 1) & (ratio < 2)


INPUTS: Mapping[str, Callable[[Tensor, FloatFormat], Tensor]] = MappingProxyType(
    {
        "nan": lambda x, _: x.isnan(),
        "infinite": lambda x, _: x.isinf(),
        "zero": lambda x, _: x == 0,
        "negative": lambda x, _: x < 0,
        "overflow": lambda x, fmt: x.isfinite() & (x.to(torch.float64).abs() > fmt.qmax),
        "tie": _is_tie,
        "above least": lambda x, fmt: _in_first_step(x.to(torch.float64).abs() / fmt.smallest_positive),
        "tiny": lambda x, fmt: (x != 0) & (x.to(torch.float64).abs() < fmt.smallest_positive),
    }
)
"""Classes of inputs that differences are stated for."""


def sources() -> dict[str, Tensor]:
    """Every bfloat16 and every float16."""
    return {str(dtype): all_patterns(dtype) for dtype in (torch.bfloat16, torch.float16)}


def differing_inputs(witness: Witness, name: str, x: Tensor) -> Tensor:
    """Whether the witness gives another code than `encode` for each of `x`; NaNs are equal whatever their code."""
    fmt = _element(name)
    ours = encode(x, fmt, overflow=witness.overflow[name], nan=NanRule.ZERO)
    theirs = witness.encode(x, name)
    mask = (1 << fmt.bits) - 1
    is_equal = (ours & mask) == (theirs & mask)
    return ~(is_equal | (decode(ours, fmt).isnan() & decode(theirs, fmt).isnan()))


def main() -> int:
    """Print what every witness says to every format, and how many inputs differ in each known class."""
    status = 0
    for witness in WITNESSES:
        sys.stdout.write(f"{witness.name} {version(witness.name)}\n")
        for name in witness.overflow:
            for source, x in sources().items():
                left = differing_inputs(witness, name, x)
                counts = []
                for row in KNOWN_DIFFERENCES:
                    if (row.witness, name in row.formats) == (witness.name, True):
                        of_class = left & INPUTS[row.inputs](x, FORMATS[name])
                        counts.append(f"{int(of_class.sum())} {row.inputs}")
                        left = left & ~of_class
                unknown = int(left.sum())
                status |= unknown > 0
                first = f", first {float(x[left][0]).hex()}" if unknown else ""
                sys.stdout.write(f"  {name} from {source}: {', '.join(counts) or 'equal'}; unknown {unknown}{first}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
