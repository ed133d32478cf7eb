"""Vendors' choices for MX quantization, one row each, to be asked for by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypedDict

from incref.formats.modes import BlockRule, IntRange, Overflow, Rounding, ScaleRule

__all__ = ["MX_PRESETS", "MxOptions", "MxPreset"]

_ALL = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8")
_FLOATS = _ALL[:-1]


class MxOptions(TypedDict):
    """The options of `incref.ops.quantize_mx` that a preset sets."""

    rule: ScaleRule
    rounding: Rounding
    overflow: Overflow
    nan_block: BlockRule
    inf_block: BlockRule
    int_range: IntRange


@dataclass(frozen=True, kw_only=True)
class MxPreset:
    """What one implementation chooses where the standard leaves a choice.

    Attributes:
        name: the name in `MX_PRESETS`.
        formats: the block formats that the row was established for.
        rule: how the largest magnitude of a block becomes its scale.
        source: where the choices were read.
        note: how the implementation differs from its own rule, which is not reproduced; empty if no such case is known.
        rounding: of an element.
        nan_block: what a NaN does to its block.
        inf_block: what an Inf does to its block.
        int_range: whether MXINT8 uses the code -128.
    """

    name: str
    formats: tuple[str, ...]
    rule: ScaleRule
    source: str
    note: str = ""
    rounding: Rounding = Rounding.NEAREST_EVEN
    nan_block: BlockRule = BlockRule.NAN_BLOCK
    inf_block: BlockRule = BlockRule.NAN_BLOCK
    int_range: IntRange = IntRange.RESTRICTED

    def options(self) -> MxOptions:
        """Give the choices as keyword arguments: `quantize_mx(x, "mxfp4", **preset.options())`.

        >>> MX_PRESETS["transformer_engine"].options()["rule"]
        <ScaleRule.RCEIL: 'rceil'>
        """
        return {
            "rule": self.rule,
            "rounding": self.rounding,
            "overflow": Overflow.SATURATE,
            "nan_block": self.nan_block,
            "inf_block": self.inf_block,
            "int_range": self.int_range,
        }


_TORCHAO = "torchao main, August 2026, with pull request 4725"
_TORCHAO_NOTE = (
    "The 0.18 wheel differs: an Inf makes the finite elements of its block vanish, and blocks whose scale should be "
    "2**-127 are wrong."
)
_ROWS = (
    MxPreset(name="ocp", formats=_ALL, rule=ScaleRule.FLOOR, source="OCP MX 1.0, 5.1 and 6.3"),
    MxPreset(
        name="transformer_engine",
        formats=("mxfp8_e4m3", "mxfp8_e5m2"),
        rule=ScaleRule.RCEIL,
        inf_block=BlockRule.SATURATE,
        source="cvt.rp.satfinite.ue8m0x2, as cuBLAS and Transformer Engine use it",
    ),
    *(
        MxPreset(name=f"torchao_{rule.value}", formats=_FLOATS, rule=rule, source=_TORCHAO, note=_TORCHAO_NOTE)
        for rule in (ScaleRule.FLOOR, ScaleRule.CEIL, ScaleRule.EVEN, ScaleRule.RCEIL)
    ),
    MxPreset(
        name="triton_kernels",
        formats=("mxfp8_e4m3", "mxfp8_e5m2", "mxfp4"),
        rule=ScaleRule.RCEIL,
        source="triton_kernels, numerics_details/mxfp.py, DequantScaleRoundingMode.ROUND_UP",
        note="A scale of 2**-127 is taken for no scale, so that such a block becomes zero.",
    ),
    MxPreset(
        name="quark",
        formats=("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4"),
        rule=ScaleRule.EVEN,
        source="AMD Quark, MX quantization, scale calculation mode even",
        note="Established for finite blocks; what NaN and Inf become there was not read.",
    ),
    MxPreset(
        name="compressed_tensors",
        formats=("mxfp4",),
        rule=ScaleRule.EVEN,
        source="compressed-tensors, as vLLM loads it",
        note="Established for finite blocks with a nonzero element. For MXFP8 it takes the threshold of E2M1.",
    ),
    MxPreset(
        name="aiter",
        formats=("mxfp4",),
        rule=ScaleRule.RCEIL,
        source="AITER, pull request 3212",
        note="Before May 2026 the rule was FLOOR. Established for finite blocks.",
    ),
    MxPreset(
        name="microxcaling",
        formats=_ALL,
        rule=ScaleRule.FLOOR,
        rounding=Rounding.NEAREST_AWAY,
        source="microxcaling 7bc4195, round='nearest'; Neural Compressor's MXQuantConfig computes the same",
        note=(
            "Its exponent comes from a float logarithm and is one too great just below powers of two; -0 becomes +0; "
            "neither is reproduced."
        ),
    ),
)

MX_PRESETS: Mapping[str, MxPreset] = MappingProxyType({row.name: row for row in _ROWS})
"""Every preset by its name."""
