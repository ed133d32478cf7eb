"""`RTNConfig`: weights rounded to nearest in any format."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import Self

from incref.config.base import EVERYTHING, BaseConfig, WhiteList
from incref.config.double_quant import double_quant, refuse_double_quant
from incref.config.method import RTN
from incref.config.scheme import LayerScheme
from incref.config.weight_format import SKIP, group_granularity, scale_dtype_of, symmetric_scale_of, weight_format
from incref.formats import BlockFormat, IntFormat, SymmetricScale
from incref.qtensor.scale_spec import ScaleRun
from incref.qtensor.spec import QuantSpec

__all__ = ["RTNConfig", "get_default_rtn_config"]


@dataclass(frozen=True)
class RTNConfig(BaseConfig):
    """Weights of linear layers rounded to nearest; inputs as they are.

    Attributes:
        dtype: "int" with `bits`, "int1" to "int8", or a format by name: "nf4", "fp4", "fp8_e4m3fn", "mxfp4", ... "fp32"
            leaves a layer alone.
        bits: width of the codes where `dtype` is "int".
        use_sym: whether integers are symmetric about zero; if not, they are unsigned with zero points.
        group_size: how many weights share a scale; -1 for all of a row. Block formats have blocks of their own.
        group_dim: the dimension that a group runs along: 1 for input features, 0 for output features.
        use_full_range: whether the weight of largest magnitude falls on the least code, which is
            `symmetric_scale="extreme"`.
        use_mse_search: whether the range is shrunk by what gives the least squared error; see `RTN`.
        use_layer_wise: accepted and without effect: conversion always goes layer by layer; see `model_path`.
        model_path: directory of the safetensors files of a model, from which values are read that the model lacks, one
            block at a time; empty for a model that has all.
        use_double_quant: whether scales are quantized too, as `ScaleSpec` says, in runs along the rows of scales.
        double_quant_dtype: format of the scales: "int" with `double_quant_bits`, or "int1" to "int8".
        double_quant_bits: width of the scales where `double_quant_dtype` is "int".
        double_quant_use_sym: whether scales are symmetric; if not, they are counted from the least of their group.
        double_quant_group_size: how many scales share a step.
        quant_lm_head: whether output heads (lm_head, output_layer, embed_out) are quantized too.
        white_list: the layers that the configuration speaks of.
        scale_dtype: what scales are rounded to before codes are chosen: "float16" or "bfloat16" for checkpoints that
            hold them so; "float32" leaves them as they are.
        symmetric_scale: what the largest weight of a group of symmetric integers falls on, by the values of
            `SymmetricScale`: "qmax" the greatest code, "span" half a step beyond it, as GPTQ has it, "extreme" the
            least code.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for values out of range, or that contradict each other.
    """

    name: ClassVar[str] = "rtn"

    dtype: str = "int"
    bits: int = 4
    use_sym: bool = True
    group_size: int = 32
    group_dim: int = 1
    use_full_range: bool = False
    use_mse_search: bool = False
    use_layer_wise: bool = True
    model_path: str = ""
    use_double_quant: bool = False
    double_quant_dtype: str = "int"
    double_quant_bits: int = 8
    double_quant_use_sym: bool = False
    double_quant_group_size: int = 256
    quant_lm_head: bool = False
    white_list: WhiteList = EVERYTHING
    scale_dtype: str = "float32"
    symmetric_scale: str = "qmax"

    @property
    def model_files(self) -> str:
        """The directory that values are read from which the model lacks; empty for none."""
        return self.model_path

    @property
    def leaves_heads_alone(self) -> bool:
        """Whether output heads keep their float weights."""
        return not self.quant_lm_head

    def scheme(self) -> LayerScheme | None:
        """What a layer becomes; None where `dtype` is "fp32"."""
        self.require_one()
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits must be 1 to 8, got {self.bits}")
        axis = self._axis()
        granularity = group_granularity(self.group_size, axis)
        scales = double_quant(self, ScaleRun.ROWS)
        scale_dtype = scale_dtype_of(self.scale_dtype)
        if self.dtype in SKIP:
            return None
        fmt = weight_format(self.dtype, self.bits, use_sym=self.use_sym)
        symmetric_scale = symmetric_scale_of(self.symmetric_scale, SymmetricScale.QMAX, fmt=fmt, use_sym=self.use_sym)
        if isinstance(fmt, BlockFormat):
            refuse_double_quant(scales, fmt)
            if self.use_mse_search:
                raise ValueError(f"use_mse_search needs scales that are floats, and those of {fmt.name} are not")
            return LayerScheme(weight=QuantSpec(fmt=fmt, axis=axis, scale_dtype=scale_dtype))
        if self.use_full_range and not (isinstance(fmt, IntFormat) and self.use_sym):
            raise ValueError(f"use_full_range needs symmetric integers, got {fmt.name} with use_sym={self.use_sym}")
        if self.use_full_range and symmetric_scale is SymmetricScale.SPAN:
            raise ValueError('use_full_range is symmetric_scale="extreme", got "span"; set one of them')
        weight = QuantSpec(
            fmt=fmt,
            granularity=granularity,
            symmetric=self.use_sym,
            symmetric_scale=SymmetricScale.EXTREME if self.use_full_range else symmetric_scale,
            scales=scales,
            scale_dtype=scale_dtype,
        )
        return LayerScheme(weight=weight, method=RTN(use_mse_search=self.use_mse_search))

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for.

        4-bit integers, with zero points or without, and NF4; two sizes of groups; with a search for the range or not.
        """
        return cls(dtype=["int4", "nf4"], use_sym=[True, False], group_size=[32, 128], use_mse_search=[False, True])  # type: ignore[arg-type]  # a list of what a field holds is a search space

    def _axis(self) -> int:
        if self.group_dim not in (0, 1):
            raise ValueError(f"group_dim must be 0 (output features) or 1 (input features), got {self.group_dim}")
        return self.group_dim - 2


def get_default_rtn_config(processor_type: str | None = None) -> RTNConfig:
    """Make the default configuration.

    Args:
        processor_type: "client", "server" or None; sets `use_layer_wise`, which has no effect on the result.
    """
    if processor_type not in (None, "client", "server"):
        raise ValueError(f'processor_type must be "client", "server" or None, got {processor_type!r}')
    return RTNConfig(use_layer_wise=processor_type != "server")
