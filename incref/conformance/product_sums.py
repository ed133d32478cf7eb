"""Asks a product of matrices for single sums: of rows whose products are known, one result a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from incref.conformance.comparison import as_results
from incref.conformance.implementation import Candidate
from incref.formats import FORMATS, BlockFormat, ElementFormat, FloatFormat, Format
from incref.numerics.granularity import PER_TOKEN
from incref.numerics.patterns import FLOAT_DTYPES
from incref.ops import encode, quantize_mx

__all__ = ["SUMS", "Sums", "sums_of"]

_WIDE = 8
_ACTIVATIONS = {name: dtype for dtype, name in FLOAT_DTYPES.items() if dtype is not torch.float64}


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums of products in floating point, asked from a candidate.

    Attributes:
        candidate: of `weight_only_matmul`, `fp8_matmul`, `fp8_bmm`, `fp8_conv2d` or `mx_matmul`.
        fmt: name of the format of the factors.
        layout: that format, of an element if it is one of blocks.
        ask: takes the candidate, the name, and codes or values [rows, K] of both factors; gives float32 [rows].
        has_weights_of_one: whether the second factor is of integers, so that powers of two are left to the first.
    """

    candidate: Candidate
    fmt: str
    layout: FloatFormat
    ask: Callable[[Candidate, str, Tensor, Tensor], Tensor]
    has_weights_of_one: bool = False

    def of_factors(self, x: Tensor, w: Tensor) -> Tensor:
        """The sum of the products of every row of `x` and of `w`, values of the layout."""
        return self.ask(self.candidate, self.fmt, x, w)

    def of_powers(self, terms: Tensor) -> Tensor:
        """The sum of every row of terms, each a power of two, or one times 0.5, 0.75 or so, and made of two factors."""
        if self.has_weights_of_one:
            return self.of_factors(terms, torch.ones_like(terms))
        exponent = torch.where(terms == 0, 0, torch.frexp(terms).exponent)
        half = exponent // 2
        x, w = torch.ldexp(terms, -half), torch.ldexp(torch.ones_like(terms), half)
        return self.of_factors(x, torch.where(terms == 0, 0.0, w))

    @property
    def is_narrow(self) -> bool:
        """Whether factors are elements of blocks that have few exponents of their own."""
        return _is_narrow(FORMATS[self.fmt])

    @property
    def largest(self) -> int:
        """The exponent of the largest power of two among the products."""
        return self.layout.emax * (1 if self.has_weights_of_one else 2)

    @property
    def smallest(self) -> int:
        """That of the smallest, subnormal factors among them."""
        return (self.layout.emin - self.layout.mantissa_bits) * (1 if self.has_weights_of_one else 2)


def sums_of(candidate: Candidate, fmt: str | None = None) -> Sums:
    """Say how to ask a candidate for sums.

    Args:
        candidate: of a product in floating point.
        fmt: of the factors: for `weight_only_matmul` that of the activations, float32, bfloat16 or float16; None for
            the one with the most exponents of those that the candidate declares.

    Raises:
        ValueError: for another operation or format.
    """
    if candidate.op not in SUMS:
        raise ValueError(f"accumulators are probed through {', '.join(SUMS)}, got {candidate.op}")
    default, ask = SUMS[candidate.op]
    found = FORMATS.get(fmt or _widest(candidate, default))
    is_weight = candidate.op == "weight_only_matmul"
    element = found.element if isinstance(found, BlockFormat) else found
    is_right = isinstance(found, BlockFormat) == (candidate.op == "mx_matmul")
    if is_weight:
        is_right = found is not None and found.name in _ACTIVATIONS
    if not is_right or not isinstance(element, FloatFormat) or found is None:
        raise ValueError(f"{candidate.op} is asked with float factors of its own formats, such as {default}, got {fmt}")
    return Sums(candidate=candidate, fmt=found.name, layout=element, ask=ask, has_weights_of_one=is_weight)


def _widest(candidate: Candidate, default: str) -> str:
    """The default if it is among the declared formats, else the one of these that reaches farthest."""
    declared = [one for one in candidate.options.get("x_fmt", (default,)) if isinstance(one, str) and one in FORMATS]
    if not declared or default in declared:
        return default
    return max(declared, key=lambda name: _element(FORMATS[name]).emax)


def _element(fmt: Format) -> ElementFormat:
    return fmt.element if isinstance(fmt, BlockFormat) else fmt


def _weight_only(candidate: Candidate, fmt: str, x: Tensor, w: Tensor) -> Tensor:
    """Weights are integers of 8 bits with a scale of 1."""
    arguments = {
        "x": x.to(_ACTIVATIONS[fmt]),
        "w": w.to(torch.int8),
        "scale": torch.ones(len(w), 1),
        "fmt": "int8",
        "granularity": PER_TOKEN,
        "dtype": torch.float32,
    }
    return as_results(candidate.call(arguments))[0].diagonal()


def _fp8(candidate: Candidate, fmt: str, x: Tensor, w: Tensor) -> Tensor:
    return as_results(candidate.call(_unscaled(encode(x, fmt), encode(w, fmt), fmt)))[0].diagonal()


def _bmm(candidate: Candidate, fmt: str, x: Tensor, w: Tensor) -> Tensor:
    """A batch of one."""
    arguments = {"x": encode(x, fmt)[None], "y": encode(w, fmt).T.contiguous()[None], "x_scale": None, "y_scale": None}
    formats = {"x_fmt": fmt, "y_fmt": fmt, "dtype": torch.float32}
    return as_results(candidate.call({**arguments, **formats}))[0][0].diagonal()


def _conv2d(candidate: Candidate, fmt: str, x: Tensor, w: Tensor) -> Tensor:
    """Images and filters of one place, with all of K as channels."""
    images, filters = (encode(one, fmt)[:, :, None, None] for one in (x, w))
    return as_results(candidate.call(_unscaled(images, filters, fmt)))[0][:, :, 0, 0].diagonal()


def _unscaled(x: Tensor, w: Tensor, fmt: str) -> dict[str, object]:
    return {
        "x": x,
        "w": w,
        "x_scale": None,
        "w_scale": None,
        "x_fmt": fmt,
        "w_fmt": fmt,
        "dtype": torch.float32,
    }


def _mx(candidate: Candidate, fmt: str, x: Tensor, w: Tensor) -> Tensor:
    """Blocks with a scale of 1, or of narrow elements with the scales that the values need."""
    target = FORMATS[fmt]
    assert isinstance(target, BlockFormat)
    arguments: dict[str, object] = {"x_fmt": fmt, "w_fmt": fmt, "dtype": torch.float32}
    for side, values in (("x", x), ("w", w)):
        codes = encode(values, target.element)
        scale = encode(torch.ones(len(values), -(-x.shape[1] // target.block_size)), target.scale)
        if target.has_tensor_scale:
            arguments[f"{side}_tensor_scale"] = torch.tensor(1.0)
        elif _is_narrow(target):
            codes, scale = quantize_mx(values, target)  # type: ignore[misc]  # two without a scale of the tensor
        arguments |= {side: codes, f"{side}_scale": scale}
    return as_results(candidate.call(arguments))[0].diagonal()


def _is_narrow(fmt: Format) -> bool:
    return isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale and fmt.element.bits < _WIDE


SUMS: Mapping[str, tuple[str, Callable[[Candidate, str, Tensor, Tensor], Tensor]]] = MappingProxyType(
    {
        "weight_only_matmul": ("float32", _weight_only),
        "fp8_matmul": ("float8_e5m2", _fp8),
        "fp8_bmm": ("float8_e5m2", _bmm),
        "fp8_conv2d": ("float8_e5m2", _conv2d),
        "mx_matmul": ("mxfp8_e5m2", _mx),
    }
)
"""By operation, a format with many exponents and how to ask."""
