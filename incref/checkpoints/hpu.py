"""4-bit weights in the layout that the operators of Gaudi dequantize."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from incref.checkpoints.stamped import HPU_FILE, stamped_tensors
from incref.checkpoints.stored import narrow_scale, require_part, take_int_parts
from incref.errors import CheckpointError
from incref.formats import FORMATS
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import per_channel, per_group
from incref.numerics.patterns import FLOAT_DTYPES
from incref.ops.pack import pack
from incref.qtensor.qtensor import QTensor, require_permutation
from incref.qtensor.spec import QuantSpec

__all__ = ["LAYOUT_VERSION", "cached_layers", "pack_hpu", "unpack_hpu"]

LAYOUT_VERSION = 1
"""Raised with every change of what `pack_hpu` gives."""

_BITS = 4
_WORD = 32 // _BITS
_PARTS = {"qweight", "qzeros", "scales", "order"}


def pack_hpu(name: str, weight: QTensor, scale_dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Repack a weight [N, K] for `torch.ops.hpu.convert_from_uint4`.

    Args:
        name: of its layer, for messages.
        weight: integers of 4 bits, with zero points or without, in groups along K.
        scale_dtype: of the scales; what they are rounded to if they are no numbers of that dtype, float32 excepted.

    Returns:
        `qweight`, int32 [K, N / 8]: code n of row k in word `n // 8`, from bit `4 * (n % 8)`; unsigned codes.
        `scales`, [G, N], and `qzeros`, int32 [G, N / 8], packed alike: true zero points, from 0 to 15, 8 if the weight
        is symmetric. Row k belongs to group `k // (K / G)`, and dequantizes to `(code - zero_point) * scale`.
        `order`, int32 [K], only where groups are not of neighbours: the column of `weight` that each row is. The layer
        computes `x[..., order] @ W` then.

    Raises:
        CheckpointError: for codes of other widths, other groups, N that is no multiple of 8, or K no multiple of the
            group; or a scale beyond the range of `scale_dtype`.

    Source: the operator's tests in the PyTorch bridge of Gaudi, release 1.19. Never run on a Gaudi.
    """
    rows, columns = weight.shape
    parts = take_int_parts(name, weight)
    if parts.bits != _BITS:
        raise CheckpointError(f"{name}: Gaudi dequantizes integers of 4 bits, got {parts.bits}")
    if rows % _WORD:
        raise CheckpointError(f"{name}: output features must be a multiple of {_WORD} on Gaudi, got {rows}")
    size = columns if parts.group_size == -1 else min(parts.group_size, columns)
    if columns % size:
        raise CheckpointError(f"{name}: groups of {size} must divide the {columns} input features on Gaudi")
    codes, order = parts.codes, weight.order
    if order is not None and parts.groups is None:
        order = None
    if order is not None:
        codes = codes[:, order.to(torch.int64)]
    scale = narrow_scale(name, parts.scale, scale_dtype, rounds=scale_dtype is not torch.float32)
    packed = {
        "qweight": pack(codes.T, "uint4", layout=PackLayout.HPU),
        "qzeros": pack(parts.zero_point.T, "uint4", layout=PackLayout.HPU),
        "scales": scale.T.contiguous(),
    }
    return packed if order is None else {**packed, "order": order}


def cached_layers(
    directory: Path,
    weights: Callable[[], Iterable[tuple[str, QTensor]]],
    *,
    scale_dtype: torch.dtype = torch.float32,
    variant: str = "",
    skips: bool = False,
) -> dict[str, dict[str, Tensor]]:
    """Give what `pack_hpu` makes of weights of the checkpoint in `directory`, from a file if it was made before.

    Args:
        directory: of the checkpoint.
        weights: gives them with the names of their layers; called only if there is no file that fits.
        scale_dtype: of the scales.
        variant: what else they depend on beside the files of the checkpoint.
        skips: whether weights that `pack_hpu` refuses are left out; else they are errors.

    Returns:
        The parts of every weight by the name of its layer; see `stamped_tensors` for the file.
    """

    def build() -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, weight in weights():
            try:
                packed = pack_hpu(name, weight, scale_dtype)
            except CheckpointError:
                if not skips:
                    raise
                continue
            tensors |= {f"{name}.{part}": tensor for part, tensor in packed.items()}
        return tensors

    layout = f"hpu/{LAYOUT_VERSION}/{FLOAT_DTYPES[scale_dtype]}/{variant}/{'some' if skips else 'all'}"
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in stamped_tensors(directory, HPU_FILE, layout, build).items():
        name, _, part = key.rpartition(".")
        layers.setdefault(name, {})[part] = tensor
    return layers


def unpack_hpu(name: str, parts: Mapping[str, Tensor], dtype: torch.dtype) -> QTensor:
    """Undo `pack_hpu`: a weight of `dtype`, with zero points, whose words stay as they are.

    Raises:
        CheckpointError: if a part is missing or unknown, or has another dtype or shape; if a scale is not finite, or
            `order` names a column twice.
    """
    if unknown := sorted(parts.keys() - _PARTS):
        raise CheckpointError(f"{name}: a layer for Gaudi has no {', '.join(unknown)}")
    qweight, scales = parts.get("qweight"), parts.get("scales")
    if qweight is None or scales is None or qweight.ndim != 2 or scales.ndim != 2:
        raise CheckpointError(f"{name}: there must be matrices qweight and scales")
    (columns, words), (groups, rows) = qweight.shape, scales.shape
    require_part(name, parts, "qweight", (torch.int32,), (columns, rows // _WORD))
    require_part(name, parts, "scales", (torch.float16, torch.bfloat16, torch.float32), (groups, words * _WORD))
    qzeros = require_part(name, parts, "qzeros", (torch.int32,), (groups, words))
    if "order" in parts:
        require_part(name, parts, "order", (torch.int32,), (columns,))
    if groups == 0 or columns % groups:
        raise CheckpointError(f"{name}: {columns} input features can't be in {groups} groups of one size")
    if not bool(scales.isfinite().all()):
        raise CheckpointError(f"{name}: scales must be finite, and there are NaN or Inf among them")
    spec = QuantSpec(
        fmt=FORMATS["uint4"],
        granularity=per_channel() if groups == 1 else per_group(columns // groups),
        symmetric=False,
    )
    order = parts.get("order")
    if order is not None:
        try:
            require_permutation(order)
        except ValueError as error:
            raise CheckpointError(f"{name}: {error}") from error
    return QTensor(
        packed=qweight,
        scale=scales.T.to(torch.float32).contiguous(),
        zero_point=qzeros,
        order=order,
        spec=spec,
        shape=(rows, columns),
        dtype=dtype,
        layout=PackLayout.HPU,
    )
