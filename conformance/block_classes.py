"""Blocks of float32 values, by what is difficult about them."""

from fractions import Fraction

import torch
from torch import Generator, Tensor

from incref.formats import BlockFormat
from incref.oracle.ladder import greatest, ladder
from incref.oracle.scales import even_threshold

__all__ = ["block_classes"]

_MANTISSA = 23
_INF = 0x7F800000
_SMALLEST_NORMAL = 1 << _MANTISSA
_EXPONENTS = range(-149, 128)


def block_classes(fmt: BlockFormat, *, scale: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    """Make blocks of every class.

    Args:
        fmt: their block size, and the format whose thresholds are approached.
        scale: share of the usual number of blocks; 1 gives more than 10,000 in all.
        seed: of the random ones.

    Returns:
        float32 [blocks, block_size] by the name of the class.
    """
    draw = _Draw(fmt.block_size, scale, seed)
    top = [amax for amax in _powers() if amax >= _pattern(Fraction(2) ** 118)]
    return {
        "random": torch.randn(draw.count(3000), draw.size, generator=draw.generator),
        "wide exponents": draw.patterns(draw.count(2000), 0, _INF - 1),
        "just below 2^k": draw.with_amax([amax - ulps for amax in _powers() for ulps in (1, 2, 3, 20)]),
        "2^k": draw.with_amax(_powers()),
        "just above 2^k": draw.with_amax([amax + 1 for amax in _powers()]),
        "scale thresholds": draw.with_amax(_scale_thresholds(fmt)),
        "element ties": draw.ties(fmt, draw.count(1500)),
        "subnormal": draw.patterns(draw.count(700), 0, _SMALLEST_NORMAL - 1),
        "subnormal and zero": draw.patterns(draw.count(300), 0, _SMALLEST_NORMAL - 1, zeros=0.25),
        "least normal": draw.patterns(draw.count(500), _SMALLEST_NORMAL - 8, _pattern(Fraction(2) ** -110)),
        "top of range": draw.patterns(draw.count(500), _pattern(Fraction(2) ** 118), _INF - 1),
        "top powers": draw.with_amax([amax + ulps for amax in top for ulps in (-1, 0, 1)]),
        "zero": torch.zeros(4, draw.size) * torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]),
        "nan": draw.with_special(draw.count(200), torch.nan),
        "inf": draw.with_special(draw.count(200), torch.inf),
    }


def _pattern(value: Fraction) -> int:
    return int(torch.tensor(float(value), dtype=torch.float32).view(torch.int32))


def _powers() -> list[int]:
    """Patterns of the powers of two, the subnormal ones too."""
    return [_pattern(Fraction(2) ** exponent) for exponent in _EXPONENTS]


def _scale_thresholds(fmt: BlockFormat) -> list[int]:
    """Patterns around the significands at which the rules RCEIL and EVEN change the exponent."""
    most = greatest(fmt.element)
    significands = [most / Fraction(2) ** (most.numerator.bit_length() - most.denominator.bit_length())]
    significands.append(even_threshold(fmt.element))
    return [
        _pattern(significand * Fraction(2) ** exponent) + ulps
        for significand in significands
        for exponent in range(-126, 127)
        for ulps in (-1, 0, 1)
    ]


class _Draw:
    """Random blocks of one size.

    Attributes:
        size: elements of a block.
        generator: of all of them.
    """

    def __init__(self, size: int, scale: float, seed: int) -> None:
        self.size = size
        self.generator = Generator().manual_seed(seed)
        self._scale = scale

    def count(self, usual: int) -> int:
        """How many blocks to make where `usual` is the whole number."""
        return max(1, round(usual * self._scale))

    def patterns(self, count: int, least: int, most: int, *, zeros: float = 0.0) -> Tensor:
        """Values of either sign, a share of `zeros` among them, others with uniform patterns of magnitude."""
        magnitude = torch.randint(least, most + 1, (count, self.size), generator=self.generator)
        is_zero = torch.rand(magnitude.shape, generator=self.generator) < zeros
        return self._signed(magnitude.masked_fill(is_zero, 0))

    def with_amax(self, amax: list[int]) -> Tensor:
        """Blocks that have the given magnitude patterns as largest ones, at a random place, beside random values."""
        step = max(1, round(1 / self._scale))
        peak = torch.tensor(amax[::step]).clamp(0, _INF - 1).unsqueeze(1)
        fraction = torch.rand((len(peak), self.size), generator=self.generator)
        # Values within eight binades of the largest, as patterns: those are linear in the logarithm.
        magnitude = (peak - (fraction * 8 * _SMALLEST_NORMAL).to(torch.int64)).clamp(min=0)
        place = torch.randint(self.size, (len(peak), 1), generator=self.generator)
        return self._signed(magnitude.scatter(1, place, peak))

    def ties(self, fmt: BlockFormat, count: int) -> Tensor:
        """Blocks whose scaled elements are midpoints between neighbouring values, or next to one."""
        rungs = ladder(fmt.element, is_negative=False)
        middle = [
            Fraction(low + high, 2) * Fraction(2) ** rungs.exponent
            for low, high in zip(rungs.magnitudes, rungs.magnitudes[1:], strict=False)
        ]
        table = torch.tensor([float(value) for value in middle])
        choice = torch.randint(len(middle), (count, self.size), generator=self.generator)
        exponent = torch.randint(-100, 100, (count, 1), generator=self.generator)
        near = torch.randint(-1, 2, (count, self.size), generator=self.generator)
        # Each block has an element between the greatest value and the next power of two, which fixes its scale.
        values = torch.ldexp(torch.cat([table[choice[:, 1:]], table[-1:].expand(count, 1)], dim=1), exponent)
        return self._signed(values.view(torch.int32) + near)

    def with_special(self, count: int, special: float) -> Tensor:
        """Random blocks with one element of each replaced by `special`, of either sign."""
        values = torch.randn(count, self.size, generator=self.generator)
        place = torch.randint(self.size, (count, 1), generator=self.generator)
        sign = 1.0 - 2.0 * torch.randint(2, (count, 1), generator=self.generator)
        return values.scatter(1, place, torch.full((count, 1), special).copysign(sign))

    def _signed(self, magnitude: Tensor) -> Tensor:
        sign = torch.randint(2, magnitude.shape, generator=self.generator)
        return (magnitude - (sign << 31)).to(torch.int32).view(torch.float32)
