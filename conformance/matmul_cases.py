"""Matrix products of a backend on the device that they run on.

Integers have to be exact. The others are judged as `conformance/contracts/accumulation.md` says: by probes, on which
the answer is unique, and elsewhere by the bound of the accumulator that the kernels declare, on the grid of the output.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from conformance.device_cases import DeviceCase, Finding, Where
from incref.backends.declared import AnyOrder, Declared
from incref.conformance.allowed import Interval, allowed_sums, count_outside, map_interval, round_interval
from incref.conformance.probes import Probe, gemm_probes, guarded, surround
from incref.formats import FORMATS, BlockFormat, FloatFormat, Format, IntFormat, NanRule, ScaleOrder, get_format
from incref.formats.layouts import PackLayout
from incref.numerics.accumulate.models import Accumulator, Aligned, Promoted, Sequential, SplitK
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_group
from incref.numerics.patterns import float_format_of
from incref.numerics.scaled_matmul import apply_scales, finish, flat_scale
from incref.ops import (
    decode,
    dequantize_mx,
    encode,
    fp8_matmul,
    int8_matmul,
    mx_matmul,
    pack,
    quantize_float,
    quantize_mx,
    weight_only_matmul,
)
from incref_kernels.triton.mx_matmul import folded_codes
from incref_kernels.triton.mx_matmul import plan as mx_matmul_plan
from incref_kernels.triton.targets import Factors, accumulator, factors_for
from incref_kernels.triton.weight_only_matmul import plan

__all__ = ["MATMUL_SECTIONS", "Fp8MatmulCase", "Int8MatmulCase", "MatmulShape", "MxMatmulCase", "WeightOnlyCase"]

_POISON = 0xFF
_FLOAT32 = float_format_of(torch.float32)


@dataclass(frozen=True, kw_only=True)
class MatmulShape:
    """Extents of a product, and how a kernel is asked to compute it.

    Attributes:
        rows: M.
        columns: N.
        length: K.
        options: of the kernel beyond those of the operation, such as its tile.
        edges: places along K where tiles or groups may meet.
    """

    rows: int
    columns: int
    length: int
    options: tuple[tuple[str, object], ...] = ()
    edges: tuple[int, ...] = (16, 32, 64, 128, 256)

    def __str__(self) -> str:
        """The extents."""
        return f"{self.rows}x{self.columns}x{self.length}"

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Random factors, float32 [M, K] and [N, K]."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(self.rows, self.length, generator=generator)
        return x, torch.randn(self.columns, self.length, generator=generator)


def _moved(value: object, device: torch.device) -> object:
    return value.to(device) if isinstance(value, Tensor) else value


def _kernel(where: Where, name: str, shape: MatmulShape) -> Callable[..., Tensor]:
    """The kernel of a backend, with tensors moved to its device and back; what it declines is an error."""
    kernel = where.backend.kernels[name]

    def run(*args: object, **options: object) -> Tensor:
        given = [_moved(arg, where.device) for arg in args]
        named = {key: _moved(option, where.device) for key, option in options.items()}
        reason = kernel.why_not(*given, **named)
        if reason is not None:
            raise ValueError(f"{name} declines: {reason}")
        out = kernel.fn(*given, **named, **dict(shape.options))
        assert isinstance(out, Tensor)
        return out.cpu()

    return run


def _poisoned(x: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    return surround(x.to(device), _POISON)


def _probes(shape: MatmulShape, bits: int) -> Iterator[Probe]:
    """Probes with as many rows of both factors as the shape has, so that one kernel serves all of them."""
    for probe in gemm_probes(shape.rows, shape.columns, shape.length, bits=bits, edges=shape.edges):
        w = probe.w.expand(shape.columns, -1) if probe.w.shape[0] == 1 else probe.w
        want = probe.want.expand(-1, shape.columns) if probe.w.shape[0] == 1 else probe.want
        for start in range(0, probe.x.shape[0], shape.rows):
            part = slice(start, start + shape.rows)
            missing = shape.rows - probe.x[part].shape[0]
            fill = partial(torch.nn.functional.pad, pad=(0, 0, 0, missing))
            yield Probe(name=probe.name, x=fill(probe.x[part]), w=w, want=fill(want[part]))


def _judge(finding: Finding, got: Tensor, allowed: Interval, what: str) -> None:
    """Count what lies outside; bounds that allow everything judge nothing, and are not counted."""
    is_bounded = allowed.low.isfinite() & allowed.high.isfinite()
    assert is_bounded.any(), f"{what}: nothing is bounded"
    inside = Interval(low=allowed.low[is_bounded], high=allowed.high[is_bounded])
    outside = int(count_outside(got[is_bounded], inside))
    finding.checked += int(is_bounded.sum())
    finding.mismatches += outside
    if outside and finding.first is None:
        bad = ~((got >= allowed.low) & (got <= allowed.high)) & is_bounded
        at = tuple(bad.nonzero()[0].tolist())
        finding.first = (
            f"{what}: at {at} got {got[at].item()}, want {allowed.low[at].item()} to {allowed.high[at].item()}"
        )


def _scaled(
    sums: Interval,
    x_scale: Tensor | None,
    w_scale: Tensor | None,
    order: ScaleOrder,
    is_scaled: bool,  # noqa: FBT001
) -> Interval:
    """What the roundings of scales make of sums; without any, sums stay what they are until the result is rounded."""
    if not is_scaled:
        return sums
    right = None if w_scale is None else w_scale.T
    return map_interval(round_interval(sums, torch.float32), lambda acc: apply_scales(acc, x_scale, right, order))


@dataclass(frozen=True, kw_only=True)
class Int8MatmulCase:
    """`int8_matmul`, which is exact."""

    shape: MatmulShape
    x_dtype: torch.dtype = torch.int8
    granularity: Granularity | None = PER_TOKEN
    has_zero_point: bool = False
    has_w_zero_point: bool = False
    order: ScaleOrder = ScaleOrder.X_THEN_W
    dtype: torch.dtype = torch.float32
    scale_dtype: torch.dtype = torch.float32

    @property
    def key(self) -> str:
        """Its name among the results."""
        kind = (
            f"{_name(self.x_dtype)}/{self.granularity or 'no scales'}/{self.has_zero_point:d}{self.has_w_zero_point:d}"
        )
        how = f"{self.order.value}/{_name(self.dtype)}/{_name(self.scale_dtype)}"
        return f"int8_matmul/{self.shape}/{kind}/{how}"

    def check(self, where: Where) -> Finding:
        """Compare with the reference."""
        finding, shape = Finding(), self.shape
        generator = torch.Generator().manual_seed(0)
        run = _kernel(where, "int8_matmul", shape)
        x = torch.randint(-128, 128, (shape.rows, shape.length), generator=generator, dtype=torch.int8)
        w = torch.randint(-128, 128, (shape.columns, shape.length), generator=generator, dtype=torch.int8)
        least = torch.full_like(x, -128)
        for name, codes in (("random", x), ("least", least)):
            args, options = self._arguments(codes.view(self.x_dtype), w, generator)
            want = int8_matmul(*args, **options)  # type: ignore[arg-type]
            finding.add(run(*args, **options), want, name)
            turned = (args[0].T.contiguous().T, args[1].T.contiguous().T, *args[2:])  # type: ignore[union-attr]
            finding.add(run(*turned, **options), want, f"{name}, K not last in memory")
            inside, buffer = _poisoned(args[0], where.device)  # type: ignore[arg-type]
            finding.add(run(inside, *args[1:], **options), want, f"{name}, amid poison")
            assert guarded(buffer, inside, _POISON), "the kernel wrote beside its argument"
        return finding

    def _arguments(
        self, x: Tensor, w: Tensor, generator: torch.Generator
    ) -> tuple[list[Tensor | None], dict[str, object]]:
        granularity = self.granularity or PER_TENSOR
        options: dict[str, object] = {"x_granularity": granularity, "w_granularity": granularity}
        for name, codes, is_there in (("x", x, self.has_zero_point), ("w", w, self.has_w_zero_point)):
            if is_there:
                shape, least = granularity.scale_shape(codes.shape), int(torch.iinfo(codes.dtype).min)
                zero = torch.randint(least, least + 256, shape, generator=generator, dtype=torch.int32)
                options[f"{name}_zero_point"] = zero
        if self.granularity is None:
            return [x, w, None, None], options
        scales: list[Tensor | None] = []
        for codes in (x, w):
            scale = torch.randn(granularity.scale_shape(codes.shape), generator=generator)
            if self.scale_dtype is torch.uint8:
                scales.append(torch.randint(0, 256, scale.shape, generator=generator, dtype=torch.uint8))
            else:
                scales.append(scale.to(self.scale_dtype))
        bias = torch.randn(w.shape[0], generator=generator).to(self.dtype)
        return [x, w, *scales], options | {"order": self.order, "dtype": self.dtype, "bias": bias}


@dataclass(frozen=True, kw_only=True)
class Fp8MatmulCase:
    """`fp8_matmul`, by probes and by the bound of its accumulator."""

    shape: MatmulShape
    x_fmt: str = "float8_e4m3fn"
    w_fmt: str = "float8_e4m3fn"
    x_granularity: Granularity | None = None
    w_granularity: Granularity | None = None
    order: ScaleOrder = ScaleOrder.PRODUCT
    dtype: torch.dtype = torch.float32
    has_bias: bool = False
    factors: Factors | None = None

    @property
    def key(self) -> str:
        """Its name among the results."""
        kind = f"{self.x_fmt}/{self.w_fmt}/{self.x_granularity}/{self.w_granularity}/{self.order.value}"
        factors = "default" if self.factors is None else self.factors.value
        end = f"{_name(self.dtype)}/{'bias' if self.has_bias else 'none'}/{factors}"
        return f"fp8_matmul/{self.shape}/{kind}/{end}"

    def check(self, where: Where) -> Finding:
        """Compare with the answers of probes, and with the bound."""
        finding, shape = Finding(), self.shape
        factors = self._factors(where)
        declared = accumulator(where.device, factors)
        run = partial(_kernel(where, "fp8_matmul", shape), factors=factors)
        for probe in _probes(shape, bits=_bits_of(declared, self._element(self.x_fmt), self._element(self.w_fmt))):
            # Formats without NaN have no probe of it.
            codes = [encode(probe.x, self.x_fmt, nan=NanRule.ZERO), encode(probe.w, self.w_fmt, nan=NanRule.ZERO)]
            scales = [self._powers(granularity, x) for granularity, x in zip(self._granularities, codes, strict=True)]
            args, options = [*codes, *scales], self._options(None)
            finding.add(run(*args, **options), fp8_matmul(*args, **options), probe.name)  # type: ignore[arg-type]
        parts = [
            quantize_float(values, fmt, granularity=granularity or PER_TENSOR)
            for values, fmt, granularity in zip(
                shape.draw(1), (self.x_fmt, self.w_fmt), self._granularities, strict=True
            )
        ]
        codes = [codes for codes, _ in parts]
        scales = [
            None if granularity is None else scale
            for (_, scale), granularity in zip(parts, self._granularities, strict=True)
        ]
        bias = torch.randn(shape.columns, generator=torch.Generator().manual_seed(2)) if self.has_bias else None
        guards = [_poisoned(one, where.device) for one in codes]
        got = run(*(inside for inside, _ in guards), *scales, **self._options(bias))
        assert all(guarded(buffer, inside, _POISON) for inside, buffer in guards), (
            "the kernel wrote beside its argument"
        )
        allowed = self._allowed(codes, scales, bias, declared, factors)
        _judge(finding, got, allowed, "random values")
        return finding

    @property
    def _granularities(self) -> tuple[Granularity | None, Granularity | None]:
        return self.x_granularity, self.w_granularity

    def _element(self, name: str) -> FloatFormat:
        fmt = get_format(name)
        assert isinstance(fmt, FloatFormat)
        return fmt

    def _factors(self, where: Where) -> Factors:
        return self.factors or factors_for(where.device, self._element(self.x_fmt), self._element(self.w_fmt))

    def _powers(self, granularity: Granularity | None, codes: Tensor) -> Tensor | None:
        """Scales that keep sums exact: what a stretch has is multiplied by 1, 2 or 4."""
        if granularity is None:
            return None
        generator = torch.Generator().manual_seed(3)
        drawn = torch.randint(0, 3, granularity.scale_shape(codes.shape), generator=generator)
        return drawn.float().exp2()

    def _options(self, bias: Tensor | None) -> dict[str, object]:
        return {
            "x_fmt": self.x_fmt,
            "w_fmt": self.w_fmt,
            "x_granularity": self.x_granularity or PER_TENSOR,
            "w_granularity": self.w_granularity or PER_TENSOR,
            "order": self.order,
            "dtype": self.dtype,
            "bias": bias,
        }

    def _allowed(
        self,
        codes: Sequence[Tensor],
        scales: Sequence[Tensor | None],
        bias: Tensor | None,
        declared: Accumulator,
        factors: Factors,
    ) -> Interval:
        values = [
            decode(one, fmt, dtype=torch.float64) for one, fmt in zip(codes, (self.x_fmt, self.w_fmt), strict=True)
        ]
        as_bfloat16 = float_format_of(torch.bfloat16)
        is_coded = factors is Factors.CODES
        formats = [self._element(fmt) if is_coded else as_bfloat16 for fmt in (self.x_fmt, self.w_fmt)]
        flat = [
            flat_scale("scale", scale, one.shape, granularity or PER_TENSOR)
            for scale, one, granularity in zip(scales, codes, self._granularities, strict=True)
        ]
        length = codes[0].shape[1]
        step = min(block for _, block in flat)
        total: Interval | None = None
        for start in range(0, length, step):
            one, other = (each[:, start : start + step] for each in values)
            sums = allowed_sums(one, other, formats[0], formats[1], declared)
            left, right = (
                None if scale is None else scale[:, start // block : start // block + 1] for scale, block in flat
            )
            part = _scaled(sums, left, right, self.order, any(scale is not None for scale in scales))
            total = part if total is None else Interval(low=total.low + part.low, high=total.high + part.high)
        assert total is not None
        return _finished(total, bias, self.dtype)


@dataclass(frozen=True, kw_only=True)
class WeightOnlyCase:
    """`weight_only_matmul`, by probes whose weight is a grid of small integers, and by the bound of its accumulator."""

    shape: MatmulShape
    fmt: str = "int4"
    granularity: Granularity = PER_TENSOR
    groups: int = 0
    """How many groups `g_idx` chooses from; 0 for none."""
    dtype: torch.dtype = torch.bfloat16
    weight_dtype: torch.dtype | None = None
    packed: PackLayout | None = None
    has_bias: bool = False

    @property
    def key(self) -> str:
        """Its name among the results."""
        kind = (
            f"{self.fmt}/{self.granularity}/{self.groups}/{_name(self.dtype)}/{_name(self.weight_dtype or self.dtype)}"
        )
        how = f"{self.packed.value if self.packed else 'bytes each'}/{'bias' if self.has_bias else 'none'}"
        options = ",".join(name for name, _ in self.shape.options)
        return f"weight_only_matmul/{self.shape}/{kind}/{how}/{options}"

    def check(self, where: Where) -> Finding:
        """Compare with the answers of probes, and with the bound."""
        finding, shape = Finding(), self.shape
        run = _kernel(where, "weight_only_matmul", shape)
        generator = torch.Generator().manual_seed(0)
        declared = self._declared(where)
        for probe in _probes(shape, bits=7):
            # Of a probe the activations are taken; any weight will do that is small integers.
            x = probe.x.to(self.dtype)
            args, options = self._weight(generator, is_exact=True)
            want = weight_only_matmul(x, *args, **options)  # type: ignore[arg-type]
            got = run(x, self._packed(args[0]), *args[1:], **options, **self._packing())
            finding.add(got, want, probe.name)
        x = shape.draw(1)[0].to(self.dtype)
        args, options = self._weight(generator, is_exact=False)
        bias = torch.randn(shape.columns, generator=generator) if self.has_bias else None
        inside, buffer = _poisoned(x, where.device)
        words, weight_buffer = _poisoned(self._packed(args[0]), where.device)
        got = run(inside, words, *args[1:], **options, **self._packing(), bias=bias, dtype=torch.float32)
        assert guarded(buffer, inside, _POISON), "the kernel wrote beside its argument"
        assert guarded(weight_buffer, words, _POISON), "the kernel wrote beside its weight"
        weight = self._dequantized(args, options)
        formats = [float_format_of(each.dtype) for each in (x, weight)]
        allowed = allowed_sums(x, weight, *formats, declared)
        _judge(finding, got, _finished(allowed, bias, torch.float32), "random values")
        return finding

    def _declared(self, where: Where) -> Declared:
        is_half = self.dtype is not torch.float32 and self.dtype is (self.weight_dtype or self.dtype)
        inner: Accumulator = accumulator(where.device, Factors.BFLOAT16) if is_half else Sequential()
        shape, options = self.shape, dict(self.shape.options)
        tile, parts = plan(
            shape.rows,
            shape.columns,
            shape.length,
            where.device,
            self.dtype if is_half else torch.float32,
            has_blocks=isinstance(FORMATS[self.fmt], BlockFormat),
            **options,  # type: ignore[arg-type]
        )
        if parts == 1:
            return inner
        assert isinstance(inner, Sequential | Aligned)
        return SplitK(inner=inner, parts=parts, tile=tile.block_k)

    def _weight(
        self, generator: torch.Generator, *, is_exact: bool
    ) -> tuple[tuple[Tensor, Tensor, str, Tensor | None], dict[str, object]]:
        """A random weight; its values are small integers if it is to be exact."""
        fmt = get_format(self.fmt)
        element = fmt.element if isinstance(fmt, BlockFormat) else fmt
        shape = (self.shape.columns, self.shape.length)
        least, count = (
            (element.min_code, element.num_codes) if isinstance(element, IntFormat) else (0, element.num_codes)
        )
        if isinstance(element, IntFormat):
            codes = torch.randint(max(least, -3), min(least + count, 4), shape, generator=generator)
        else:
            values = torch.randint(-2, 3, shape, generator=generator).float()
            codes = encode(values, element) if isinstance(element, FloatFormat) else values.long() % count
        if not is_exact:
            codes = torch.randint(least, least + count, shape, generator=generator)
        codes = codes.to(code_dtype(element))
        if isinstance(element, FloatFormat):
            codes = torch.where(decode(codes, element).isfinite(), codes, 0)
        if isinstance(fmt, BlockFormat):
            return self._blocks(fmt, codes, generator)
        granularity = per_group(-(-shape[1] // self.groups)) if self.groups else self.granularity
        scale = torch.randint(0, 2, granularity.scale_shape(shape), generator=generator).float().exp2()
        zero = torch.randint(-1, 2, scale.shape, generator=generator, dtype=torch.int32)
        if not is_exact:
            scale = torch.randn(scale.shape, generator=generator)
        options: dict[str, object] = {"granularity": self.granularity}
        if self.groups:
            options = {"g_idx": torch.randint(0, scale.shape[1], (shape[1],), generator=generator)}
        return (codes, scale, self.fmt, zero if isinstance(element, IntFormat) else None), options

    def _blocks(
        self, fmt: BlockFormat, codes: Tensor, generator: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor, str, None], dict[str, object]]:
        powers = torch.randint(0, 2, per_group(fmt.block_size).scale_shape(codes.shape), generator=generator).float()
        scale = encode(powers.exp2(), fmt.scale)
        options: dict[str, object] = {"tensor_scale": torch.tensor(0.5)} if fmt.has_tensor_scale else {}
        return (codes, scale, self.fmt, None), options

    def _packed(self, codes: Tensor) -> Tensor:
        return codes if self.packed is None else pack(codes, self.fmt, layout=self.packed)

    def _packing(self) -> dict[str, object]:
        return ({} if self.packed is None else {"packed": self.packed}) | {"weight_dtype": self.weight_dtype}

    def _dequantized(self, args: Sequence[object], options: dict[str, object]) -> Tensor:
        """The weight that the reference multiplies: read out by the unit matrix."""
        unit = torch.eye(self.shape.length, dtype=self.dtype)
        kind = self.weight_dtype or self.dtype
        return weight_only_matmul(unit, *args, **options, weight_dtype=kind, dtype=torch.float32).T.to(kind)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class EveryWeightCase:
    """`weight_only_matmul` of every code, alone in its product: what a kernel that multiplies reads it as."""

    fmt: str

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"weight_only_matmul/every code/{self.fmt}"

    def check(self, where: Where) -> Finding:
        """Compare with the reference."""
        finding, fmt = Finding(), get_format(self.fmt)
        assert isinstance(fmt, FloatFormat)
        codes = torch.arange(fmt.num_codes, dtype=torch.int32).to(code_dtype(fmt))
        is_finite = decode(codes, fmt).isfinite()
        # What is not finite makes NaN of all that it meets, so each has a row of its own.
        others = torch.diag(torch.where(is_finite, 0, codes))[~is_finite]
        w = torch.cat([torch.where(is_finite, codes, 0)[None], others])
        x, scale = torch.eye(fmt.num_codes, dtype=torch.bfloat16), torch.ones(())
        want = weight_only_matmul(x, w, scale, self.fmt, dtype=torch.float32)
        run = partial(weight_only_matmul.on(where.backend), dtype=torch.float32)
        got = run(x.to(where.device), w.to(where.device), scale.to(where.device), self.fmt)
        finding.add(got.cpu(), want, "each code times 1")
        return finding


@dataclass(frozen=True, kw_only=True)
class MxMatmulCase:
    """`mx_matmul`, by probes and by the bound of its accumulator, with scales over many binades."""

    shape: MatmulShape
    x_fmt: str = "mxfp8_e4m3"
    w_fmt: str = "mxfp8_e4m3"
    dtype: torch.dtype = torch.float32
    order: ScaleOrder = ScaleOrder.PRODUCT
    has_bias: bool = False
    spread: int = 20
    """How many binades scales are spread over."""
    factors: Factors = Factors.BFLOAT16

    @property
    def key(self) -> str:
        """Its name among the results."""
        how = f"{_name(self.dtype)}/{self.order.value}/{'bias' if self.has_bias else 'none'}/{self.spread}"
        units = "/blocks" if self.factors is Factors.BLOCKS else ""
        return f"mx_matmul/{self.shape}/{self.x_fmt}/{self.w_fmt}/{how}{units}"

    def check(self, where: Where) -> Finding:
        """Compare with the answers of probes, and with the bound."""
        finding, shape = Finding(), self.shape
        run = partial(_kernel(where, "mx_matmul", shape), factors=self.factors)
        formats = [FORMATS[name] for name in (self.x_fmt, self.w_fmt)]
        one = torch.tensor(1.0)
        whole = [one if isinstance(fmt, BlockFormat) and fmt.has_tensor_scale else None for fmt in formats]
        options: dict[str, object] = {
            "x_fmt": self.x_fmt,
            "w_fmt": self.w_fmt,
            "order": self.order,
            "dtype": self.dtype,
        }
        for probe in _probes(shape, bits=7):
            parts = [
                quantize_mx(values, fmt, tensor_scale=scale)
                for values, fmt, scale in zip((probe.x, probe.w), formats, whole, strict=True)
            ]
            named = options | {"x_tensor_scale": whole[0], "w_tensor_scale": whole[1]}
            args = (parts[0][0], parts[1][0], parts[0][1], parts[1][1])
            finding.add(run(*args, **named), mx_matmul(*args, **named), probe.name)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(4)
        sides = [self._side(values, fmt, generator) for values, fmt in zip(shape.draw(1), formats, strict=True)]
        bias = torch.randn(shape.columns, generator=generator) if self.has_bias else None
        whole = [scale for _, _, scale in sides]
        guards = [_poisoned(codes, where.device) for codes, _, _ in sides]
        named = options | {"x_tensor_scale": whole[0], "w_tensor_scale": whole[1], "bias": bias}
        got = run(*(inside for inside, _ in guards), *(scale for _, scale, _ in sides), **named)
        assert all(guarded(buffer, inside, _POISON) for inside, buffer in guards), (
            "the kernel wrote beside its argument"
        )
        values = [
            dequantize_mx(codes, scale, fmt, tensor_scale=None if tensor is None else one, dtype=torch.float64)
            for (codes, scale, tensor), fmt in zip(sides, formats, strict=True)
        ]
        declared = self._declared(where, formats, [scale for _, scale, _ in sides])
        sums = allowed_sums(*values, _FLOAT32, _FLOAT32, declared)
        left, right = (None if scale is None else scale.view(1, 1) for scale in whole)
        total = _scaled(sums, left, right, self.order, left is not None or right is not None)
        _judge(finding, got, _finished(total, bias, self.dtype), "random values")
        return finding

    def _side(self, values: Tensor, fmt: Format, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        assert isinstance(fmt, BlockFormat)
        parts = quantize_mx(values, fmt)
        if fmt.has_tensor_scale:
            return parts[0], parts[1], parts[2]  # type: ignore[misc]
        shift = torch.randint(-self.spread, self.spread + 1, parts[1].shape, generator=generator)
        return parts[0], (parts[1].int() + shift).clamp(0, 254).to(torch.uint8), None

    def _declared(self, where: Where, formats: Sequence[Format], scales: Sequence[Tensor]) -> Declared:
        shape = self.shape
        declared = accumulator(where.device, self.factors)
        assert isinstance(declared, Sequential | Aligned)
        powers = [
            (fmt, scale)
            for fmt, scale in zip(formats, scales, strict=True)
            if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale
        ]
        ranges = [(*folded_codes(fmt), scale) for fmt, scale in powers]
        if all(bool(((scale >= least) & (scale <= most)).all()) for least, most, scale in ranges):
            tile, parts, _ = mx_matmul_plan(shape.rows, shape.columns, shape.length, where.device)
            return SplitK(inner=declared, parts=parts, tile=tile.block_k) if parts > 1 else declared
        if isinstance(declared, Aligned):
            return Promoted(inner=declared, every=powers[0][0].block_size)
        # Whatever is added first, it is one sum of two terms after the other.
        return AnyOrder()


def _finished(total: Interval, bias: Tensor | None, dtype: torch.dtype) -> Interval:
    """Add a bias in float32, and round to the dtype of the result."""
    if bias is not None:
        total = round_interval(total, torch.float32)
    if total.low.dtype is torch.float64:
        return round_interval(total, dtype)
    return map_interval(total, lambda value: finish(value, bias, dtype))


def _bits_of(declared: Declared, x: FloatFormat, w: FloatFormat) -> int:
    """How many bits below its first an accumulator keeps, of probes that the formats hold."""
    while isinstance(declared, Promoted | SplitK):
        declared = declared.inner
    kept = min(declared.fraction_bits, declared.result_bits) if isinstance(declared, Aligned) else 23
    # The ladder splits its bits between the factors.
    return min(kept, *(2 * (fmt.emax - 1) for fmt in (x, w)))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# One shape for each tile that kernels choose by themselves, which divides none of its extents; rows of the first begin
# anywhere in memory, those of the others at multiples of 16 bytes.
_FEW = MatmulShape(rows=5, columns=72, length=200)
_SOME = MatmulShape(rows=40, columns=136, length=336)
_BETWEEN = MatmulShape(rows=100, columns=136, length=400)
_MANY = MatmulShape(rows=130, columns=264, length=272)
_WHOLE = MatmulShape(rows=128, columns=256, length=256)
_ONE = MatmulShape(rows=1, columns=128, length=256)
SHAPES = (_FEW, _SOME, _MANY, _WHOLE, _ONE)


def int8_cases() -> Iterator[DeviceCase]:
    """Cases of `int8_matmul`."""
    for shape in SHAPES:
        yield Int8MatmulCase(shape=shape)
        yield Int8MatmulCase(shape=shape, granularity=None)
        yield Int8MatmulCase(shape=shape, x_dtype=torch.uint8, has_zero_point=True)
    for shape in (_FEW, _WHOLE):
        for x_dtype in (torch.int8, torch.uint8):
            yield Int8MatmulCase(shape=shape, x_dtype=x_dtype)
            yield Int8MatmulCase(shape=shape, x_dtype=x_dtype, has_zero_point=True, has_w_zero_point=True)
        yield Int8MatmulCase(shape=shape, has_w_zero_point=True)
        yield Int8MatmulCase(shape=shape, granularity=None, x_dtype=torch.uint8, has_zero_point=True)
    for order in (ScaleOrder.PRODUCT, ScaleOrder.X_THEN_W, ScaleOrder.W_THEN_X):
        for scale_dtype in (torch.float32, torch.bfloat16, torch.float16, torch.uint8):
            yield Int8MatmulCase(shape=_ONE, order=order, scale_dtype=scale_dtype, dtype=torch.bfloat16)
    yield Int8MatmulCase(shape=_ONE, granularity=PER_TENSOR, dtype=torch.float16, has_zero_point=True)


def fp8_cases() -> Iterator[DeviceCase]:
    """Cases of `fp8_matmul`."""
    scales = {
        "none": (None, None),
        "tensor": (PER_TENSOR, PER_TENSOR),
        "row": (PER_TOKEN, PER_TOKEN),
        "block": (per_group(128), per_block((128, 128))),
        "mixed": (per_group(64), PER_TOKEN),
    }
    for shape in SHAPES:
        for x_granularity, w_granularity in scales.values():
            yield Fp8MatmulCase(shape=shape, x_granularity=x_granularity, w_granularity=w_granularity)
            yield Fp8MatmulCase(
                shape=shape,
                x_granularity=x_granularity,
                w_granularity=w_granularity,
                factors=Factors.BFLOAT16,
                dtype=torch.bfloat16,
                has_bias=True,
                order=ScaleOrder.X_THEN_W,
            )
    for x_fmt, w_fmt in (
        ("float8_e5m2", "float8_e4m3fn"),
        ("float8_e4m3fn", "float8_e5m2"),
        ("float8_e4m3fnuz", "float8_e5m2fnuz"),
        ("float8_e4m3", "float8_e4m3b11fnuz"),
        ("float8_e3m4", "float4_e2m1fn"),
    ):
        for shape in (_FEW, _MANY):
            yield Fp8MatmulCase(shape=shape, x_fmt=x_fmt, w_fmt=w_fmt, x_granularity=PER_TOKEN, w_granularity=PER_TOKEN)


def weight_only_cases() -> Iterator[DeviceCase]:
    """Cases of `weight_only_matmul`."""
    group = per_group(128)
    for shape in SHAPES:
        for dtype in (torch.bfloat16, torch.float16):
            for packed in (None, PackLayout.BYTES):
                yield WeightOnlyCase(shape=shape, fmt="uint4", granularity=group, dtype=dtype, packed=packed)
        for fmt in ("mxfp4", "mxfp8_e4m3", "nvfp4", "float8_e4m3fn", "int8"):
            granularity = PER_TENSOR if isinstance(FORMATS[fmt], BlockFormat) else PER_TOKEN
            yield WeightOnlyCase(shape=shape, fmt=fmt, granularity=granularity, has_bias=True)
    yield WeightOnlyCase(shape=_SOME, fmt="uint4", groups=4)
    yield WeightOnlyCase(shape=_FEW, fmt="int4", groups=4, packed=PackLayout.INT32)
    yield WeightOnlyCase(shape=_SOME, fmt="uint2", granularity=per_group(32), packed=PackLayout.BYTES)
    yield WeightOnlyCase(shape=_SOME, fmt="uint2", granularity=per_group(64), packed=PackLayout.INT32)
    yield WeightOnlyCase(shape=_SOME, fmt="int4", granularity=per_block((16, 24)))
    yield WeightOnlyCase(shape=_SOME, fmt="int8", granularity=PER_TOKEN, dtype=torch.float32)
    yield WeightOnlyCase(shape=_FEW, fmt="int4", granularity=group, dtype=torch.float16, weight_dtype=torch.bfloat16)
    yield WeightOnlyCase(shape=_FEW, fmt="mxint8")
    yield WeightOnlyCase(shape=_FEW, fmt="mxfp6_e2m3")
    for shape in (_SOME, _MANY):
        apart = replace(shape, options=(("apart", True),))
        yield WeightOnlyCase(shape=apart, fmt="uint4", granularity=group, packed=PackLayout.BYTES, has_bias=True)
        yield WeightOnlyCase(shape=apart, fmt="uint4", groups=4, packed=PackLayout.INT32, dtype=torch.float16)
        yield WeightOnlyCase(shape=apart, fmt="int8", granularity=PER_TOKEN)
        for fmt in ("mxfp4", "nvfp4", "float8_e4m3fn"):
            yield WeightOnlyCase(shape=apart, fmt=fmt)
    yield WeightOnlyCase(shape=_BETWEEN, fmt="uint4", granularity=group, packed=PackLayout.BYTES)
    for name, fmt in FORMATS.items():
        if isinstance(fmt, FloatFormat) and fmt.bits <= 8:
            yield EveryWeightCase(fmt=name)


def mx_cases() -> Iterator[DeviceCase]:
    """Cases of `mx_matmul`."""
    for shape in SHAPES:
        for x_fmt, w_fmt in (
            ("mxfp8_e4m3", "mxfp8_e4m3"),
            ("mxfp8_e4m3", "mxfp4"),
            ("nvfp4", "nvfp4"),
        ):
            yield MxMatmulCase(shape=shape, x_fmt=x_fmt, w_fmt=w_fmt)
    for x_fmt, w_fmt in (
        ("mxfp8_e5m2", "mxfp6_e3m2"),
        ("mxint8", "mxfp6_e2m3"),
        ("nvfp4", "mxfp8_e4m3"),
        ("mxfp4", "nvfp4"),
    ):
        yield MxMatmulCase(shape=_SOME, x_fmt=x_fmt, w_fmt=w_fmt, dtype=torch.bfloat16, has_bias=True)
    for shape in (_FEW, _SOME, _MANY):
        for x_fmt, w_fmt in (("mxfp8_e4m3", "mxfp8_e4m3"), ("mxfp4", "nvfp4")):
            yield MxMatmulCase(shape=shape, x_fmt=x_fmt, w_fmt=w_fmt, spread=140)


MATMUL_SECTIONS = {
    "int8_matmul": int8_cases,
    "fp8_matmul": fp8_cases,
    "weight_only_matmul": weight_only_cases,
    "mx_matmul": mx_cases,
}
"""Cases of every operation."""
