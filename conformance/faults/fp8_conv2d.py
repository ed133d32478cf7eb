"""Faults of `fp8_conv2d`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from conformance.faults.products import (
    Bfloat16,
    DoubleRounded,
    Float16Accumulator,
    Fused,
    LastDropped,
    NanSwallowed,
    PairwiseSums,
    Product,
    TileTwice,
)
from incref.formats import ScaleOrder
from incref.numerics.granularity import PER_TENSOR, Granularity
from incref.numerics.patches import Pair
from incref.ops import decode


class Conv(Product):
    """Decodes, puts zeros around the image, and multiplies the patches with the filters, group by group."""

    op = "fp8_conv2d"
    options = {"order": (ScaleOrder.PRODUCT,)}  # noqa: RUF012  # never written to
    is_right = True

    def __call__(
        self,
        x: Tensor,
        w: Tensor,
        x_scale: Tensor | None,
        w_scale: Tensor | None,
        *,
        x_fmt: str,
        w_fmt: str,
        w_granularity: Granularity = PER_TENSOR,  # the shape of the scale says it too
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        **_: object,
    ) -> Tensor:
        """Convolve."""
        image, filters = self.pad(decode(x, x_fmt), padding), self.filters(decode(w, w_fmt))
        patches, size = self.patches(image, w.shape[2:], stride, dilation)
        channels, each = w.shape[1], w.shape[0] // groups
        parts = []
        for group in range(groups):
            part = patches[:, self.first_channel(group, channels) :][:, :channels]
            rows = part.permute(0, 4, 5, *self.order()).flatten(3).flatten(0, 2)
            of_group = filters[group * each : (group + 1) * each]
            parts.append(self.multiply(rows, of_group.permute(0, *self.order()).flatten(1)))
        acc = torch.cat(parts, -1).view(len(x), *size, -1).movedim(-1, 1)
        left = torch.ones(()) if x_scale is None else x_scale
        right = torch.ones(()) if w_scale is None else w_scale
        y = self.finish(acc, left, right if right.ndim == 0 else right.view(-1, 1, 1), bias)
        return self.store(y, dtype).contiguous()

    def pad(self, x: Tensor, padding: Pair) -> Tensor:
        return F.pad(x, (padding[1], padding[1], padding[0], padding[0]))

    def filters(self, w: Tensor) -> Tensor:
        return w

    def patches(self, x: Tensor, kernel: torch.Size, stride: Pair, dilation: Pair) -> tuple[Tensor, tuple[int, int]]:
        """Windows [B, C, kh, kw, H', W'], and H' and W'."""
        size = [(x.shape[2 + d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in range(2)]
        down, along = (
            torch.arange(kernel[d])[:, None] * dilation[d] + torch.arange(size[d]) * stride[d] for d in range(2)
        )
        windows = x[:, :, down[:, None, :, None], along[None, :, None, :]]
        return windows, (size[0], size[1])

    def first_channel(self, group: int, channels: int) -> int:
        return group * channels

    def order(self) -> tuple[int, int, int]:
        """In which order a filter's channels, rows and columns are added."""
        return (1, 2, 3)

    def finish(self, acc: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        y = acc * (left * right)
        return y if bias is None else y + bias.view(-1, 1, 1)


class ConvChannelsLast(Conv):
    """Adds a filter's rows and columns first and its channels last, as images with channels last do."""

    is_right = True

    def order(self) -> tuple[int, int, int]:
        return (2, 3, 1)


class ConvPairwise(PairwiseSums, Conv):
    """Adds neighbours, level by level."""

    is_right = True


class ConvFused(Fused, Conv):
    """Multiplies and adds with one rounding."""

    is_right = True


class ConvScaleOfX(Conv):
    """The scale of the image stands for that of the filters too."""

    def finish(self, acc: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        return super().finish(acc, left, left, bias)


class ConvFilterScalesSwapped(Conv):
    """Filters get the scales of the filters after them."""

    def finish(self, acc: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        return super().finish(acc, left, right.roll(1, 0) if right.ndim else right, bias)


class ConvBiasScaled(Conv):
    """The bias is added before the scale."""

    def finish(self, acc: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        return (acc if bias is None else acc + bias.view(-1, 1, 1)) * (left * right)


class ConvBiasForgotten(Conv):
    """The bias is not added."""

    def finish(self, acc: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        return super().finish(acc, left, right, None)


class ConvScalesApart(Conv):
    """The scales are applied one after the other, where their product should be."""

    def finish(self, acc: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        y = acc * left * right
        return y if bias is None else y + bias.view(-1, 1, 1)


class ConvBorderIsOne(Conv):
    """The border around the image counts as 1."""

    def pad(self, x: Tensor, padding: Pair) -> Tensor:
        return F.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=1.0)


class ConvBorderRepeated(Conv):
    """The border repeats the edge of the image."""

    def pad(self, x: Tensor, padding: Pair) -> Tensor:
        return F.pad(x, (padding[1], padding[1], padding[0], padding[0]), mode="replicate")


class ConvPaddingSwapped(Conv):
    """Rows get the padding of columns, and the result is cut to its shape."""

    def pad(self, x: Tensor, padding: Pair) -> Tensor:
        swapped = F.pad(x, (padding[0], padding[0], padding[1], padding[1]))
        height, width = x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1]
        filled = F.pad(swapped, (0, max(0, width - swapped.shape[3]), 0, max(0, height - swapped.shape[2])))
        return filled[:, :, :height, :width]


class ConvPaddingOneSided(Conv):
    """All of the padding comes after the image."""

    def pad(self, x: Tensor, padding: Pair) -> Tensor:
        return F.pad(x, (0, 2 * padding[1], 0, 2 * padding[0]))


class _Windows(Conv):
    """Looks at other places of the image, of which those beyond it are cut to its last row and column."""

    def other(self, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
        raise NotImplementedError

    def patches(self, x: Tensor, kernel: torch.Size, stride: Pair, dilation: Pair) -> tuple[Tensor, tuple[int, int]]:
        _, size = super().patches(x, kernel, stride, dilation)
        stride, dilation = self.other(stride, dilation)
        down, along = (
            (torch.arange(kernel[d])[:, None] * dilation[d] + torch.arange(size[d]) * stride[d]).clamp(
                max=x.shape[2 + d] - 1
            )
            for d in range(2)
        )
        return x[:, :, down[:, None, :, None], along[None, :, None, :]], size


class ConvStrideSwapped(_Windows):
    """The strides of rows and columns are swapped."""

    def other(self, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
        return (stride[1], stride[0]), dilation


class ConvDilationSwapped(_Windows):
    """The dilations of rows and columns are swapped."""

    def other(self, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
        return stride, (dilation[1], dilation[0])


class ConvDilationIgnored(_Windows):
    """Elements of a patch are neighbours whatever the dilation."""

    def other(self, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
        return stride, (1, 1)


class ConvStrideForDilation(_Windows):
    """Stride and dilation are taken for each other."""

    def other(self, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
        return dilation, stride


class ConvGroupsIgnored(Conv):
    """Every group of filters reads the channels of the first."""

    def first_channel(self, group: int, channels: int) -> int:
        return 0


class ConvFlipped(Conv):
    """Filters are turned around, as the convolution of mathematics has them."""

    def filters(self, w: Tensor) -> Tensor:
        return w.flip(2, 3)


class ConvColumnUnwritten(Conv):
    """The last column of an image of odd width is masked out of the store."""

    def store(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        found = super().store(y, dtype).clone()
        found[..., found.shape[-1] // 2 * 2 :] = 0
        return found


class ConvLastDropped(LastDropped, Conv):
    """The loop over a filter ends one too early."""


class ConvTileTwice(TileTwice, Conv):
    """The second tile of a filter is counted twice."""


class ConvBfloat16Accumulator(Bfloat16, Conv):
    """Sums are kept in bfloat16, and float32 is declared."""


class ConvFloat16Accumulator(Float16Accumulator, Conv):
    """Sums are kept in float16, and float32 is declared."""


class ConvDoubleRounded(DoubleRounded, Conv):
    """The result is rounded to another half on its way to its dtype."""


class ConvNanSwallowed(NanSwallowed, Conv):
    """NaN becomes 0 in the epilogue."""
