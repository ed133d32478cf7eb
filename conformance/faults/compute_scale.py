"""Faults of scales: `compute_scale`."""

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from incref.formats import IntFormat, ScaleRule, SymmetricScale, get_format
from incref.numerics.blocks import to_blocks
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patterns import float_format_of
from incref.numerics.scales import scale_exponent
from incref.ops import compute_scale


class Scale(Kernel):
    """Takes minimum and maximum of every block, and computes the scale from these two."""

    op = "compute_scale"
    is_right = True

    def __call__(
        self,
        x: Tensor,
        fmt: str,
        granularity: Granularity = PER_TENSOR,
        *,
        rule: ScaleRule = ScaleRule.DIVIDE,
        symmetric: bool = True,
        symmetric_scale: SymmetricScale = SymmetricScale.QMAX,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute."""
        ends = self.ends(x, granularity)
        return self.scale(ends, fmt, rule, symmetric=symmetric, kind=symmetric_scale)

    def ends(self, x: Tensor, granularity: Granularity) -> Tensor:
        """Least and greatest of every block, zero among its elements, in the shape of the scales and one more of 2."""
        flat = x.view(1) if x.ndim == 0 else x
        extents = granularity.block_shape(x.shape) or (1,)
        blocks = to_blocks(self.fill(flat, extents), extents)
        for d in range(flat.ndim):
            blocks = blocks.movedim(d + 1, -1)
        blocks = blocks.flatten(flat.ndim)
        found = self.ends_of(blocks) if blocks.numel() else blocks.new_zeros(*blocks.shape[:-1], 2)
        return (
            found.reshape(*granularity.scale_shape(x.shape), 2)
            if x.numel()
            else x.new_zeros(*granularity.scale_shape(x.shape), 2)
        )

    def fill(self, x: Tensor, extents: tuple[int, ...]) -> Tensor:
        return x

    def ends_of(self, blocks: Tensor) -> Tensor:
        low, high = blocks.amin(-1).clamp(max=0.0), blocks.amax(-1).clamp(min=0.0)
        bad = ~blocks.isfinite().all(-1)
        return torch.stack([low, high], -1).masked_fill(bad.unsqueeze(-1), torch.nan)

    def scale(
        self, ends: Tensor, fmt: str, rule: ScaleRule, *, symmetric: bool, kind: SymmetricScale
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Give a block of its two ends to the reference."""
        granularity = Granularity((2,))
        found = compute_scale(ends, fmt, granularity, rule=rule, symmetric=symmetric, symmetric_scale=kind)
        return tuple(one.squeeze(-1) for one in found) if isinstance(found, tuple) else found.squeeze(-1)


class AmaxWithoutAbs(Scale):
    """The greatest element is taken for the largest magnitude."""

    def ends_of(self, blocks: Tensor) -> Tensor:
        return super().ends_of(blocks) * torch.tensor([0.0, 1.0], dtype=blocks.dtype)


class AmaxOverPadding(Scale):
    """The last, shorter block is filled up with what follows in memory: the first elements of the next row."""

    def fill(self, x: Tensor, extents: tuple[int, ...]) -> Tensor:
        missing = -x.shape[-1] % extents[-1]
        if x.ndim != 2 or extents[0] != 1 or missing > x.shape[-1]:
            return x
        return torch.cat([x, x.roll(-1, 0)[:, :missing]], 1)


class TailGroupLeftOut(Scale):
    """The last, shorter block has no scale of its own: it gets 1."""

    def fill(self, x: Tensor, extents: tuple[int, ...]) -> Tensor:
        rest = x.shape[-1] % extents[-1]
        return x if rest == 0 or rest == x.shape[-1] else torch.cat([x[..., :-rest], 0 * x[..., -rest:]], -1)


class ScaleOfRowBefore(Scale):
    """Rows are counted from 1, so each gets the scale of the one before it."""

    def fill(self, x: Tensor, extents: tuple[int, ...]) -> Tensor:
        return x.roll(1, 0) if x.ndim > 1 else x


class RowsReadAsColumns(Scale):
    """The strides of the two dimensions are swapped."""

    def fill(self, x: Tensor, extents: tuple[int, ...]) -> Tensor:
        return x.reshape(x.shape[::-1]).T if x.ndim == 2 else x


class NanSkipped(Scale):
    """A maximum that drops NaN leaves the scale of a block with a NaN finite."""

    source = "fmax of CUDA and HIP returns the other operand for a NaN"

    def ends_of(self, blocks: Tensor) -> Tensor:
        return super().ends_of(torch.where(blocks.isnan(), torch.zeros_like(blocks), blocks))


class InfClipped(Scale):
    """An Inf counts as the largest finite value."""

    def ends_of(self, blocks: Tensor) -> Tensor:
        most = torch.finfo(blocks.dtype).max
        return super().ends_of(torch.where(blocks.isinf(), blocks.clamp(-most, most), blocks))


class SubnormalAmaxFlushed(Scale):
    """A largest magnitude that is subnormal counts as zero."""

    source = "https://github.com/pytorch/ao: MX casts near 2**-126"

    def ends_of(self, blocks: Tensor) -> Tensor:
        found = super().ends_of(blocks)
        return torch.where(found.abs() < torch.finfo(blocks.dtype).tiny, 0 * found, found)


class AmaxInBfloat16(Scale):
    """The largest magnitude is rounded to bfloat16 on its way."""

    def ends_of(self, blocks: Tensor) -> Tensor:
        return super().ends_of(blocks).to(torch.bfloat16).to(blocks.dtype)


class _Changed(Kernel):
    """The reference, and a change of what it gives or is given."""

    op = "compute_scale"

    def __call__(self, x: Tensor, fmt: str, granularity: Granularity = PER_TENSOR, **options: object) -> object:
        """Compute."""
        found = compute_scale(x, fmt, granularity, **options)
        if isinstance(found, tuple):
            return self.asymmetric(*found, x, fmt, granularity)
        if found.dtype is torch.uint8:
            return self.power(found, x, fmt, granularity, options["rule"])
        return self.symmetric(found, x, fmt, granularity, options)

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        return scale, zero

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        return codes

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        return scale


def _amax(x: Tensor, granularity: Granularity) -> Tensor:
    """Largest magnitudes, found through scales by powers of two of a format whose largest value is 1."""
    ends = Scale().ends(x, granularity)
    return ends.abs().amax(-1)


class ReciprocalForDivision(_Changed):
    """The product with the rounded reciprocal stands for the division: the last bit differs for some."""

    def __call__(self, x: Tensor, fmt: str, granularity: Granularity = PER_TENSOR, **options: object) -> object:
        """Compute."""
        if options.get("rule") is ScaleRule.DIVIDE:
            options["rule"] = ScaleRule.RECIPROCAL
        return compute_scale(x, fmt, granularity, **options)


class DivisionForReciprocal(_Changed):
    """The division stands for the product with the rounded reciprocal."""

    def __call__(self, x: Tensor, fmt: str, granularity: Granularity = PER_TENSOR, **options: object) -> object:
        """Compute."""
        if options.get("rule") is ScaleRule.RECIPROCAL:
            options["rule"] = ScaleRule.DIVIDE
        return compute_scale(x, fmt, granularity, **options)


class LimitOffByOne(_Changed):
    """The largest magnitude of an integer grid falls on 128, not 127."""

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        to = get_format(fmt)
        if (
            not isinstance(to, IntFormat)
            or options.get("symmetric_scale", SymmetricScale.QMAX) is not SymmetricScale.QMAX
        ):
            return scale
        return torch.where(scale == 1, scale, scale * (to.max_code / (to.max_code + 1)))


class ZeroBlockHasScaleZero(_Changed):
    """A block of zeros has the scale 0, so its elements become 0 / 0."""

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        return torch.where(_amax(x, granularity) == 0, torch.zeros_like(scale), scale)


class ScaleHasFloor(_Changed):
    """Scales are at least 1e-12, which is more than small blocks need."""

    source = "the clamp of amax to 1e-12 that quantizers for FP8 have"

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        return torch.where(scale.abs() < 1e-12, 1e-12, scale).to(scale.dtype)


class ScaleInHalf(_Changed):
    """The scale is stored in float16, and read back."""

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        return scale.to(torch.float16).to(scale.dtype)


class ScaleUnderflows(_Changed):
    """The least scale is not kept: one below the normal numbers stays subnormal."""

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        least = torch.finfo(scale.dtype).tiny
        return torch.where(scale.abs() == least, scale / 2, scale)


class ExtremeSignLost(_Changed):
    """The scale that puts the extreme on the least code is positive always."""

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        return scale.abs()


class ExtremeOfEqualsPositive(_Changed):
    """Of two extremes of one magnitude the positive one is taken, not the negative one."""

    def symmetric(
        self, scale: Tensor, x: Tensor, fmt: str, granularity: Granularity, options: dict[str, object]
    ) -> Tensor:
        if options.get("symmetric_scale") is not SymmetricScale.EXTREME:
            return scale
        ends = Scale().ends(x, granularity)
        return torch.where((ends[..., 0] == -ends[..., 1]) & (ends[..., 1] > 0), -scale.abs(), scale)


class ExponentTooGreat(_Changed):
    """Exponents of shared scales are one too great: the largest value is taken for the power of two above it."""

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        return torch.where(codes == 255, codes, (codes.int() + 1).clamp(max=254).to(torch.uint8))


class FloorByLogarithm(_Changed):
    """The exponent is the floor of a float32 logarithm: one too great just below powers of two."""

    source = "https://github.com/microsoft/microxcaling: floor(log2(amax))"

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        if rule is not ScaleRule.FLOOR:
            return codes
        amax = _amax(x, granularity).to(torch.float32)
        power = torch.floor(torch.log2(amax)) - get_format(fmt).emax + 127
        return torch.where((codes == 255) | (amax == 0), codes, power.clamp(0, 254).nan_to_num(0).to(torch.uint8))


class CeilIsFloorAndOne(_Changed):
    """CEIL is taken for FLOOR and one more, also of powers of two."""

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        if rule is not ScaleRule.CEIL:
            return codes
        floor = compute_scale(x, fmt, granularity, rule=ScaleRule.FLOOR)
        more = (floor.int() + 1).clamp(max=254).to(torch.uint8)
        return torch.where((codes == 255) | (_amax(x, granularity) == 0), codes, more)


class RceilAtLargest(_Changed):
    """A block whose largest magnitude is exactly the largest value times a power of two gets the next power."""

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        if rule is not ScaleRule.RCEIL:
            return codes
        ratio = _amax(x, granularity).to(torch.float64) / get_format(fmt).qmax
        is_power = (torch.frexp(ratio).mantissa == 0.5) & (codes < 254)
        return torch.where(is_power, (codes.int() + is_power).to(torch.uint8), codes)


class EvenIsFloor(_Changed):
    """EVEN does not carry where the rounded significand reaches 2."""

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        return compute_scale(x, fmt, granularity, rule=ScaleRule.FLOOR) if rule is ScaleRule.EVEN else codes


class EvenOfAnotherFormat(_Changed):
    """EVEN rounds to the precision of E2M1 for every format."""

    source = "compressed-tensors: for MXFP8 it takes the threshold of E2M1"

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        if rule is not ScaleRule.EVEN:
            return codes
        as_fp4 = compute_scale(x, "float4_e2m1fn", granularity, rule=rule)
        shift = get_format("float4_e2m1fn").emax - get_format(fmt).emax
        moved = (as_fp4.int() + shift).clamp(0, 254).to(torch.uint8)
        return torch.where((codes == 255) | (codes == 0) | (codes == 254), codes, moved)


class LeastExponentWrong(_Changed):
    """The exponent is clamped to -126, the least of normal float32 numbers."""

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        return codes.clamp(min=1)


class ZeroBlockHasScaleOne(_Changed):
    """A block of zeros gets the code 127, which is 1, and not 0."""

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        return torch.where(_amax(x, granularity) == 0, 127, codes).to(torch.uint8)


class NanBlockHasLargestScale(_Changed):
    """A block with a NaN gets the code 0xFE and not 0xFF, so its NaN is lost."""

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: object) -> Tensor:
        return codes.clamp(max=254)


class RangeWithoutZero(_Changed):
    """The range of an asymmetric scale leaves zero out: blocks far from it have finer scales, and zero no code."""

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        blocks = Scale()
        low = blocks.ends(x, granularity)[..., 0]
        # The least of a block of positive elements is the greatest of their reciprocals, turned back.
        inverse = blocks.ends(torch.where(x > 0, 1 / x, torch.nan), granularity)[..., 1]
        nearest = torch.where((low == 0) & inverse.isfinite() & (inverse > 0), 1 / inverse, 0).to(scale.dtype)
        codes = get_format(fmt).num_codes
        return torch.where(nearest > 0, scale - nearest / (codes - 1), scale), zero


class ZeroPointOffByOne(_Changed):
    """The zero point is one too great, as the checkpoints of the first GPTQ format have it."""

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        return scale, (zero + 1).clamp(max=get_format(fmt).max_code)


class ZeroPointCutOff(_Changed):
    """The zero point is cut off, not rounded."""

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        to = get_format(fmt)
        low = Scale().ends(x, granularity)[..., 0].to(scale.dtype)
        cut = (-low / scale).floor().nan_to_num(0).to(torch.int32) + to.min_code
        return scale, torch.where(scale.isnan(), zero, cut.clamp(to.min_code, to.max_code))


class ZeroPointTiesAway(_Changed):
    """A zero point midway between two codes goes up."""

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        to = get_format(fmt)
        low = Scale().ends(x, granularity)[..., 0].to(scale.dtype)
        away = (-low / scale + 0.5).floor().nan_to_num(0).to(torch.int32) + to.min_code
        return scale, torch.where(scale.isnan(), zero, away.clamp(to.min_code, to.max_code))


class ZeroPointUnsigned(_Changed):
    """The zero point of a signed format counts from 0, not from its least code."""

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        return scale, zero - get_format(fmt).min_code


class SpanByNumberOfCodes(_Changed):
    """The span is divided by the number of codes, 256, not of steps, 255."""

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        codes = get_format(fmt).num_codes
        return torch.where(scale == 1, scale, scale * ((codes - 1) / codes)), zero


class SpanOverflows(_Changed):
    """A span beyond the largest float becomes Inf, and so does the scale."""

    def asymmetric(
        self, scale: Tensor, zero: Tensor, x: Tensor, fmt: str, granularity: Granularity
    ) -> tuple[Tensor, Tensor]:
        ends = Scale().ends(x, granularity).to(scale.dtype)
        return torch.where((ends[..., 1] - ends[..., 0]).isinf(), torch.inf, scale), zero


class ByExponentOfPattern(_Changed):
    """Powers of two from the patterns of largest magnitudes that another way found."""

    is_right = True

    def power(self, codes: Tensor, x: Tensor, fmt: str, granularity: Granularity, rule: ScaleRule) -> Tensor:
        """Compute again, from another largest magnitude."""
        ends = Scale().ends(x, granularity)
        wide = ends.to(torch.float64 if x.dtype is torch.float64 else torch.float32).abs().amax(-1)
        pattern = wide.view(torch.int64 if x.dtype is torch.float64 else torch.int32)
        exponent = scale_exponent(pattern, float_format_of(wide.dtype), get_format(fmt), rule).clamp(-127, 127)
        return torch.where(wide.isnan(), 255, exponent + 127).to(torch.uint8)
