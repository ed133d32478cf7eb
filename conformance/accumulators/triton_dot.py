"""Matrix products by `tl.dot`, with the instruction that Triton chooses for the tile."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from incref.formats import FloatFormat

__all__ = ["TritonDot", "dot_kernel", "launch"]


@triton.jit
def dot_kernel(  # noqa: ANN201, PLR0917  # a kernel's parameters are pointers and sizes
    a,  # noqa: ANN001
    b,  # noqa: ANN001
    c,  # noqa: ANN001
    out,  # noqa: ANN001
    N,  # noqa: ANN001
    K,  # noqa: ANN001
    has_carried: tl.constexpr,
    acc_dtype: tl.constexpr,
    imprecise: tl.constexpr,
    precision: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Write a tile of `a @ b.T + c`, [M, K] and [N, K] to [M, N], all extents multiples of the tile's."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    place = row[:, None] * N + column[None, :]
    acc = tl.load(c + place) if has_carried else tl.zeros((BLOCK_M, BLOCK_N), acc_dtype)
    for start in range(0, K, BLOCK_K):
        left = tl.load(a + row[:, None] * K + (start + k)[None, :])
        right = tl.load(b + column[None, :] * K + (start + k)[:, None])
        acc = tl.dot(left, right, acc, input_precision=precision, max_num_imprecise_acc=imprecise, out_dtype=acc_dtype)
    tl.store(out + place, acc)


def launch(
    a: Tensor, b: Tensor, c: Tensor | None, *, imprecise: int | None, precision: str | None, warps: int, block_k: int
) -> tuple[Tensor, object]:
    """Run the kernel on tensors of a GPU whose extents are multiples of 64, 64 and `block_k`.

    Returns:
        The product, float32 or int32 [M, N], and the compiled kernel.
    """
    is_int = not a.is_floating_point()
    out = torch.empty(a.shape[0], b.shape[0], dtype=torch.int32 if is_int else torch.float32, device=a.device)
    kernel = dot_kernel[a.shape[0] // 64, b.shape[0] // 64](
        a,
        b,
        out if c is None else c,
        out,
        b.shape[0],
        a.shape[1],
        has_carried=c is not None,
        acc_dtype=tl.int32 if is_int else tl.float32,
        imprecise=imprecise,
        precision=precision,
        BLOCK_M=64,
        BLOCK_N=64,
        BLOCK_K=block_k,
        num_warps=warps,
        num_stages=1,
    )
    return out, kernel


@dataclass(kw_only=True)
class TritonDot:
    """A `Machine` of one `tl.dot`.

    Attributes:
        name: of the combination.
        dtype: of both operands.
        a_fmt: its format.
        b_fmt: the same.
        imprecise: `max_num_imprecise_acc`.
        precision: `input_precision`; "tf32" for float32 operands.
        warps: 4 for the instructions of a warp group, fewer for those of a warp.
        block_k: K of a tile.
        assembly: the PTX of the kernel that ran last.
    """

    name: str
    dtype: torch.dtype
    a_fmt: FloatFormat
    b_fmt: FloatFormat
    imprecise: int | None = None
    precision: str | None = None
    warps: int = 4
    block_k: int = 128
    takes_carried: bool = True
    assembly: str = ""

    def product(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        left, right = (_fill(x, (64, self.block_k)).cuda().to(self.dtype) for x in (a, b))
        start = None if carried is None else _fill(carried, (64, 64)).cuda()
        out, kernel = launch(
            left,
            right,
            start,
            imprecise=self.imprecise,
            precision=self.precision,
            warps=self.warps,
            block_k=self.block_k,
        )
        self.assembly = kernel.asm["ptx"]
        return out[: a.shape[0], : b.shape[0]].cpu()

    def rows(self, a: Tensor, b: Tensor, carried: Tensor | None = None) -> Tensor:
        """See `Machine`."""
        found = []
        for start in range(0, a.shape[0], 512):
            part = slice(start, min(start + 512, a.shape[0]))
            square = None if carried is None else carried[part].unsqueeze(1).expand(-1, part.stop - start)
            found.append(self.product(a[part], b[part], square).diagonal())
        return torch.cat(found)


def _fill(x: Tensor, units: tuple[int, int]) -> Tensor:
    """Add zeros up to multiples of `units`."""
    rows, columns = (-size % unit for size, unit in zip(x.shape, units, strict=True))
    return torch.nn.functional.pad(x, (0, columns, 0, rows)).contiguous()
