"""The types of the language, values of them, and how many results differ."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

__all__ = [
    "BITS8",
    "DTYPES",
    "FLOATS",
    "INTEGERS",
    "SIGNED",
    "UNSIGNED",
    "array",
    "differ",
    "empty",
    "farther",
    "integers",
    "is_float",
    "patterns",
    "reals",
    "tensor",
]

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = (*SIGNED, *UNSIGNED)
FLOATS = ("float16", "bfloat16", "float32", "float64")
BITS8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("bool", *INTEGERS, *FLOATS, *BITS8)}
# Those that numpy has from ml_dtypes.
_ADDED = {name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", *BITS8)}
_RAW = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_COUNT = 1 << 16


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def is_float(name: str) -> bool:
    """Whether the type is one of floating-point numbers."""
    return DTYPES[name].is_floating_point


def array(x: Tensor) -> np.ndarray:
    """The values as numpy has them, in the same memory."""
    added = _ADDED.get(_name(x.dtype))
    return x.numpy() if added is None else x.view(_RAW[x.itemsize]).numpy().view(added)


def tensor(x: np.ndarray) -> Tensor:
    """The values as PyTorch has them."""
    x = np.ascontiguousarray(x)
    if x.dtype.name not in _ADDED:
        return torch.from_numpy(x)
    return torch.from_numpy(x.view(f"i{x.itemsize}")).view(DTYPES[x.dtype.name])


def empty(dtype: str, *shape: int) -> Tensor:
    """A tensor for results, with every bit set."""
    width = DTYPES[dtype].itemsize
    raw = torch.full((*shape, width), 255, dtype=torch.uint8)
    return raw.view(DTYPES[dtype])[..., 0] if width > 1 else raw[..., 0].view(DTYPES[dtype])


def patterns(dtype: str, seed: int = 0) -> Tensor:
    """Every value of a type of at most 16 bits, 65,536 random patterns of a wider one; for bool both values."""
    kind = DTYPES[dtype]
    if kind == torch.bool:
        return torch.arange(_COUNT) % 2 == 1
    if kind.itemsize < 4:
        raw = torch.arange(_COUNT).to(torch.int16) if kind.itemsize == 2 else torch.arange(_COUNT).to(torch.uint8)
        order = torch.randperm(_COUNT, generator=torch.Generator().manual_seed(seed)) if seed else slice(None)
        return raw[order].view(kind)
    raw = torch.randint(-(1 << 63), (1 << 63) - 1, (_COUNT,), generator=torch.Generator().manual_seed(seed))
    return raw.to(_RAW[kind.itemsize]).view(kind)


def reals(dtype: str, low: float, high: float, seed: int = 0, count: int = _COUNT) -> Tensor:
    """Numbers of a type of floating-point numbers, evenly distributed between two."""
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (low + (high - low) * drawn).to(DTYPES[dtype])


def integers(dtype: str, low: int, high: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Integers from `low` on below `high`, as values of any type."""
    drawn = torch.randint(low, high, tuple(shape), generator=torch.Generator().manual_seed(seed))
    return drawn.to(torch.float32).to(DTYPES[dtype]) if is_float(dtype) else drawn.to(DTYPES[dtype])


def differ(got: Tensor, want: np.ndarray) -> int:
    """How many elements have other bits; one NaN is as good as another."""
    mine = array(got).reshape(-1)
    want = np.ascontiguousarray(want).reshape(-1)
    if mine.dtype != want.dtype or mine.shape != want.shape:
        raise TypeError(f"expected {want.dtype} {want.shape}, got {mine.dtype} {mine.shape}")
    same = mine.view(f"u{mine.itemsize}") == want.view(f"u{want.itemsize}")
    if got.is_floating_point():
        same |= np.isnan(mine.astype(np.float64)) & np.isnan(want.astype(np.float64))
    return int((~same).sum())


def farther(got: Tensor, want: np.ndarray, ulps: np.ndarray | float) -> int:
    """How many elements are more than `ulps` units in the last place from `want`, which is given more precisely."""
    mine = array(got)
    nearest = np.abs(want.astype(mine.dtype))
    unit = np.spacing(np.maximum(nearest, np.finfo(mine.dtype).tiny)).astype(want.dtype)
    error = np.abs(mine.astype(want.dtype) - want)
    return int(
        (~((error <= ulps * unit) | (np.isnan(mine) & np.isnan(want)) | (mine == nearest * np.sign(want)))).sum()
    )
