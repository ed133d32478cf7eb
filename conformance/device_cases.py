"""What the kernels of a backend are asked on the device that they run on, and the oracle's or the reference's answers.

Expected codes of float32 patterns are written on the device, segment by segment, from exact boundaries; so all 2**32 of
them take a fraction of a second on a GPU.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from conformance.block_classes import block_classes
from incref.backends.backend import Backend
from incref.conformance.judge import bits_of, encode_tensor
from incref.conformance.samples import ELEMENTS, all_codes, all_patterns, block_rows, code_dtype, random_patterns
from incref.errors import NanError
from incref.formats import (
    FORMATS,
    BlockFormat,
    BlockRule,
    CodebookFormat,
    ElementFormat,
    FloatFormat,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_channel, per_group
from incref.ops import (
    compute_scale,
    decode,
    dequantize_affine,
    dequantize_float,
    dequantize_mx,
    encode,
    quantize_affine,
    quantize_float,
    quantize_mx,
)
from incref.ops.encode import get_element_format
from incref.oracle.scale_segments import scale_segments
from incref.oracle.segments import Segment, encode_segments

__all__ = [
    "SECTIONS",
    "BlocksCase",
    "ComputedCase",
    "DecodeCase",
    "DeviceCase",
    "Finding",
    "NarrowCase",
    "ScaleCase",
    "ScaledCase",
    "SweepCase",
]

_HALF = 1 << 31
_WORD = 8
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True)
class Where:
    """How a case is run.

    Attributes:
        backend: whose kernels are asked.
        device: where tensors are.
        chunk: float32 patterns that are compared at once.
        stride: 1 to compare all chunks, n for every n-th.
        scale: share of the usual number of blocks of every class.
    """

    backend: Backend
    device: torch.device
    chunk: int
    stride: int = 1
    scale: float = 1.0


@dataclass(kw_only=True)
class Finding:
    """What a comparison found: how many results there were, how many were wrong, and the first of those in words."""

    checked: int = 0
    mismatches: int = 0
    first: str | None = None

    def add(self, got: Tensor, want: Tensor, what: str) -> None:
        """Compare two tensors bit for bit, a NaN for a NaN."""
        self.checked += want.numel()
        assert got.dtype is want.dtype, f"{what}: got {got.dtype}, want {want.dtype}"
        assert got.shape == want.shape, f"{what}: got {tuple(got.shape)}, want {tuple(want.shape)}"
        if torch.equal(_words(got), _words(want)):
            return
        differs = bits_of(got) != bits_of(want)
        if got.is_floating_point():
            differs &= ~(got.isnan() & want.isnan())
        count = int(differs.sum())
        self.mismatches += count
        if count and self.first is None:
            at = tuple(differs.nonzero()[0].tolist())
            self.first = f"{what}: at {at} got {got[at].item()}, want {want[at].item()}"


class DeviceCase(Protocol):
    """One operation under one combination of options."""

    @property
    def key(self) -> str:
        """Its name among the results."""

    def check(self, where: Where) -> Finding:
        """Compare the kernel with the right answers."""


def _float32() -> FloatFormat:
    fmt = FORMATS["float32"]
    assert isinstance(fmt, FloatFormat)
    return fmt


def _words(x: Tensor) -> Tensor:
    """The bits of a tensor, eight bytes at a time where they are whole words: so they are compared faster."""
    bits = bits_of(x)
    start = bits.storage_offset() * bits.itemsize
    is_whole = bits.is_contiguous() and start % _WORD == 0 and bits.nbytes % _WORD == 0
    return bits.view(-1).view(torch.int64) if is_whole else bits


def _float32_from(first: int, where: Where) -> Iterator[tuple[int, Tensor]]:
    """List the float32 values of one sign, of which `first` is the least pattern, a chunk at a time.

    Yields:
        The first pattern of the chunk, and its values. The next chunk takes the same memory.
    """
    start = first - (1 << 32) if first >= _HALF else first
    patterns = torch.arange(start, start + where.chunk, dtype=torch.int32, device=where.device)
    step = where.chunk * where.stride
    for at in range(first, first + _HALF, step):
        yield at, patterns.view(torch.float32)
        if at + step < first + _HALF:
            patterns += step


def _expected(segments: Sequence[Segment], first: int, out: Tensor) -> Tensor:
    """Fill `out` with the codes of the patterns that start at `first`."""
    at = bisect_right(segments, first, key=lambda segment: segment.first) - 1
    start, count = 0, out.numel()
    while start < count:
        code = segments[at].code
        assert code is not None
        stop = min(segments[at + 1].first - first, count) if at + 1 < len(segments) else count
        out[start:stop].fill_(code)
        start, at = stop, at + 1
    return out


def _stretches(segments: Sequence[Segment], first: int, count: int) -> Iterator[tuple[int, int, bool]]:
    """Divide `count` patterns from `first` on into those that have a code and those that have none: from, to, has."""
    at = bisect_right(segments, first, key=lambda segment: segment.first) - 1
    start = stop = 0
    while stop < count:
        has_code = segments[at].code is not None
        while stop < count and at < len(segments) and (segments[at].code is not None) is has_code:
            at += 1
            stop = min(segments[at].first - first, count) if at < len(segments) else count
        yield start, stop, has_code
        start = stop


@dataclass(frozen=True, kw_only=True)
class SweepCase:
    """`encode` of every float32 pattern."""

    fmt: ElementFormat
    rounding: Rounding = Rounding.NEAREST_EVEN
    overflow: Overflow = Overflow.SATURATE
    nan: NanRule = NanRule.MAX
    int_range: IntRange = IntRange.FULL

    @property
    def key(self) -> str:
        """Its name among the results."""
        usual = f"{self.fmt.name}/{self.rounding.value}/{self.overflow.value}"
        if self.nan is NanRule.MAX and self.int_range is IntRange.FULL:
            return f"sweep/{usual}"
        return f"options/{usual}/{self.nan.value}/{self.int_range.value}"

    def check(self, where: Where) -> Finding:
        """Compare with the oracle's segments."""
        finding = Finding()
        want = torch.empty(where.chunk, dtype=code_dtype(self.fmt), device=where.device)
        for is_negative in (False, True):
            segments = encode_segments(
                _float32(),
                self.fmt,
                is_negative=is_negative,
                rounding=self.rounding,
                overflow=self.overflow,
                nan=self.nan,
                int_range=self.int_range,
            )
            for first, x in _float32_from(_HALF if is_negative else 0, where):
                for start, stop, has_code in _stretches(segments, first, where.chunk):
                    what = f"patterns from {first + start:#010x}"
                    if has_code:
                        right = _expected(segments, first + start, want[start:stop])
                        finding.add(self._run(x[start:stop], where), right, what)
                    else:
                        self._expect_refusal(finding, x[start:stop], where, what)
        return finding

    def _run(self, x: Tensor, where: Where) -> Tensor:
        run = encode.on(where.backend)
        options = {"rounding": self.rounding, "overflow": self.overflow, "nan": self.nan, "int_range": self.int_range}
        return run(x, self.fmt, **options)  # type: ignore[arg-type]

    def _expect_refusal(self, finding: Finding, x: Tensor, where: Where, what: str) -> None:
        """Expect an error for all patterns at once, and for the first and the last one alone."""
        for part in (x, x[:1], x[-1:]):
            finding.checked += 1
            try:
                self._run(part, where)
            except NanError:
                continue
            finding.mismatches += 1
            finding.first = finding.first or f"{what}: got codes, want NanError"


@dataclass(frozen=True, kw_only=True)
class NarrowCase:
    """`encode` of every pattern of 16 bits, under every rounding and overflow."""

    fmt: ElementFormat
    dtype: torch.dtype
    rounding: Rounding
    overflow: Overflow

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"narrow/{self.fmt.name}/{_name(self.dtype)}/{self.rounding.value}/{self.overflow.value}"

    def check(self, where: Where) -> Finding:
        """Compare with the oracle's segments; for stochastic rounding with the reference, under random bits."""
        finding = Finding()
        x = all_patterns(self.dtype)
        options = {"rounding": self.rounding, "overflow": self.overflow, "nan": NanRule.MAX}
        random = None
        if self.rounding is Rounding.STOCHASTIC:
            random = random_patterns(x.numel(), torch.bfloat16).view(torch.int16)
            want = encode(x, self.fmt, random_bits=random, **options)  # type: ignore[arg-type]
            random = random.to(where.device)
        else:
            want = encode_tensor(x, self.fmt, **options).to(code_dtype(self.fmt))  # type: ignore[arg-type]
        got = encode.on(where.backend)(x.to(where.device), self.fmt, random_bits=random, **options)  # type: ignore[arg-type]
        finding.add(got.cpu(), want, "patterns in the order of signed integers")
        return finding


@dataclass(frozen=True, kw_only=True)
class DecodeCase:
    """`decode` of every code."""

    fmt: ElementFormat
    dtype: torch.dtype

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"decode/{self.fmt.name}/{_name(self.dtype)}"

    def check(self, where: Where) -> Finding:
        """Compare with the reference."""
        finding = Finding()
        codes = all_codes(self.fmt)
        got = decode.on(where.backend)(codes.to(where.device), self.fmt, dtype=self.dtype)
        finding.add(got.cpu(), decode(codes, self.fmt, dtype=self.dtype), "codes in ascending order")
        return finding


@dataclass(frozen=True, kw_only=True)
class BlocksCase:
    """`quantize_mx` and `dequantize_mx` of blocks of every class, along both axes of a matrix."""

    fmt: BlockFormat
    rule: ScaleRule | None = None
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE
    dtype: torch.dtype = torch.float32
    special: BlockRule = BlockRule.NAN_BLOCK

    @property
    def key(self) -> str:
        """Its name among the results."""
        how = (self.rule or self.arithmetic).value
        return f"blocks/{self.fmt.name}/{how}/{_name(self.dtype)}/{self.special.value}"

    def check(self, where: Where) -> Finding:
        """Compare with the reference."""
        finding = Finding()
        for name, blocks in block_classes(self.fmt, scale=where.scale).items():
            x = blocks.to(self.dtype)
            want = self._quantize(x, where, axis=-1, is_reference=True)
            values = self._dequantize(want, where, axis=-1, is_reference=True)
            for axis in (-1, 0):
                turned = x if axis == -1 else x.T.contiguous()
                got = self._quantize(turned.to(where.device), where, axis=axis)
                for part, right, title in zip(got, want, ("codes", "scale", "tensor_scale"), strict=False):
                    back = part.cpu() if axis == -1 or part.ndim == 0 else part.cpu().T.contiguous()
                    finding.add(back, right, f"{title} of {name}, axis {axis}")
                back = self._dequantize(got, where, axis=axis).cpu()
                finding.add(back if axis == -1 else back.T.contiguous(), values, f"values of {name}, axis {axis}")
        return finding

    def _quantize(self, x: Tensor, where: Where, *, axis: int, is_reference: bool = False) -> tuple[Tensor, ...]:
        run = quantize_mx if is_reference else quantize_mx.on(where.backend)
        return run(
            x,
            self.fmt,
            axis=axis,
            rule=self.rule,
            arithmetic=self.arithmetic,
            nan_block=self.special,
            inf_block=self.special,
            nan=NanRule.MAX,
        )

    def _dequantize(self, parts: Sequence[Tensor], where: Where, *, axis: int, is_reference: bool = False) -> Tensor:
        run = dequantize_mx if is_reference else dequantize_mx.on(where.backend)
        whole = parts[2] if self.fmt.has_tensor_scale else None
        return run(parts[0], parts[1], self.fmt, axis=axis, tensor_scale=whole, dtype=self.dtype)


@dataclass(frozen=True, kw_only=True)
class ScaleCase:
    """The scale that `quantize_mx` gives a block of one element, for every float32 magnitude."""

    fmt: BlockFormat
    rule: ScaleRule

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"scales/{self.fmt.name}/{self.rule.value}"

    def check(self, where: Where) -> Finding:
        """Compare with the oracle's segments."""
        finding = Finding()
        run = quantize_mx.on(where.backend)
        segments = scale_segments(_float32(), self.fmt.element, self.rule)
        want = torch.empty(where.chunk, dtype=torch.uint8, device=where.device)
        for first, x in _float32_from(0, where):
            # Blocks along an axis of one element hold one element each.
            got = run(x.view(1, -1), self.fmt, axis=0, rule=self.rule)[1].view(-1)
            finding.add(got, _expected(segments, first, want), f"amax from {first:#010x}")
        return finding


@dataclass(frozen=True, kw_only=True)
class ComputedCase:
    """`compute_scale` of rows of one element, every pattern of a dtype."""

    fmt: ElementFormat
    rule: ScaleRule
    dtype: torch.dtype = torch.float32

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"computed/{self.fmt.name}/{self.rule.value}/{_name(self.dtype)}"

    def check(self, where: Where) -> Finding:
        """Compare powers of two for float32 with the oracle's segments, what else there is with the reference."""
        finding = Finding()
        if self.dtype is not torch.float32:
            x = all_patterns(self.dtype)
            finding.add(self._scale(x.to(where.device), where).cpu(), self._scale(x, None), "patterns in order")
            return finding
        segments = scale_segments(_float32(), self.fmt, self.rule) if self.rule.is_power_of_two else None
        room = torch.empty(where.chunk, dtype=torch.uint8, device=where.device)
        for sign in (0, _HALF):
            for first, x in _float32_from(sign, where):
                want = self._scale(x, None) if segments is None else _expected(segments, first - sign, room)
                finding.add(self._scale(x, where), want, f"patterns from {first:#010x}")
        return finding

    def _scale(self, x: Tensor, where: Where | None) -> Tensor:
        run = compute_scale if where is None else compute_scale.on(where.backend)
        scale = run(x.view(-1, 1), self.fmt, PER_TOKEN, rule=self.rule)
        assert isinstance(scale, Tensor)
        return scale.view(-1)


@dataclass(frozen=True, kw_only=True)
class ScaledCase:
    """Quantization by scales of one granularity, found or given, and back."""

    fmt: ElementFormat
    granularity: Granularity
    dtype: torch.dtype = torch.float32
    rule: ScaleRule = ScaleRule.DIVIDE
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE
    symmetric: bool = True

    @property
    def key(self) -> str:
        """Its name among the results."""
        blocks = ",".join(map(str, self.granularity.block)) or ("tensor" if self.granularity.lead == -1 else "each")
        how = f"{self.rule.value}/{self.arithmetic.value}/{'symmetric' if self.symmetric else 'asymmetric'}"
        return f"scaled/{self.fmt.name}/{blocks}/{_name(self.dtype)}/{how}"

    def check(self, where: Where) -> Finding:
        """Compare with the reference."""
        finding = Finding()
        wide = (random_patterns(256 * 384, torch.float32).view(256, 384), block_rows(torch.float32, 384))
        noise = torch.randn(384, 512, generator=torch.Generator().manual_seed(0))
        for name, x in (("patterns", wide[0]), ("rows", wide[1]), ("noise", noise)):
            self._compare(finding, name, x.to(self.dtype), where)
        return finding

    def _compare(self, finding: Finding, name: str, x: Tensor, where: Where) -> None:
        options = {"granularity": self.granularity, "arithmetic": self.arithmetic, "nan": NanRule.ZERO}
        on_device = x.to(where.device)
        if isinstance(self.fmt, IntFormat):
            options |= {"rule": self.rule, "symmetric": self.symmetric}
            want = quantize_affine(x, self.fmt, **options)  # type: ignore[arg-type]
            got = quantize_affine.on(where.backend)(on_device, self.fmt, **options)  # type: ignore[arg-type]
            back = dequantize_affine(*want, granularity=self.granularity, dtype=self.dtype)
            found = dequantize_affine.on(where.backend)(*got, granularity=self.granularity, dtype=self.dtype)
        else:
            options |= {"rule": self.rule}
            want = quantize_float(x, self.fmt, **options)  # type: ignore[arg-type]
            got = quantize_float.on(where.backend)(on_device, self.fmt, **options)  # type: ignore[arg-type]
            back = dequantize_float(*want, self.fmt, granularity=self.granularity, dtype=self.dtype)
            run = dequantize_float.on(where.backend)
            found = run(*got, self.fmt, granularity=self.granularity, dtype=self.dtype)
        for part, right, title in zip(got, want, ("codes", "scale", "zero_point"), strict=False):
            finding.add(part.cpu(), right, f"{title} of {name}")
        finding.add(found.cpu(), back, f"values of {name}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _formats() -> list[ElementFormat]:
    """Formats of at most 8 bits whose codes can be computed: those that a standard or a vendor names come first."""
    narrow = [fmt for fmt in ELEMENTS if fmt.bits <= 8 and not isinstance(fmt, CodebookFormat)]
    return sorted(narrow, key=lambda fmt: (fmt.is_experimental, not isinstance(fmt, FloatFormat)))


def _lacks_nan(fmt: ElementFormat) -> bool:
    return not isinstance(fmt, FloatFormat) or fmt.nan_code is None


def _block_formats() -> list[BlockFormat]:
    return [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat)]


def _sweeps() -> Iterator[DeviceCase]:
    roundings = [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC]
    for is_experimental in (False, True):
        for rounding, fmt in product(roundings, _formats()):
            if fmt.is_experimental is is_experimental:
                for overflow in Overflow:
                    yield SweepCase(fmt=fmt, rounding=rounding, overflow=overflow)


def _options() -> Iterator[DeviceCase]:
    for rounding in Rounding:
        for overflow in Overflow:
            for fmt in _formats() if rounding is not Rounding.STOCHASTIC else ():
                for int_range in IntRange if isinstance(fmt, IntFormat) and fmt.is_signed else (IntRange.FULL,):
                    for nan in NanRule if _lacks_nan(fmt) else (NanRule.MAX,):
                        case = SweepCase(fmt=fmt, rounding=rounding, overflow=overflow, nan=nan, int_range=int_range)
                        if not case.key.startswith("sweep/"):
                            yield case


def _narrows() -> Iterator[DeviceCase]:
    for fmt in _formats():
        for dtype in (torch.bfloat16, torch.float16):
            for rounding in Rounding:
                for overflow in Overflow:
                    yield NarrowCase(fmt=fmt, dtype=dtype, rounding=rounding, overflow=overflow)


def _decodes() -> Iterator[DeviceCase]:
    for fmt in _formats():
        for dtype in _DTYPES:
            try:
                decode(all_codes(fmt)[:1], fmt, dtype=dtype)
            except ValueError:
                # That dtype does not hold every value.
                continue
            yield DecodeCase(fmt=fmt, dtype=dtype)


def _blocks() -> Iterator[DeviceCase]:
    rules = [rule for rule in ScaleRule if rule.is_power_of_two]
    for dtype in _DTYPES:
        for special in BlockRule:
            for fmt in _block_formats():
                if fmt.has_tensor_scale:
                    for arithmetic in ScaleArithmetic:
                        yield BlocksCase(fmt=fmt, arithmetic=arithmetic, dtype=dtype, special=special)
                else:
                    for rule in rules:
                        yield BlocksCase(fmt=fmt, rule=rule, dtype=dtype, special=special)


def _scales() -> Iterator[DeviceCase]:
    for fmt in _block_formats():
        for rule in ScaleRule:
            if rule.is_power_of_two and not fmt.has_tensor_scale:
                yield ScaleCase(fmt=fmt, rule=rule)


def _computed() -> Iterator[DeviceCase]:
    elements = {fmt.element.name: fmt.element for fmt in _block_formats() if not fmt.has_tensor_scale}
    named = [fmt for fmt in _formats() if fmt.is_signed and not fmt.is_experimental]
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for rule in sorted(ScaleRule, key=lambda rule: not rule.is_power_of_two):
            for fmt in elements.values() if rule.is_power_of_two else named:
                yield ComputedCase(fmt=fmt, rule=rule, dtype=dtype)


def _scaled() -> Iterator[DeviceCase]:
    granularities = (PER_TENSOR, PER_TOKEN, per_group(128), per_block((128, 128)), per_channel(-1))
    formats = [get_element_format(name) for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float4_e2m1fn", "int8")]
    for dtype in _DTYPES:
        for granularity in granularities:
            for arithmetic in ScaleArithmetic:
                for rule in (ScaleRule.DIVIDE, ScaleRule.RECIPROCAL, ScaleRule.FLOOR):
                    for fmt in formats:
                        yield ScaledCase(
                            fmt=fmt, granularity=granularity, dtype=dtype, rule=rule, arithmetic=arithmetic
                        )
                yield ScaledCase(
                    fmt=get_element_format("uint4"),
                    granularity=granularity,
                    dtype=dtype,
                    arithmetic=arithmetic,
                    symmetric=False,
                )


SECTIONS = {
    "sweep": _sweeps,
    "scales": _scales,
    "blocks": _blocks,
    "scaled": _scaled,
    "options": _options,
    "computed": _computed,
    "decode": _decodes,
    "narrow": _narrows,
}
"""Cases of every kind, the most telling ones first."""
