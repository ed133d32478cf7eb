"""Kernels of torchao."""

import importlib

import torch
from torch import Tensor

from benchmarks.triton_native.public.case import Case, Function, draw

__all__ = ["TORCHAO"]

_E4M3 = torch.float8_e4m3fn
_BLOCK, _GROUP = 128, 32


def _call(module: str, name: str, *more: object) -> Function:
    """The function `name` of a module of torchao, with further arguments after the tensors."""
    return lambda *tensors: getattr(importlib.import_module(f"torchao.{module}"), name)(*tensors, *more)


_BLOCKWISE = "kernel.blockwise_quantization"
_TRAINING = "prototype.blockwise_fp8_training.kernels"


def _along_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of blocks of `_BLOCK` elements of a row, by a scale that divides."""
    blocks = x.float().unflatten(-1, (-1, _BLOCK))
    scale = blocks.abs().amax(-1) / torch.finfo(_E4M3).max
    return (blocks / scale[..., None]).flatten(-2).to(_E4M3), scale


def _in_squares(x: Tensor) -> tuple[Tensor, Tensor]:
    blocks = x.float().view(x.shape[0] // _BLOCK, _BLOCK, -1, _BLOCK)
    scale = blocks.abs().amax((1, 3)) / torch.finfo(_E4M3).max
    return (blocks / scale[:, None, :, None]).view_as(x).to(_E4M3), scale


def _spread(scale: Tensor) -> Tensor:
    return scale.repeat_interleave(_BLOCK, 0).repeat_interleave(_BLOCK, 1)


_X, _W = draw(48, 256), draw(128, 256, seed=1)
_SQUARE = draw(256, 256)
_A, _A_SCALE = _along_rows(_X)
_B, _B_SCALE = _in_squares(_W)


def _blockwise_product(a_scale: Tensor, b_scale: Tensor) -> Tensor:
    a = _A.to(a_scale.dtype) * a_scale.repeat_interleave(_BLOCK, 1)
    product = a @ (_B.to(b_scale.dtype) * _spread(b_scale)).T
    return product if a_scale.dtype == torch.float64 else product.bfloat16()


def _trained_product(a_scale: Tensor, b_scale: Tensor) -> Tensor:
    b = _spread(b_scale)
    return (_A.to(a_scale.dtype) * a_scale.repeat_interleave(_BLOCK, 1)) @ (_B.to(b.dtype) * b).T


def _columns(x: Tensor) -> Tensor:
    """The same matrix, a column after the other."""
    return x.T.contiguous().T


def _signed(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)


_INT8 = _signed(48, 96, seed=2), _signed(96, 80, seed=3)


def _scaled_int8(rows: Tensor, columns: Tensor) -> Tensor:
    return (_INT8[0].int() @ _INT8[1].int()).to(rows.dtype) * rows[:, None] * columns


def _codes(*shape: int, most: int, seed: int) -> Tensor:
    return torch.randint(0, most, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


_INT4, _ZEROS = _codes(256, 128, most=16, seed=4), _codes(256, 128 // _GROUP, most=16, seed=5).half()


def _hqq(x: Tensor, scale: Tensor) -> Tensor:
    from torchao.prototype.hqq.mixed_mm import pack_2xint4, triton_mixed_mm  # noqa: PLC0415  # an optional package

    found: Tensor = triton_mixed_mm(
        x, pack_2xint4(_INT4.T), scale.T.contiguous(), _ZEROS.T.contiguous(), group_size=_GROUP
    )
    return found


def _hqq_reference(x: Tensor, scale: Tensor) -> Tensor:
    grouped = _INT4.to(x.dtype).unflatten(1, (-1, _GROUP))
    return x @ ((grouped - _ZEROS.to(x.dtype)[..., None]) * scale[..., None]).flatten(1).T


_MX_CODES = draw(64, 256, seed=6).to(_E4M3)
_MX_SCALES = 100 + _codes(64, 8, most=50, seed=7)


def _mx(*_: Tensor) -> Tensor:
    scale = torch.exp2(_MX_SCALES.double() - 127).repeat_interleave(32, 1)
    return (_MX_CODES.double() * scale).float()


_TILES = _codes(200, 10, most=255, seed=8)


def _scale_tiles(*_: Tensor) -> Tensor:
    found: Tensor = _call("prototype.mx_formats.utils", "to_blocked")(_TILES)
    return found.view(256, 12)


def _attention(*tensors: Tensor) -> tuple[Tensor, ...]:
    most = [tensor.float().abs().amax((2, 3)) for tensor in tensors]
    largest = torch.finfo(_E4M3).max
    codes = [(x.float() * (largest / m)[..., None, None]).to(_E4M3) for x, m in zip(tensors, most, strict=True)]
    return (*codes, *(m / largest for m in most))


def _tensorwise(x: Tensor) -> tuple[Tensor, Tensor]:
    largest = torch.finfo(_E4M3).max
    scale = (largest / x.double().abs().max()).float()
    return (x.float() * scale).clamp(-largest, largest).to(_E4M3), scale


def _fp8_nocompile(x: Tensor) -> tuple[Tensor, Tensor]:
    from torchao.float8.float8_training_tensor import LinearMMConfig  # noqa: PLC0415  # an optional package

    found = _call("prototype.float8nocompile.kernels.fp8_dynamic_tensorwise", "hp_to_fp8_row_major")(
        x, _E4M3, LinearMMConfig()
    )
    return found._data, found._scale  # noqa: SLF001  # the codes have no other name


_OFFSETS = torch.tensor([64, 128, 256], dtype=torch.int32)
_PER_GROUP = (_OFFSETS, _E4M3, True)


def _only_values(launch: Function, reference: Function, *tensors: Tensor) -> Case:
    return Case(launch, reference, list(tensors), has_gradient=False)


TORCHAO: dict[str, Case] = {
    "torchao FP8, blocks of a row": _only_values(_call(_BLOCKWISE, "fp8_blockwise_act_quant"), _along_rows, _X),
    "torchao FP8, square blocks": _only_values(_call(_BLOCKWISE, "fp8_blockwise_weight_quant"), _in_squares, _SQUARE),
    "torchao FP8, square blocks, back": _only_values(
        lambda scale: _call(_BLOCKWISE, "fp8_blockwise_weight_dequant")(_B, scale.float()),
        lambda scale: _B.to(scale.dtype) * _spread(scale),
        _B_SCALE,
    ),
    "torchao FP8 product by blocks": _only_values(
        lambda a, b: _call(_BLOCKWISE, "blockwise_fp8_gemm")(_A, a, _B, b), _blockwise_product, _A_SCALE, _B_SCALE
    ),
    "torchao training: FP8, left": _only_values(
        _call(_TRAINING, "triton_fp8_blockwise_act_quant_lhs"),
        lambda x: _call(_TRAINING, "torch_blockwise_scale_act_quant_lhs")(x.float()),
        _SQUARE,
    ),
    "torchao training: FP8, right": _only_values(
        _call(_TRAINING, "triton_fp8_blockwise_act_quant_rhs"),
        lambda x: _call(_TRAINING, "torch_blockwise_scale_act_quant_rhs")(x.float()),
        _SQUARE,
    ),
    "torchao training: FP8, left, transposed": _only_values(
        _call(_TRAINING, "triton_fp8_blockwise_act_quant_transposed_lhs"),
        lambda x: _call(_TRAINING, "torch_blockwise_scale_act_quant_lhs")(x.float().T.contiguous()),
        _SQUARE,
    ),
    "torchao training: FP8, weight": _only_values(
        _call(_TRAINING, "triton_fp8_blockwise_weight_quant_rhs"),
        lambda x: _call(_TRAINING, "torch_blockwise_scale_weight_quant")(x.float()),
        _SQUARE,
    ),
    "torchao training: FP8, weight, transposed": _only_values(
        _call(_TRAINING, "triton_fp8_blockwise_weight_quant_transposed_rhs"),
        lambda x: _call(_TRAINING, "torch_blockwise_scale_weight_quant")(x.float().T.contiguous()),
        _SQUARE,
    ),
    "torchao training: FP8 product": _only_values(
        lambda a, b: _call(_TRAINING, "triton_fp8_gemm_1x128_128x128")(_A, _B.T, _columns(a), _columns(b.T)),
        _trained_product,
        _A_SCALE,
        _B_SCALE,
    ),
    "torchao int8 product": _only_values(
        lambda rows, columns: _call("prototype.quantized_training.int8_mm", "scaled_int8_mm_cuda")(
            *_INT8, rows, columns
        ),
        _scaled_int8,
        draw(48).abs(),
        draw(80, seed=1).abs(),
    ),
    "torchao HQQ, 4 bits by float16": _only_values(
        _hqq, _hqq_reference, draw(32, 128).half(), (draw(256, 128 // _GROUP, seed=1).abs() + 0.1).half()
    ),
    "torchao MXFP8, back": _only_values(
        lambda _: _call("prototype.mx_formats.kernels", "triton_mxfp8_dequant_dim0")(
            _MX_CODES, _MX_SCALES, torch.float32
        ),
        _mx,
        _X,
    ),
    "torchao MX scales in tiles": _only_values(
        lambda _: _call("prototype.mx_formats.kernels", "triton_mx_block_rearrange")(_TILES), _scale_tiles, _X
    ),
    "torchao FP8 attention inputs": _only_values(
        _call("prototype.fp8_sdpa_inference.fp8_sdpa_quantization", "fp8_sdpa_quantize_func"),
        _attention,
        *(draw(2, 3, 70, 32, seed=seed).half() for seed in (1, 2, 3)),
    ),
    "torchao FP8 without a compiler": _only_values(_fp8_nocompile, _tensorwise, _SQUARE),
    "torchao FP8 of experts' rows": _only_values(
        _call(
            "prototype.moe_training.kernels.jagged_float8_scales", "triton_fp8_per_group_rowwise_scales", *_PER_GROUP
        ),
        lambda x: _call("prototype.moe_training.utils", "torch_to_float8_per_group_rowwise", *_PER_GROUP)(x.float()),
        draw(64, 256),
    ),
}
