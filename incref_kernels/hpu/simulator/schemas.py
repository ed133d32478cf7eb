"""The operators of `torch.ops.hpu` that are simulated: name and signature of each, as the vendor's software has them.

Source: HabanaAI/gaudi-pytorch-bridge 5a56187 (release 1.19), habana_kernels/kernels_register.cpp and
habana_eager/eager_custom_op_register.cpp. The fifth argument of `convert_from_uint4` is that of newer software, whose
exact type was not published.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["GROUP_INDEX", "NOT_SIMULATED", "SCHEMAS"]

_CAST = "bool stochastic_rounding=False, bool is_amax=False, ScalarType? dtype=None, int[]? scale_shape=None"
_GEMM = "Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype"
_GEMM_REST = "Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None"
_CONV = (
    "Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0, SymInt[2] dilation=1, "
    "int groups=1, ScalarType? out_dtype=None"
)
_INT4 = "Tensor input, Tensor scale, Tensor? zero_point, ScalarType out_dtype"
GROUP_INDEX = "Tensor? group_index=None"
"""The argument of newer software."""

SCHEMAS: Mapping[str, str] = MappingProxyType(
    {
        "cast_to_fp8": "(Tensor input, Tensor? scale, bool stochastic_rounding, Tensor(a!) out, Tensor(b!) amax) -> "
        "(Tensor(a!), Tensor(b!))",
        "cast_to_fp8_v2": f"(Tensor input, Tensor? scale=None, {_CAST}) -> (Tensor, Tensor)",
        "cast_to_fp8_v2.scalar": f"(Tensor input, float scale, {_CAST}) -> (Tensor, Tensor)",
        "cast_to_fp8_v2.scalar_list": f"(Tensor input, float[] scale, {_CAST}) -> (Tensor, Tensor)",
        "cast_to_fp8_hybrid": "(Tensor input, Tensor? scale_152=None, Tensor? scale_143=None, "
        "bool stochastic_rounding=False, bool is_amax=False) -> (Tensor, Tensor, Tensor)",
        "cast_from_fp8": "(Tensor input, Tensor? scale, ScalarType out_dtype, int[]? scale_shape=None) -> Tensor",
        "cast_from_fp8.scalar": "(Tensor input, float scale, ScalarType out_dtype, int[]? scale_shape=None) -> Tensor",
        "cast_from_fp8.scalar_list": "(Tensor input, float[] scale, ScalarType out_dtype, int[]? scale_shape=None) -> "
        "Tensor",
        "fp8_gemm": "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor D, ScalarType out_dtype, "
        "Tensor? A_scale_inv, Tensor? B_scale_inv, Tensor? bias, bool accumulate, Tensor(a!) out) -> Tensor(a!)",
        "fp8_gemm_v2": f"({_GEMM}, Tensor? A_scale_inv=None, Tensor? B_scale_inv=None, {_GEMM_REST}) -> Tensor",
        "fp8_gemm_v2.scalar": f"({_GEMM}, float A_scale_inv, float B_scale_inv, {_GEMM_REST}) -> Tensor",
        "fp8_gemm_v2.scalar_list": f"({_GEMM}, float[] A_scale_inv, float[] B_scale_inv, {_GEMM_REST}) -> Tensor",
        "conv2d_fp8": f"({_CONV}, Tensor? scale_input=None, Tensor? scale_weight=None) -> Tensor",
        "conv2d_fp8.scalar": f"({_CONV}, float scale_input=1.0, float scale_weight=1.0) -> Tensor",
        "sum_fp8": "(Tensor self, int[1]? dim=None, bool keepdim=False, ScalarType? out_dtype=None) -> Tensor",
        "softmax_fp8": "(Tensor input, int dim, Tensor? input_scale=None, Tensor? output_scale=None, "
        "Tensor? inv_attn_heads=None, Tensor? fused_add=None) -> Tensor",
        "softmax_fp8.Scalar_scales": "(Tensor input, int dim, float input_scale, float output_scale, "
        "Tensor? inv_attn_heads=None, Tensor? fused_add=None) -> Tensor",
        "softmax_fp8.Scalar": "(Tensor input, int dim, float input_scale, float output_scale, float inv_attn_heads, "
        "Tensor? fused_add=None) -> Tensor",
        "convert_from_uint4": f"({_INT4}) -> Tensor",
        "convert_from_int4": f"({_INT4}) -> Tensor",
    }
)
"""Signatures by name, with the overload after a dot."""

NOT_SIMULATED: Mapping[str, str] = MappingProxyType(
    {
        "calculate_scale_for_cast": "its signature was not published",
        "cast_to_fp8_just_in_time": "how it finds scales was not published",
        "mixture_of_experts": "the signatures of its FP8 forms were not published",
        "fp8_sdpa_fwd, fp8_sdpa_recomp_fwd": "no contract of incref is about attention as one operation",
        "fake_quant_fp4, dequantize_nf4, in_place_interleave": "no kernel of incref uses them",
    }
)
"""Operators that are left out, and why."""
