"""The generators of every operation, by its name."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from incref.conformance.case import Case
from incref.conformance.generators.batches import fp8_bmm_cases
from incref.conformance.generators.casts import decode_cases, encode_cases
from incref.conformance.generators.convolutions import fp8_conv2d_cases
from incref.conformance.generators.fake import (
    cast_cases,
    fake_quantize_affine_cases,
    fake_quantize_float_cases,
    fake_quantize_mx_cases,
)
from incref.conformance.generators.floats import dequantize_float_cases, quantize_float_cases
from incref.conformance.generators.gptq import gptq_update_cases
from incref.conformance.generators.int8 import int8_matmul_cases
from incref.conformance.generators.integers import dequantize_affine_cases, quantize_affine_cases
from incref.conformance.generators.matmuls import fp8_matmul_cases, mx_matmul_cases, weight_only_matmul_cases
from incref.conformance.generators.mx import dequantize_mx_cases, quantize_mx_cases
from incref.conformance.generators.packing import pack_cases, unpack_cases
from incref.conformance.generators.scales import compute_scale_cases
from incref.conformance.plan import Plan

__all__ = ["GENERATORS", "Generator"]

Generator = Callable[[Plan], Iterator[Case]]
"""Draws the cases of one level."""

GENERATORS: Mapping[str, tuple[Generator, ...]] = MappingProxyType(
    {
        "encode": (encode_cases,),
        "decode": (decode_cases,),
        "compute_scale": (compute_scale_cases,),
        "quantize_affine": (quantize_affine_cases,),
        "dequantize_affine": (dequantize_affine_cases,),
        "quantize_float": (quantize_float_cases,),
        "dequantize_float": (dequantize_float_cases,),
        "quantize_mx": (quantize_mx_cases,),
        "dequantize_mx": (dequantize_mx_cases,),
        "cast": (cast_cases,),
        "fake_quantize_affine": (fake_quantize_affine_cases,),
        "fake_quantize_float": (fake_quantize_float_cases,),
        "fake_quantize_mx": (fake_quantize_mx_cases,),
        "pack": (pack_cases,),
        "unpack": (unpack_cases,),
        "int8_matmul": (int8_matmul_cases,),
        "weight_only_matmul": (weight_only_matmul_cases,),
        "fp8_matmul": (fp8_matmul_cases,),
        "fp8_bmm": (fp8_bmm_cases,),
        "fp8_conv2d": (fp8_conv2d_cases,),
        "mx_matmul": (mx_matmul_cases,),
        "gptq_update": (gptq_update_cases,),
    }
)
"""An operation without generators can't be judged."""
