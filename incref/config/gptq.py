"""`GPTQConfig`: weights quantized with the help of calibration data."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from typing_extensions import Self

from incref.config.base import EVERYTHING, BaseConfig, WhiteList
from incref.config.double_quant import double_quant, refuse_double_quant
from incref.config.method import GPTQ, ColumnOrder, DeadColumns, GroupScales
from incref.config.rules import LINEAR, Layer
from incref.config.scheme import LayerScheme
from incref.config.stored_weight import stored_weight
from incref.config.weight_format import SKIP, group_granularity, scale_dtype_of, symmetric_scale_of, weight_format
from incref.errors import LayerError, UnsupportedError
from incref.formats import BlockFormat, SymmetricScale
from incref.qtensor.scale_spec import ScaleRun
from incref.qtensor.spec import QuantSpec

__all__ = ["GPTQConfig", "get_default_gptq_config"]


@dataclass(frozen=True)
class GPTQConfig(BaseConfig):
    """Weights of linear layers and convolutions by GPTQ; inputs as they are.

    Attributes:
        dtype: "int" with `bits`, "int1" to "int8", or a format by name: "nf4", "fp4", "fp8_e4m3fn", "mxfp4", ... "fp32"
            leaves a layer alone.
        bits: width of the codes where `dtype` is "int".
        use_sym: whether integers are symmetric about zero, on the grid of GPTQ (`SymmetricScale.SPAN`); if not, they
            are unsigned with zero points.
        group_size: how many input features share a scale; -1 for all. Block formats have blocks of their own.
        use_mse_search: whether the range of every group is shrunk by what gives the least error; see `GPTQ`.
        use_layer_wise: accepted and without effect: calibration always goes block by block; see `model_path`.
        use_block_wise: likewise.
        model_path: directory of the safetensors files of a model, from which values are read that the model lacks, one
            block at a time; empty for a model that has all.
        use_double_quant: whether scales are quantized too, as `ScaleSpec` says, before the columns that they are of; in
            runs along the output features.
        double_quant_dtype: format of the scales: "int" with `double_quant_bits`, or "int1" to "int8".
        double_quant_bits: width of the scales where `double_quant_dtype` is "int".
        double_quant_use_sym: whether scales are symmetric; if not, they are counted from the least of their group.
        double_quant_group_size: how many scales share a step.
        quant_lm_head: whether output heads (lm_head, output_layer, embed_out) are quantized too.
        act_order: whether columns are quantized by descending diagonal of the Hessian (`ColumnOrder.DESCENDING`).
        hybrid_order: whether they are so within groups of neighbours (`ColumnOrder.WITHIN_GROUPS`).
        fp8_aware: has to be False.
        percdamp: damping of the Hessian, as a fraction of the mean of its diagonal.
        block_size: how many columns are quantized before the rest of the weight is updated.
        static_groups: whether scales are those of the original weights (`GroupScales.ORIGINAL`).
        true_sequential: whether layers of a block that feed others are quantized first.
        white_list: the layers that the configuration speaks of.
        group_scales: which weights scales are computed from, if not `static_groups`: "block" or "current". "current" is
            the better one: with a large `block_size`, "block" leaves out what groups took up of the errors of others.
        dead_columns: what becomes of columns without input: "zero" or "keep".
        scale_dtype: what scales are rounded to before codes are chosen: "float16" or "bfloat16" for checkpoints that
            hold them so; "float32" leaves them as they are.
        refine_sweeps: how often coordinate descent visits every column again, once codes are found: one sweep takes
            two to three times the time of GPTQ itself, and the error that calibration data sees falls.
        symmetric_scale: what the largest weight of a group of symmetric integers falls on, by the values of
            `SymmetricScale`: "span" half a step beyond the greatest code, "qmax" that code, as RTN has it, "extreme"
            the least code.

    Raises:
        TypeError: for a field of the wrong type, or one that there isn't.
        ValueError: for values out of range, or that contradict each other.
        UnsupportedError: for `fp8_aware`.
    """

    name: ClassVar[str] = "gptq"

    dtype: str = "int"
    bits: int = 4
    use_sym: bool = True
    group_size: int = 32
    use_mse_search: bool = False
    use_layer_wise: bool = False
    use_block_wise: bool = False
    model_path: str = ""
    use_double_quant: bool = False
    double_quant_dtype: str = "int"
    double_quant_bits: int = 8
    double_quant_use_sym: bool = False
    double_quant_group_size: int = 256
    quant_lm_head: bool = False
    act_order: bool = False
    hybrid_order: bool = False
    fp8_aware: bool = False
    percdamp: float = 0.01
    block_size: int = 2048
    static_groups: bool = False
    true_sequential: bool = False
    white_list: WhiteList = EVERYTHING
    group_scales: str = "block"
    dead_columns: str = "zero"
    scale_dtype: str = "float32"
    refine_sweeps: int = 0
    symmetric_scale: str = "span"

    @property
    def model_files(self) -> str:
        """The directory that values are read from which the model lacks; empty for none."""
        return self.model_path

    @property
    def leaves_heads_alone(self) -> bool:
        """Whether output heads keep their float weights."""
        return not self.quant_lm_head

    @property
    def kinds(self) -> tuple[type[Layer], ...]:
        """The classes of layers that the configuration speaks of."""
        return (*LINEAR, nn.Conv2d)

    def scheme_for(self, name: str, layer: Layer) -> LayerScheme | None:
        """What `layer`, called `name`, becomes.

        Raises:
            LayerError: for a convolution with groups if columns that are not neighbours would share scales, or scales
                are quantized.
        """
        scheme = self.scheme()
        if scheme is None or not isinstance(layer, nn.Conv2d) or layer.groups == 1:
            return scheme
        if scheme.weight.scales is not None:
            raise LayerError(
                f"{name}: its {layer.groups} groups of channels would share the steps of their scales; leave it alone "
                f"with set_local({name!r}, GPTQConfig(dtype='fp32')), or set use_double_quant=False"
            )
        if scheme.mixes_columns(tuple(stored_weight(layer, scheme).shape)):
            raise LayerError(
                f"{name}: each of its {layer.groups} groups of channels would have an order of its own with act_order; "
                f"set static_groups=True, or leave it alone with set_local({name!r}, GPTQConfig(dtype='fp32'))"
            )
        return scheme

    def scheme(self) -> LayerScheme | None:
        """What a layer becomes; None where `dtype` is "fp32"."""
        self.require_one()
        if self.fp8_aware:
            raise UnsupportedError('GPTQ quantizes to one format; set fp8_aware=False, or dtype="fp8_e4m3fn"')
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits must be 1 to 8, got {self.bits}")
        granularity = group_granularity(self.group_size)
        scales = double_quant(self, ScaleRun.COLUMNS)
        scale_dtype = scale_dtype_of(self.scale_dtype)
        method = self._method()
        if self.dtype in SKIP:
            return None
        fmt = weight_format(self.dtype, self.bits, use_sym=self.use_sym)
        symmetric_scale = symmetric_scale_of(self.symmetric_scale, SymmetricScale.SPAN, fmt=fmt, use_sym=self.use_sym)
        if isinstance(fmt, BlockFormat):
            refuse_double_quant(scales, fmt)
            if self.use_mse_search:
                raise ValueError(f"use_mse_search needs scales that are floats, and those of {fmt.name} are not")
            return LayerScheme(weight=QuantSpec(fmt=fmt, scale_dtype=scale_dtype), method=method)
        weight = QuantSpec(
            fmt=fmt,
            granularity=granularity,
            symmetric=self.use_sym,
            symmetric_scale=symmetric_scale,
            scales=scales,
            scale_dtype=scale_dtype,
        )
        return LayerScheme(weight=weight, method=method)

    @classmethod
    def get_config_set_for_tuning(cls) -> Self:
        """Make the search space that is tried when nothing else is asked for.

        4-bit integers with zero points or without, in either order of columns.
        """
        return cls(use_sym=[False, True], act_order=[True, False])  # type: ignore[arg-type]  # a list of what a field holds is a search space

    def _method(self) -> GPTQ:
        if self.act_order and self.hybrid_order:
            raise ValueError("act_order and hybrid_order are two orders; set one of them")
        order = ColumnOrder.GIVEN
        if self.act_order or self.hybrid_order:
            order = ColumnOrder.DESCENDING if self.act_order else ColumnOrder.WITHIN_GROUPS
        if self.group_scales not in (GroupScales.BLOCK.value, GroupScales.CURRENT.value):
            raise ValueError(f'group_scales must be "block" or "current", got {self.group_scales!r}')
        if self.dead_columns not in [choice.value for choice in DeadColumns]:
            raise ValueError(f'dead_columns must be "zero" or "keep", got {self.dead_columns!r}')
        return GPTQ(
            use_mse_search=self.use_mse_search,
            percdamp=self.percdamp,
            block_size=self.block_size,
            order=order,
            group_scales=GroupScales.ORIGINAL if self.static_groups else GroupScales(self.group_scales),
            dead_columns=DeadColumns(self.dead_columns),
            true_sequential=self.true_sequential,
            refine_sweeps=self.refine_sweeps,
        )


def get_default_gptq_config(processor_type: str | None = None) -> GPTQConfig:
    """Make the default configuration.

    Args:
        processor_type: "client", "server" or None; sets `use_layer_wise`, which has no effect on the result.
    """
    if processor_type not in (None, "client", "server"):
        raise ValueError(f'processor_type must be "client", "server" or None, got {processor_type!r}')
    return GPTQConfig(use_layer_wise=processor_type == "client")
