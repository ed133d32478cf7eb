"""Products of 8-bit floats."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.errors import UnsupportedError
from incref.formats import FORMATS, FloatFormat
from incref.numerics.accumulate.evaluate import accumulate
from incref.numerics.scaled_matmul import as_rows, matmul_rounded
from incref.ops.decode import decode
from incref_kernels.hpu.simulator.casts import FLOAT8, Scale, encode_result
from incref_kernels.hpu.simulator.options import Scaling, Sums
from incref_kernels.hpu.simulator.profile import HpuProfile

__all__ = ["Products"]


def _float16() -> FloatFormat:
    fmt = FORMATS["float16"]
    assert isinstance(fmt, FloatFormat)
    return fmt


_FLOAT16 = _float16()


class Products:
    """The operators `fp8_gemm...` and `conv2d_fp8` on one chip."""

    def __init__(self, profile: HpuProfile) -> None:
        """Take the chip."""
        self.profile = profile

    def fp8_gemm_v2(
        self,
        A: Tensor,
        trans_A: bool,  # the operator's arguments, here and below
        B: Tensor,
        trans_B: bool,
        D: Tensor | None,
        out_dtype: torch.dtype,
        A_scale_inv: Scale = None,
        B_scale_inv: Scale = None,
        bias: Tensor | None = None,
        accumulate: bool = False,
        B_scale_shape: Sequence[int] | None = None,
    ) -> Tensor:
        """Compute `(op(A) @ op(B)) * (A_scale_inv * B_scale_inv) + bias`, and `+ D` if it accumulates."""
        if accumulate and D is None:
            raise ValueError("accumulate=True adds D, which is None")
        a, b = self._decode(A, B)
        acc = self._matmul(a.mT if trans_A else a, b.mT if trans_B else b)
        scale = _product(A_scale_inv, B_scale_inv, B_scale_shape)
        return self._finish(acc, scale, bias, D if accumulate else None, out_dtype)

    def fp8_gemm_v2_meta(
        self,
        A: Tensor,
        trans_A: bool,
        B: Tensor,
        trans_B: bool,
        D: Tensor | None,
        out_dtype: torch.dtype,
        A_scale_inv: Scale = None,
        B_scale_inv: Scale = None,
        bias: Tensor | None = None,
        accumulate: bool = False,
        B_scale_shape: Sequence[int] | None = None,
    ) -> Tensor:
        """Shape and dtype of `fp8_gemm_v2`."""
        a = A.new_empty(A.shape, dtype=torch.float32)
        b = B.new_empty(B.shape, dtype=torch.float32)
        return torch.matmul(a.mT if trans_A else a, b.mT if trans_B else b).to(out_dtype)

    def fp8_gemm(
        self,
        A: Tensor,
        trans_A: bool,
        B: Tensor,
        trans_B: bool,
        D: Tensor,
        out_dtype: torch.dtype,
        A_scale_inv: Tensor | None,
        B_scale_inv: Tensor | None,
        bias: Tensor | None,
        accumulate: bool,
        out: Tensor,
    ) -> Tensor:
        """Write the product to `out`."""
        return out.copy_(
            self.fp8_gemm_v2(A, trans_A, B, trans_B, D, out_dtype, A_scale_inv, B_scale_inv, bias, accumulate)
        )

    def fp8_gemm_meta(self, *args: object) -> Tensor:
        """Shape and dtype of `fp8_gemm`: those of `out`, its last argument."""
        assert isinstance(args[-1], Tensor)
        return args[-1]

    def scaled_mm(
        self,
        self_: Tensor,
        mat2: Tensor,
        scale_a: Tensor,
        scale_b: Tensor,
        bias: Tensor | None = None,
        scale_result: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
        use_fast_accum: bool = False,
    ) -> Tensor:
        """Compute PyTorch's own `_scaled_mm` as `fp8_gemm_v2` of the same factors, which it is on a Gaudi.

        Raises:
            UnsupportedError: with a scale for the result, which nothing public says what becomes of.
        """
        del use_fast_accum
        if scale_result is not None:
            raise UnsupportedError("what _scaled_mm makes of scale_result on a Gaudi is not known; leave it out")
        dtype = self_.dtype if out_dtype is None else out_dtype
        return self.fp8_gemm_v2(
            self_,
            trans_A=False,
            B=mat2,
            trans_B=False,
            D=None,
            out_dtype=dtype,
            A_scale_inv=scale_a,
            B_scale_inv=scale_b,
            bias=bias,
        )

    def conv2d_fp8(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
        out_dtype: torch.dtype | None = None,
        scale_input: Scale = None,
        scale_weight: Scale = None,
    ) -> Tensor:
        """Convolve [N, C, H, W] with [O, C / groups, h, w], as a product of patches."""
        stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
        x, w = self._decode(input, weight)
        batch, channels = x.shape[:2]
        size = _output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
        patches = F.unfold(x, w.shape[2:], dilation=dilation, padding=padding, stride=stride)
        patches = patches.view(batch, groups, channels // groups * prod(w.shape[2:]), prod(size))
        filters = w.view(groups, w.shape[0] // groups, -1)
        acc = torch.cat([self._matmul(filters[g], patches[:, g]) for g in range(groups)], 1)
        scale = _product(scale_input, scale_weight, None)
        if scale is not None and scale.ndim:
            scale = scale.view(-1, 1)
        y = self._finish(acc, scale, None if bias is None else bias.view(-1, 1), None, out_dtype or torch.bfloat16)
        return y.view(batch, w.shape[0], *size)

    def conv2d_fp8_meta(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
        out_dtype: torch.dtype | None = None,
        scale_input: Scale = None,
        scale_weight: Scale = None,
    ) -> Tensor:
        """Shape and dtype of `conv2d_fp8`."""
        stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
        size = _output_size(input.shape[2:], weight.shape[2:], stride, padding, dilation)
        return input.new_empty((input.shape[0], weight.shape[0], *size), dtype=out_dtype or torch.bfloat16)

    def _decode(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        for name, one in (("A", a), ("B", b)):
            if one.dtype not in FLOAT8:
                raise TypeError(f"{name} must be torch.float8_e4m3fn or torch.float8_e5m2, got {one.dtype}")
        if a.dtype is not b.dtype and not self.profile.hardware.mixes_formats:
            raise UnsupportedError(f"{self.profile.chip} has no product of {a.dtype} and {b.dtype}")
        wide = torch.float32 if self.profile.sums is Sums.FLOAT32 else torch.float64
        one, other = (decode(x.view(torch.uint8), self.profile.mme_format(x.dtype), dtype=wide) for x in (a, b))
        return one, other

    def _matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply as `torch.matmul` does, with the sums of the profile; float32."""
        if self.profile.sums is Sums.FLOAT32:
            return torch.matmul(a, b)
        shape = torch.matmul(a.new_empty(a.shape, device="meta"), b.new_empty(b.shape, device="meta")).shape
        one = a.unsqueeze(0) if a.ndim == 1 else a
        other = b.unsqueeze(1) if b.ndim == 1 else b
        if other.ndim == 2:
            return self._multiply(as_rows(one), other.mT).view(shape)
        batch = torch.broadcast_shapes(one.shape[:-2], other.shape[:-2])
        ones, others = (x.expand(*batch, *x.shape[-2:]).reshape(batch.numel(), *x.shape[-2:]) for x in (one, other))
        found = [self._multiply(x, y.mT) for x, y in zip(ones, others, strict=True)]
        if not found:
            return torch.zeros(shape)
        return torch.stack(found).view(shape)

    def _multiply(self, x: Tensor, w: Tensor) -> Tensor:
        """Compute `x @ w.T` of float64 matrices; float32."""
        if self.profile.sums is Sums.EXACT:
            return matmul_rounded(x, w, bias=None, dtype=torch.float32)
        # The factors enter the unit as float16 values: their exponents are those that are compared.
        return accumulate(x, w, _FLOAT16, _FLOAT16, self.profile.accumulator)

    def _finish(
        self, acc: Tensor, scale: Tensor | None, bias: Tensor | None, D: Tensor | None, out_dtype: torch.dtype
    ) -> Tensor:
        is_late = self.profile.scaling is Scaling.AFTER_ROUNDING and out_dtype not in FLOAT8
        step = out_dtype if is_late else torch.float32
        y = acc.to(step)
        if scale is not None:
            y = y * scale.to(step)
        for term in (bias, D):
            if term is not None:
                y = y + term.to(step)
        if out_dtype not in FLOAT8:
            return y.to(out_dtype)
        fmt = self.profile.mme_format(out_dtype)
        return encode_result(y, fmt, self.profile, saturates=self.profile.mme_clips).view(out_dtype)


def _product(a: Scale, b: Scale, b_shape: Sequence[int] | None) -> Tensor | None:
    """The product of both scales, rounded to float32, in a shape that broadcasts to that of the result."""
    one, other = _as_tensor(a), _as_tensor(b)
    if other is not None and b_shape is not None and other.numel() > 1:
        other = other.view(*b_shape)
    if one is None or other is None:
        return other if one is None else one
    return one * other


def _as_tensor(scale: Scale) -> Tensor | None:
    if scale is None:
        return None
    found = scale.to(torch.float32) if isinstance(scale, Tensor) else torch.tensor(scale, dtype=torch.float32)
    return found.view(()) if found.numel() == 1 else found


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    first, last = (*sizes, *sizes)[:2] if len(sizes) == 1 else sizes
    return first, last


def _output_size(
    image: Sequence[int], window: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    return tuple(
        (extent + 2 * pad - gap * (size - 1) - 1) // step + 1
        for extent, size, step, pad, gap in zip(image, window, stride, padding, dilation, strict=True)
    )
