"""Faults in the sources of the Triton kernels that are shipped: one step each, as text."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["MUTATIONS", "Judge", "Mutation"]


class Judge(Enum):
    """Who says what a mutation does."""

    LEVELS = "levels"
    """The suite, level by level."""
    EXPERTS = "experts"
    """The cases of products in groups of rows, `conformance.grouped_cases`."""


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One step that is changed.

    Attributes:
        name: of the fault.
        story: what is wrong then.
        op: the operation that should not pass.
        file: in the package.
        old: what the source has, once.
        new: what stands there instead.
        judge: who should find it.
    """

    name: str
    story: str
    op: str
    file: str
    old: str
    new: str
    judge: Judge = Judge.LEVELS


MUTATIONS = (
    Mutation(
        name="no_saturation",
        story="Values beyond the range are not limited to it before they are rounded.",
        op="encode",
        file="device/encode.py",
        old="limited = tl.minimum(scaled, greatest_pattern(fmt, layout))",
        new="limited = scaled",
    ),
    Mutation(
        name="ties_go_up",
        story="Ties are rounded away from zero where they should go to the even code.",
        op="encode",
        file="device/rounding.py",
        old="increment = (1 << (shift - 1)) - 1 + ((quotient + base) & 1)",
        new="increment = 1 << (shift - 1)",
    ),
    Mutation(
        name="random_bits_off_by_one",
        story="Stochastic rounding goes up one time in 2**bits too often.",
        op="encode",
        file="device/rounding.py",
        old="((fraction + drawn) >> bits)",
        new="((fraction + drawn + 1) >> bits)",
    ),
    Mutation(
        name="negative_nan_is_a_number",
        story="Of the two codes of NaN only the positive one is read as NaN.",
        op="decode",
        file="device/decode.py",
        old="is_nan = (code & (fmt.sign_code - 1)) == fmt.nan_code",
        new="is_nan = code == fmt.nan_code",
    ),
    Mutation(
        name="scale_of_inf_is_finite",
        story="A block with Inf has a scale that is a number.",
        op="compute_scale",
        file="device/scales.py",
        old="pattern = tl.where(amax < layout.inf_code, pattern, layout.nan_code)",
        new="pattern = tl.minimum(pattern, layout.max_code)",
    ),
    Mutation(
        name="subnormal_blocks",
        story="The exponent of a block of subnormals is that of the float of its integer.",
        op="quantize_mx",
        file="device/scales.py",
        old="tl.where(is_subnormal, layout.emin - width, 0)",
        new="tl.where(is_subnormal, layout.emin, 0)",
    ),
    Mutation(
        name="sum_is_not_limited",
        story="The code of zero is added after the range was applied, and not limited again.",
        op="quantize_affine",
        file="device/scaled.py",
        old="codes = tl.minimum(tl.maximum(codes, least_code(target)), target.fmt.max_code)",
        new="codes = codes + 0",
    ),
    Mutation(
        name="range_is_mirrored",
        story="Scales that are found take the least value for the greatest.",
        op="quantize_affine",
        file="device/found_scales.py",
        old="affine_scale(above, below, layout, fmt, rule)",
        new="affine_scale(below, above, layout, fmt, rule)",
    ),
    Mutation(
        name="zero_point_is_added",
        story="The code of zero is added where it should be subtracted.",
        op="dequantize_affine",
        file="device/scaled.py",
        old="shifted = shifted - tl.load(zero_ptr + place)",
        new="shifted = shifted + tl.load(zero_ptr + place)",
    ),
    Mutation(
        name="multiplied_by_the_reciprocal",
        story="Where a division is asked for, the rounded reciprocal of the scale is multiplied with.",
        op="quantize_float",
        file="device/scaled.py",
        old="if arithmetic != DIVIDE:",
        new="if True:",
    ),
    Mutation(
        name="split_codes",
        story="Of a code that begins in the word before, the upper bits are lost.",
        op="pack",
        file="pack.py",
        old="part = tl.where(shift < 0, field >> tl.minimum(tl.maximum(-shift, 0), 31), begins)",
        new="part = tl.where(shift < 0, 0, begins)",
    ),
    Mutation(
        name="sign_is_not_extended",
        story="Signed codes are read without their sign.",
        op="unpack",
        file="pack.py",
        old="found = (found << (32 - bits)) >> (32 - bits)",
        new="found = found + 0",
    ),
    Mutation(
        name="wrong_association",
        story="A sum is multiplied by one scale after the other, where the product of the scales is promised.",
        op="fp8_matmul",
        file="device/matmul.py",
        old="value = value * (x_scale[:, None] * w_scale[None, :])",
        new="value = value * x_scale[:, None] * w_scale[None, :]",
    ),
    Mutation(
        name="one_scale_for_a_tile",
        story="All rows of a tile have the scale of its first one, also where several blocks of rows meet in it.",
        op="fp8_matmul",
        file="device/matmul.py",
        old="elif is_multiple(EXTENT, index.shape[0]):",
        new="elif EXTENT > 1:",
    ),
    Mutation(
        name="scales_of_the_step_before",
        story="Scales that are asked for ahead are those of the step that is being computed.",
        op="weight_only_matmul",
        file="weight_only_matmul.py",
        old="            at = start + BLOCK_K",
        new="            at = start",
    ),
    Mutation(
        name="negative_codes_are_positive",
        story="Codes are read without their sign.",
        op="decode",
        file="device/decode.py",
        old="((code << (layout.bits - fmt.bits)) & -layout.sign_code)",
        new="0",
    ),
    Mutation(
        name="tail_along_k",
        story="What lies beyond the end of K counts as ones.",
        op="int8_matmul",
        file="device/matmul.py",
        old="mask=tl.expand_dims(k < K, 1 - AXIS), other=REST",
        new="mask=tl.expand_dims(k < K, 1 - AXIS), other=1",
    ),
    Mutation(
        name="reciprocal_of_the_diagonal",
        story="The error is multiplied by the rounded reciprocal of the factor's diagonal.",
        op="gptq_update",
        file="gptq_update.py",
        old="rest = divide(value_of(signed) - value, diagonal)",
        new="rest = (value_of(signed) - value) * divide(diagonal * 0 + 1, diagonal)",
    ),
    Mutation(
        name="errors_stay_behind",
        story="The error of a column is not added to the last one.",
        op="gptq_update",
        file="gptq_update.py",
        old="mask=(lane > j) & (lane < B)",
        new="mask=(lane > j) & (lane < B - 1)",
    ),
    Mutation(
        name="tile_of_the_expert_before",
        story="The first program of an expert takes a tile beyond the end of the one before.",
        op="fp8_matmul",
        file="device/groups.py",
        old="(after <= program)",
        new="(after < program)",
        judge=Judge.EXPERTS,
    ),
    Mutation(
        name="empty_experts_have_tiles",
        story="An expert without rows takes a tile, so that there are too few for the last ones.",
        op="weight_only_matmul",
        file="device/groups.py",
        old="programs = tl.cdiv(count, SIZE) * across",
        new="programs = tl.maximum(tl.cdiv(count, SIZE), 1) * across",
        judge=Judge.EXPERTS,
    ),
    Mutation(
        name="rows_beyond_the_expert",
        story="A tile stores the rows that follow the last one of its expert, too.",
        op="fp8_matmul",
        file="device/groups.py",
        old="height = tl.sum(tl.where(is_found, count, 0), 0)",
        new="height = tl.sum(tl.where(is_found, rows - start, 0), 0)",
        judge=Judge.EXPERTS,
    ),
    Mutation(
        name="scales_of_the_first_expert",
        story="Every expert has the scales of the first one.",
        op="fp8_matmul",
        file="fp8_matmul.py",
        old="w_scale_ptr += w_at * w_scale_step",
        new="w_scale_ptr += 0 * w_scale_step",
        judge=Judge.EXPERTS,
    ),
    Mutation(
        name="zero_points_of_the_first_expert",
        story="Every expert has the zero points of the first one.",
        op="weight_only_matmul",
        file="weight_only_matmul.py",
        old="zero_ptr += group * scale_step",
        new="zero_ptr += 0 * scale_step",
        judge=Judge.EXPERTS,
    ),
    Mutation(
        name="factor_of_the_first_expert",
        story="Every expert has the scale of the whole tensor that the first one has.",
        op="mx_matmul",
        file="mx_matmul.py",
        old="            w_tensor_scale_ptr += group",
        new="            w_tensor_scale_ptr += group * 0",
        judge=Judge.EXPERTS,
    ),
    Mutation(
        name="biases_of_the_first_expert",
        story="Every expert has the biases of the first one.",
        op="weight_only_matmul",
        file="weight_only_matmul.py",
        old="bias_ptr += group * N",
        new="bias_ptr += group * 0",
        judge=Judge.EXPERTS,
    ),
    Mutation(
        name="blocks_of_the_first_expert",
        story="By units that scale blocks every expert has the scales of the first one's weight.",
        op="mx_matmul",
        file="block_scaled.py",
        old="w_scale_ptr += w_first * tl.cdiv(K, w_fmt.block_size)",
        new="w_scale_ptr += 0 * tl.cdiv(K, w_fmt.block_size)",
        judge=Judge.EXPERTS,
    ),
)
"""Faults, by name."""
