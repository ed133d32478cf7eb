"""The operations: what each means, as a contract with a reference in plain PyTorch."""

from incref.ops.cast import cast
from incref.ops.compute_scale import compute_scale
from incref.ops.decode import decode
from incref.ops.dequantize_affine import dequantize_affine
from incref.ops.dequantize_float import dequantize_float
from incref.ops.dequantize_mx import dequantize_mx
from incref.ops.encode import encode
from incref.ops.fake_quantize_affine import fake_quantize_affine
from incref.ops.fake_quantize_float import fake_quantize_float
from incref.ops.fake_quantize_mx import fake_quantize_mx
from incref.ops.fp8_bmm import fp8_bmm
from incref.ops.fp8_conv2d import fp8_conv2d
from incref.ops.fp8_matmul import fp8_matmul
from incref.ops.gptq_update import gptq_update
from incref.ops.int8_matmul import int8_matmul
from incref.ops.mx_matmul import mx_matmul
from incref.ops.pack import pack, unpack
from incref.ops.quantize_affine import quantize_affine
from incref.ops.quantize_float import quantize_float
from incref.ops.quantize_mx import quantize_mx
from incref.ops.table import OPS
from incref.ops.weight_only_matmul import weight_only_matmul

__all__ = [
    "OPS",
    "cast",
    "compute_scale",
    "decode",
    "dequantize_affine",
    "dequantize_float",
    "dequantize_mx",
    "encode",
    "fake_quantize_affine",
    "fake_quantize_float",
    "fake_quantize_mx",
    "fp8_bmm",
    "fp8_conv2d",
    "fp8_matmul",
    "gptq_update",
    "int8_matmul",
    "mx_matmul",
    "pack",
    "quantize_affine",
    "quantize_float",
    "quantize_mx",
    "unpack",
    "weight_only_matmul",
]
