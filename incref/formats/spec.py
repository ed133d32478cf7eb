"""Number formats as data: each stores a few facts and derives the rest.

Everything here is exact. A property that is a `float` is a value that binary64 holds exactly.
"""

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

__all__ = ["BlockFormat", "CodebookFormat", "ElementFormat", "FloatFormat", "Format", "IntFormat", "Specials"]


class Specials(Enum):
    """Where a float format keeps its NaN and Inf."""

    IEEE = "ieee"
    """The greatest exponent field: Inf where the mantissa field is 0, NaN elsewhere."""
    FN = "fn"
    """NaN where exponent and mantissa fields are all ones; no Inf (the `fn` of the usual names)."""
    FNUZ = "fnuz"
    """NaN in place of -0; no Inf (the `fnuz` of the usual names)."""
    FINITE = "finite"
    """Neither NaN nor Inf."""
    EXTENDED = "extended"
    """P3109: one NaN, in place of -0 or, if unsigned, as the last code; Inf as the last code before it."""


@dataclass(frozen=True, kw_only=True)
class FloatFormat:
    """A binary float of sign, exponent and mantissa fields, in this order from the top.

    A code (s, e, m) means `(-1)**s * 2**(e - bias) * (1 + m / 2**mantissa_bits)`;
    for `e == 0` it means `(-1)**s * 2**(1 - bias) * (m / 2**mantissa_bits)`, unless `has_zero` is false.
    `Specials` says which codes mean something else. Codes of one sign are ordered as their values.

    Attributes:
        name: the name in `FORMATS`.
        exponent_bits: width of the exponent field.
        mantissa_bits: width of the mantissa field, the implicit bit not counted.
        bias: what the exponent field is reduced by.
        specials: where NaN and Inf are.
        source: the document that defines the format.
        is_signed: whether there is a sign bit.
        has_zero: whether exponent field 0 holds zero and the subnormals; E8M0 has a normal value there.
        is_experimental: whether the defining document is a draft or the format a proposal.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    specials: Specials
    source: str
    is_signed: bool = True
    has_zero: bool = True
    is_experimental: bool = False

    def __post_init__(self) -> None:
        """Refuse combinations that no code layout has."""
        if self.exponent_bits < 1 or self.mantissa_bits < 0:
            raise ValueError(
                f"{self.name}: exponent_bits must be at least 1 and mantissa_bits at least 0, "
                f"got {self.exponent_bits} and {self.mantissa_bits}"
            )
        if self.specials is Specials.FNUZ and not self.is_signed:
            raise ValueError(f"{self.name}: FNUZ keeps its NaN at -0, so the format must be signed")

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.is_signed + self.exponent_bits + self.mantissa_bits

    @property
    def num_codes(self) -> int:
        """How many codes there are."""
        return 1 << self.bits

    @property
    def sign_code(self) -> int:
        """The sign bit as a code; 0 if the format is unsigned."""
        return 1 << (self.bits - 1) if self.is_signed else 0

    @property
    def max_code(self) -> int:
        """Code of the largest finite value."""
        last = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        match self.specials:
            case Specials.IEEE:
                return last - (1 << self.mantissa_bits)
            case Specials.FN:
                return last - 1
            case Specials.EXTENDED:
                return last - 1 if self.is_signed else last - 2
            case Specials.FNUZ | Specials.FINITE:
                return last

    @property
    def inf_code(self) -> int | None:
        """Code of +Inf, or None; -Inf has the sign bit beside it."""
        return self.max_code + 1 if self.specials in (Specials.IEEE, Specials.EXTENDED) else None

    @property
    def nan_code(self) -> int | None:
        """The code that a NaN with sign bit 0 is encoded as, or None.

        Where there are several it is the quiet NaN with nothing else in its payload.
        """
        match self.specials:
            case Specials.IEEE:
                return self.max_code + 1 + ((1 << self.mantissa_bits) >> 1)
            case Specials.FN:
                return self.max_code + 1
            case Specials.EXTENDED:
                return self.sign_code if self.is_signed else self.max_code + 2
            case Specials.FNUZ:
                return self.sign_code
            case Specials.FINITE:
                return None

    @property
    def has_signed_nan(self) -> bool:
        """Whether NaN comes with either sign."""
        return self.is_signed and self.specials in (Specials.IEEE, Specials.FN)

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 has a code."""
        return self.is_signed and self.has_zero and self.specials not in (Specials.FNUZ, Specials.EXTENDED)

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal value."""
        return (1 if self.has_zero else 0) - self.bias

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value."""
        return (self.max_code >> self.mantissa_bits) - self.bias

    @property
    def qmax(self) -> float:
        """Largest finite value."""
        return self.value(self.max_code)

    @property
    def qmin(self) -> float:
        """Least finite value: `-qmax`, or the smallest one if the format is unsigned."""
        return -self.qmax if self.is_signed else self.value(0)

    @property
    def smallest_normal(self) -> float:
        """Smallest positive value with an implicit leading one."""
        return math.ldexp(1.0, self.emin)

    @property
    def smallest_subnormal(self) -> float | None:
        """Smallest positive value below the normal ones; None if the format has no subnormals."""
        return math.ldexp(1.0, self.emin - self.mantissa_bits) if self.has_zero and self.mantissa_bits else None

    @property
    def smallest_positive(self) -> float:
        """Smallest positive value of all."""
        return self.smallest_subnormal or self.smallest_normal

    def is_nan(self, code: int) -> bool:
        """Whether `code` means NaN."""
        if self.nan_code is None:
            return False
        if self.specials is Specials.IEEE:
            return (code & ~self.sign_code) > self.max_code + 1
        return code == self.nan_code or (self.has_signed_nan and code == self.nan_code | self.sign_code)

    def value(self, code: int) -> float:
        """Value of `code`, exact in binary64.

        >>> from incref.formats.table import get_format
        >>> get_format("e4m3fn").value(0x7E)
        448.0
        """
        if not 0 <= code < self.num_codes:
            raise ValueError(f"{self.name} has the codes 0 to {self.num_codes - 1}, got {code}")
        sign = -1.0 if code & self.sign_code else 1.0
        if self.is_nan(code):
            return math.copysign(math.nan, sign) if self.has_signed_nan else math.nan
        magnitude = code & ~self.sign_code
        if self.inf_code is not None and magnitude == self.inf_code:
            return sign * math.inf
        field = magnitude >> self.mantissa_bits
        mantissa = magnitude & ((1 << self.mantissa_bits) - 1)
        if field or not self.has_zero:
            mantissa += 1 << self.mantissa_bits
        exponent = max(field, 1 if self.has_zero else 0) - self.bias
        return sign * math.ldexp(mantissa, exponent - self.mantissa_bits)

    @cached_property
    def values(self) -> tuple[float, ...]:
        """Value of every code, in the order of the codes (formats of at most 16 bits)."""
        if self.bits > 16:
            raise ValueError(f"{self.name} has {self.num_codes} codes; values lists at most 65536, use value(code)")
        return tuple(self.value(code) for code in range(self.num_codes))

    @property
    def num_values(self) -> int:
        """How many different finite values there are; -0 is not counted beside +0."""
        positive = self.max_code + (not self.has_zero)
        return positive * (2 if self.is_signed else 1) + self.has_zero


@dataclass(frozen=True, kw_only=True)
class IntFormat:
    """An integer of `bits` bits, two's complement if signed; a code q means `q * 2**-fraction_bits`.

    Attributes:
        name: the name in `FORMATS`.
        bits: width of a code.
        is_signed: whether codes are two's complement.
        source: the document that defines the format.
        fraction_bits: how many of the bits stand after the binary point.
        is_experimental: whether the defining document is a draft or the format a proposal.
    """

    name: str
    bits: int
    is_signed: bool
    source: str
    fraction_bits: int = 0
    is_experimental: bool = False

    def __post_init__(self) -> None:
        """Refuse widths that no code dtype holds."""
        if not 1 + self.is_signed <= self.bits <= 16:
            raise ValueError(f"{self.name}: bits must be {1 + self.is_signed} to 16, got {self.bits}")

    @property
    def num_codes(self) -> int:
        """How many codes there are."""
        return 1 << self.bits

    @property
    def max_code(self) -> int:
        """The greatest code."""
        return (1 << (self.bits - self.is_signed)) - 1

    @property
    def min_code(self) -> int:
        """The least code, with the whole range in use."""
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def qmax(self) -> float:
        """The greatest value."""
        return math.ldexp(self.max_code, -self.fraction_bits)

    @property
    def qmin(self) -> float:
        """The least value, with the whole range in use."""
        return math.ldexp(self.min_code, -self.fraction_bits)

    @property
    def emax(self) -> int:
        """Exponent of the greatest value."""
        return self.max_code.bit_length() - 1 - self.fraction_bits

    @property
    def smallest_positive(self) -> float:
        """The step of the grid."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def num_values(self) -> int:
        """How many different values there are."""
        return self.num_codes

    def value(self, code: int) -> float:
        """Value of `code`."""
        if not self.min_code <= code <= self.max_code:
            raise ValueError(f"{self.name} has the codes {self.min_code} to {self.max_code}, got {code}")
        return math.ldexp(code, -self.fraction_bits)

    @cached_property
    def values(self) -> tuple[float, ...]:
        """Value of every code, in the order of the codes read as unsigned."""
        half = self.max_code + 1
        return tuple(self.value(c - self.num_codes if c >= half else c) for c in range(self.num_codes))


@dataclass(frozen=True, kw_only=True)
class CodebookFormat:
    """A list of values; a code is a place in it.

    Attributes:
        name: the name in `FORMATS`.
        values: value of every code, ascending, each exact in binary32.
        source: the document that defines the format.
        is_experimental: whether the defining document is a draft or the format a proposal.
    """

    name: str
    values: tuple[float, ...]
    source: str
    is_experimental: bool = False

    def __post_init__(self) -> None:
        """Refuse lists that are not ascending or not a power of two long."""
        if list(self.values) != sorted(set(self.values)):
            raise ValueError(f"{self.name}: values must ascend")
        if len(self.values) != 1 << self.bits:
            raise ValueError(f"{self.name}: the number of values must be a power of two, got {len(self.values)}")

    @property
    def bits(self) -> int:
        """Width of a code."""
        return len(self.values).bit_length() - 1

    @property
    def num_codes(self) -> int:
        """How many codes there are."""
        return len(self.values)

    @property
    def num_values(self) -> int:
        """How many different values there are."""
        return len(self.values)

    @property
    def max_code(self) -> int:
        """Code of the greatest value."""
        return len(self.values) - 1

    @property
    def qmax(self) -> float:
        """The greatest value."""
        return self.values[-1]

    @property
    def qmin(self) -> float:
        """The least value."""
        return self.values[0]

    @property
    def emax(self) -> int:
        """Exponent of the greatest value."""
        return math.frexp(self.qmax)[1] - 1

    @property
    def smallest_positive(self) -> float:
        """The smallest positive value."""
        return min(v for v in self.values if v > 0)

    def value(self, code: int) -> float:
        """Value of `code`."""
        if not 0 <= code < self.num_codes:
            raise ValueError(f"{self.name} has the codes 0 to {self.num_codes - 1}, got {code}")
        return self.values[code]


ElementFormat = FloatFormat | IntFormat | CodebookFormat
"""A format whose codes stand alone."""


@dataclass(frozen=True, kw_only=True)
class BlockFormat:
    """Blocks of elements that share a scale: a value is `tensor_scale * scale * element`.

    Attributes:
        name: the name in `FORMATS`.
        element: format of the elements.
        scale: format of the scale of a block.
        block_size: how many consecutive elements share a scale.
        source: the document that defines the format.
        has_tensor_scale: whether one float32 scale for the whole tensor multiplies all blocks; 1 otherwise.
        is_experimental: whether the defining document is a draft or the format a proposal.
    """

    name: str
    element: FloatFormat | IntFormat
    scale: FloatFormat
    block_size: int
    source: str
    has_tensor_scale: bool = False
    is_experimental: bool = False

    @property
    def bits(self) -> int:
        """Width of an element's code."""
        return self.element.bits

    @property
    def bits_per_element(self) -> float:
        """Bits that an element takes with its share of the block's scale."""
        return self.element.bits + self.scale.bits / self.block_size


Format = ElementFormat | BlockFormat
"""Any row of the table."""
