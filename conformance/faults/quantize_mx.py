"""Faults of `quantize_mx`."""

from dataclasses import replace

import torch
from torch import Tensor

from conformance.faults.kernel import Kernel
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.numerics.granularity import per_group
from incref.ops import compute_scale, encode, quantize_mx

_MX = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8")
_NAN = 255


class Blocks(Kernel):
    """Computes the scale of every block as `compute_scale` does, divides by it in float64, and encodes."""

    op = "quantize_mx"
    options = {  # noqa: RUF012  # never written to
        "fmt": _MX,
        "nan_block": (BlockRule.NAN_BLOCK,),
        "inf_block": (BlockRule.NAN_BLOCK,),
    }
    is_right = True

    def __call__(
        self,
        x: Tensor,
        fmt: str,
        *,
        axis: int = -1,
        rule: ScaleRule | None = None,
        rounding: Rounding = Rounding.NEAREST_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        nan: NanRule = NanRule.ERROR,
        int_range: IntRange = IntRange.RESTRICTED,
        random_bits: Tensor | None = None,
        **_: object,
    ) -> tuple[Tensor, Tensor]:
        """Quantize."""
        to = FORMATS[fmt]
        assert isinstance(to, BlockFormat)
        moved = self.moved(x, axis)
        scale = self.scale(moved, to, rule or ScaleRule.FLOOR)
        exponent = self.exponent(scale).repeat_interleave(to.block_size, -1)[..., : moved.shape[-1]]
        quotient = self.divide(moved.to(torch.float64), exponent)
        is_nan = (scale == _NAN).repeat_interleave(to.block_size, -1)[..., : moved.shape[-1]]
        bits = None if random_bits is None else random_bits.movedim(axis, -1)
        codes = encode(
            quotient.masked_fill(is_nan, 0),
            to.element,
            rounding=rounding,
            overflow=overflow,
            nan=nan,
            int_range=int_range,
            random_bits=bits,
        )
        codes = torch.where(is_nan, self.nan_codes(moved, to), codes)
        return codes.movedim(-1, axis).contiguous(), scale.movedim(-1, axis).contiguous()

    def moved(self, x: Tensor, axis: int) -> Tensor:
        return x.movedim(axis, -1)

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        return compute_scale(x, to.element, per_group(to.block_size), rule=rule)

    def exponent(self, scale: Tensor) -> Tensor:
        return scale.to(torch.int32) - 127

    def divide(self, x: Tensor, exponent: Tensor) -> Tensor:
        return torch.ldexp(x, -exponent)

    def nan_codes(self, x: Tensor, to: BlockFormat) -> Tensor:
        if isinstance(to.element, IntFormat) or to.element.nan_code is None:
            return torch.zeros_like(x, dtype=encode(x[:0], to.element).dtype)
        return torch.full_like(x, to.element.nan_code, dtype=torch.uint8)


class BlocksOf16(Blocks):
    """Blocks are 16 long, as those of NVFP4, and every second scale is stored."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        found = super().scale(x, replace(to, block_size=16), rule)
        return found[..., ::2].contiguous()


class AmaxWithoutAbs(Blocks):
    """The greatest element decides on the scale, whatever the least is."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        return super().scale(x.clamp(min=0), to, rule)


class AmaxOverPadding(Blocks):
    """The last, shorter block is filled up with the beginning of the row."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        missing = -x.shape[-1] % to.block_size
        return super().scale(torch.cat([x, x[..., :missing]], -1), to, rule)


class TailHasScaleBefore(Blocks):
    """The last, shorter block gets the scale of the one before it."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        found = super().scale(x, to, rule)
        if x.shape[-1] % to.block_size and found.shape[-1] > 1:
            found = torch.cat([found[..., :-1], found[..., -2:-1]], -1)
        return found


class WrongAxis(Blocks):
    """Blocks lie along the last axis whatever was asked for."""

    def moved(self, x: Tensor, axis: int) -> Tensor:
        found = x.movedim(axis, -1)
        return x.reshape(found.shape)


class ScaleTooSmall(Blocks):
    """The exponent of the element's largest value is taken for one more than it is."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        found = super().scale(x, to, rule)
        return torch.where(found == _NAN, found, found.clamp(min=1) - 1)


class FloorByLogarithm(Blocks):
    """The exponent is the floor of a float32 logarithm: one too great just below powers of two."""

    source = "https://github.com/microsoft/microxcaling, and its copies"

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        found = super().scale(x, to, rule)
        if rule is not ScaleRule.FLOOR or not x.numel():
            return found
        amax = _amax(x, to).to(torch.float32)
        power = torch.floor(torch.log2(amax)) - to.element.emax + 127
        return torch.where((found == _NAN) | (amax == 0), found, power.clamp(0, 254).nan_to_num(0).to(torch.uint8))


def _amax(x: Tensor, to: BlockFormat) -> Tensor:
    filled = torch.nn.functional.pad(x, (0, -x.shape[-1] % to.block_size))
    return filled.unflatten(-1, (-1, to.block_size)).abs().amax(-1)


class CeilFromOrdinaryDivision(Blocks):
    """RCEIL takes the ceiling of a float32 logarithm of the quotient, which is one too small above powers of two."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        found = super().scale(x, to, rule)
        if rule is not ScaleRule.RCEIL or not x.numel():
            return found
        amax = _amax(x, to).to(torch.float32)
        power = torch.ceil(torch.log2(amax / to.element.qmax)) + 127
        return torch.where((found == _NAN) | (amax == 0), found, power.clamp(0, 254).nan_to_num(0).to(torch.uint8))


class RuleIgnored(Blocks):
    """The scale rule is FLOOR whatever was asked for."""

    source = "https://github.com/ROCm/aiter/pull/3212: FLOOR where RCEIL was meant"

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        return super().scale(x, to, ScaleRule.FLOOR)


class ZeroBlockHasScaleOne(Blocks):
    """A block of zeros has the scale 1."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        found = super().scale(x, to, rule)
        return torch.where(_amax(x, to) == 0, 127, found).to(torch.uint8) if x.numel() else found


class NanLost(Blocks):
    """A maximum that drops NaN: the block keeps a scale, and the NaN is encoded alone."""

    source = "https://github.com/ml-explore/mlx/issues/4353"

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        return super().scale(torch.where(x.isnan(), torch.zeros_like(x), x), to, rule)


class NanScaleIsLargest(Blocks):
    """A block with a NaN has the scale 2**127."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        return super().scale(x, to, rule).clamp(max=254)


class InfIsLargest(Blocks):
    """An Inf counts as the largest finite value."""

    def scale(self, x: Tensor, to: BlockFormat, rule: ScaleRule) -> Tensor:
        most = torch.finfo(x.dtype).max
        return super().scale(torch.where(x.isinf(), x.clamp(-most, most), x), to, rule)


class LeastScaleFlushed(Blocks):
    """2**-127 is subnormal, counts as zero, and its block becomes zeros."""

    source = "triton_kernels: a scale of 2**-127 is taken for no scale"

    def divide(self, x: Tensor, exponent: Tensor) -> Tensor:
        return super().divide(x, exponent) * (exponent > -127)


class SmallScaleInverted(Blocks):
    """Elements are multiplied by a float32 power of two, which for great scales is subnormal and flushed."""

    def divide(self, x: Tensor, exponent: Tensor) -> Tensor:
        return super().divide(x, exponent) * (exponent < 127)


class ExponentOffset(Blocks):
    """The bias of the scale is taken for 128."""

    def exponent(self, scale: Tensor) -> Tensor:
        return scale.to(torch.int32) - 128


class ElementsThroughBfloat16(Blocks):
    """The scaled element is rounded to bfloat16 before its format."""

    def divide(self, x: Tensor, exponent: Tensor) -> Tensor:
        return super().divide(x, exponent).to(torch.bfloat16).to(torch.float64)


class ElementsTiesAway(Kernel):
    """Elements are rounded with ties away from zero."""

    op = "quantize_mx"
    source = "https://github.com/microsoft/microxcaling, round='nearest'"

    def __call__(
        self, x: Tensor, fmt: str, *, rounding: Rounding = Rounding.NEAREST_EVEN, **options: object
    ) -> tuple[Tensor, ...]:
        """Quantize."""
        away = rounding is Rounding.NEAREST_EVEN
        return quantize_mx(x, fmt, rounding=Rounding.NEAREST_AWAY if away else rounding, **options)


class _Options(Kernel):
    op = "quantize_mx"

    def __call__(self, x: Tensor, fmt: str, **options: object) -> tuple[Tensor, ...]:
        """Quantize."""
        return quantize_mx(x, fmt, **{**options, **self.change(FORMATS[fmt], options)})

    def change(self, fmt: object, options: dict[str, object]) -> dict[str, object]:
        return {}


class InfSaturatesBlock(_Options):
    """A block with an Inf gets the greatest scale, which is another of the rules."""

    def change(self, fmt: object, options: dict[str, object]) -> dict[str, object]:
        rule = options.get("inf_block", BlockRule.NAN_BLOCK)
        return {"inf_block": BlockRule.SATURATE if rule is BlockRule.NAN_BLOCK else rule}


class NanAlone(_Options):
    """A NaN in a block is encoded alone, though it should spoil the block."""

    def change(self, fmt: object, options: dict[str, object]) -> dict[str, object]:
        return {"nan_block": BlockRule.ELEMENT}


class Int8UsesLeastCode(_Options):
    """MXINT8 uses the code -128."""

    def change(self, fmt: object, options: dict[str, object]) -> dict[str, object]:
        return {"int_range": IntRange.FULL}


class Nvfp4ByReciprocal(_Options):
    """NVFP4 divides by multiplying with reciprocals."""

    def change(self, fmt: object, options: dict[str, object]) -> dict[str, object]:
        return {"arithmetic": ScaleArithmetic.RECIPROCAL}


class Nvfp4TensorScaleIgnored(_Options):
    """The scale of the tensor that is given is not used."""

    def change(self, fmt: object, options: dict[str, object]) -> dict[str, object]:
        return {"tensor_scale": None}


class OverflowIgnored(_Options):
    """Elements saturate whatever was asked for."""

    def change(self, fmt: object, options: dict[str, object]) -> dict[str, object]:
        return {"overflow": Overflow.SATURATE}


class Nvfp4ScaleCutOff(Kernel):
    """The scale of a block is cut off to E4M3, not rounded."""

    op = "quantize_mx"

    def __call__(self, x: Tensor, fmt: str, **options: object) -> tuple[Tensor, ...]:
        """Quantize."""
        found = quantize_mx(x, fmt, **options)
        if not FORMATS[fmt].has_tensor_scale or not x.numel() or options.get("axis", -1) != -1:
            return found
        codes, scale, whole = found
        exact = _amax(x.float(), FORMATS[fmt]) / FORMATS[fmt].element.qmax / whole
        cut = encode(exact, "float8_e4m3fn", rounding=Rounding.TOWARD_ZERO)
        return codes, torch.where(exact.isfinite(), cut, scale), whole


class Nvfp4WithoutTensorScale(Kernel):
    """The scale of the tensor is 1, so scales of blocks beyond E4M3 saturate."""

    op = "quantize_mx"

    def __call__(self, x: Tensor, fmt: str, **options: object) -> tuple[Tensor, ...]:
        """Quantize."""
        if FORMATS[fmt].has_tensor_scale:
            options["tensor_scale"] = torch.ones(())
        return quantize_mx(x, fmt, **options)


class DivideInPieces(Blocks):
    """Divides in two steps, so that no power of two is subnormal."""

    is_right = True

    def divide(self, x: Tensor, exponent: Tensor) -> Tensor:
        """Divide."""
        half = exponent // 2
        return torch.ldexp(torch.ldexp(x, -half), half - exponent)


class Ocp(Kernel):
    """Only the rule FLOOR, and ties to even, which is declared."""

    op = "quantize_mx"
    options = {"rule": (None, ScaleRule.FLOOR), "rounding": (Rounding.NEAREST_EVEN,), "fmt": _MX}  # noqa: RUF012
    is_right = True

    def __call__(self, x: Tensor, fmt: str, **options: object) -> tuple[Tensor, ...]:
        """Quantize."""
        return quantize_mx(x, fmt, **options)
