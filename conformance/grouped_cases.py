"""Products for mixtures of experts: many weights in one launch, each for the rows of its expert.

What an expert gives has to be the product of its rows and its weight: bit for bit on values whose sums are exact in any
order, with the NaN of an expert where it belongs; and elsewhere what the kernel gives for the expert alone, or, of
`mx_matmul`, which then adds in another order, what the bound allows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from conformance.device_cases import DeviceCase, Finding, Where
from incref.backends.declared import AnyOrder
from incref.conformance.allowed import allowed_sums, count_outside, round_interval
from incref.conformance.probes import guarded, surround
from incref.formats import FORMATS, BlockFormat, NanRule, get_format
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_group
from incref.numerics.patterns import float_format_of
from incref.ops import OPS, dequantize_mx, encode, pack, quantize_affine, quantize_float, quantize_mx
from incref.ops.grouped import grouped
from incref_kernels.triton.matmul_tiles import MatmulTile
from incref_kernels.triton.targets import Factors

__all__ = ["GROUPED_SECTIONS", "GroupedCase"]

_POISON = 0xFF
_SMALL = 3
_OF_EXPERT = ("w", "w_scale", "scale", "zero_point", "tensor_scale", "w_tensor_scale", "bias")


@dataclass(frozen=True, kw_only=True)
class GroupedCase:
    """A product in groups of rows.

    Attributes:
        op: name of the operation.
        fmt: of the weight, and of `x` where that is quantized.
        ends: where each expert's rows end.
        rows: how many there are; those beyond the last end are no expert's.
        columns: N.
        length: K.
        x_granularity: of the scales of `x`; None for blocks' own, or floats.
        granularity: of those of a weight.
        packed: how its codes are.
        options: of the kernel beyond those of the operation.
    """

    op: str
    fmt: str
    ends: tuple[int, ...]
    rows: int
    columns: int = 72
    length: int = 200
    x_granularity: Granularity | None = None
    granularity: Granularity = PER_TENSOR
    packed: PackLayout | None = None
    options: tuple[tuple[str, object], ...] = ()

    @property
    def key(self) -> str:
        """Its name among the results."""
        how = f"{self.x_granularity}/{self.granularity}/{'bytes' if self.packed is None else self.packed.value}"
        named = "/".join(f"{name}={_text(value)}" for name, value in self.options)
        ends = "-".join(map(str, self.ends))
        return (
            f"grouped/{self.op}/{self.fmt}/{self.rows}x{self.columns}x{self.length}/{ends}/{how}/{named or 'default'}"
        )

    def check(self, where: Where) -> Finding:
        """Compare with the reference on probes, and with each expert alone on other values."""
        finding = Finding()
        generator = torch.Generator().manual_seed(6)
        for is_poisoned in (False, True):
            given = self._drawn(generator, is_small=True)
            if is_poisoned:
                self._poison(given)
            want = grouped(OPS[self.op], self._ends, **given)  # type: ignore[arg-type]
            name = "an expert with NaN" if is_poisoned else "small integers"
            finding.add(self._run(where, given), want, name)
        given = self._drawn(generator, is_small=False)
        got = self._run(where, given)
        for expert, (first, last) in enumerate(pairwise((0, *self.ends))):
            if first < last:
                alone = {name: self._alone(name, value, expert, slice(first, last)) for name, value in given.items()}
                self._compare(finding, where, got[first:last], alone, f"expert {expert}")
        rest = got[self.ends[-1] :]
        finding.add(rest, torch.zeros_like(rest), "rows of no expert")
        return finding

    @property
    def _ends(self) -> Tensor:
        return torch.tensor(self.ends, dtype=torch.int32)

    def _compare(self, finding: Finding, where: Where, got: Tensor, alone: Mapping[str, object], what: str) -> None:
        """Compare the rows of an expert with its product alone, or with the bound."""
        if self.op != "mx_matmul" or ("factors", Factors.BLOCKS) in self.options:
            finding.add(got, self._run(where, alone, is_grouped=False), what)
            return
        one = torch.tensor(1.0)
        values = [
            dequantize_mx(
                alone[side],  # type: ignore[arg-type]
                alone[f"{side}_scale"],  # type: ignore[arg-type]
                self.fmt,
                tensor_scale=one if f"{side}_tensor_scale" in alone else None,
                dtype=torch.float64,
            )
            for side in ("x", "w")
        ]
        single = float_format_of(torch.float32)
        allowed = round_interval(allowed_sums(*values, single, single, AnyOrder()), torch.float32)
        outside = count_outside(got, allowed)
        finding.checked += got.numel()
        finding.mismatches += int(outside)
        if outside and finding.first is None:
            finding.first = f"{what}: {int(outside)} sums are beyond the bound"

    def _run(self, where: Where, given: Mapping[str, object], *, is_grouped: bool = True) -> Tensor:
        """Run the kernel on the device of a backend, with poison around codes."""
        kernel, named = where.backend.kernels[self.op], dict(self.options)
        moved = {name: value.to(where.device) if isinstance(value, Tensor) else value for name, value in given.items()}
        guards = {}
        for name in ("x", "w"):
            one = moved[name]
            assert isinstance(one, Tensor)
            if name == "w" and self.packed is not None:
                one = _packed(one, self.fmt, self.packed)
                named["packed"] = self.packed
            if not one.is_floating_point() and one.itemsize == 1:
                one, guards[name] = surround(one, _POISON)
            moved[name] = one
        if is_grouped:
            named["ends"] = self._ends.to(where.device)
        elif self.op == "weight_only_matmul":
            named["parts"] = 1
        call = moved | named
        positional = [call.pop(name) for name in _POSITIONAL[self.op] if name in call]
        reason = kernel.why_not(*positional, **call)
        if reason is not None:
            raise ValueError(f"{self.op} declines: {reason}")
        out = kernel.fn(*positional, **call)
        assert isinstance(out, Tensor)
        for name, buffer in guards.items():
            inside = moved[name]
            assert isinstance(inside, Tensor)
            assert guarded(buffer, inside, _POISON), "the kernel wrote beside its argument"
        return out.cpu()

    def _drawn(self, generator: torch.Generator, *, is_small: bool) -> dict[str, object]:
        """Draw arguments; small ones are integers and powers of two, whose sums are exact in any order."""
        shapes = ((self.rows, self.length), (len(self.ends), self.columns, self.length))
        draw = _integers if is_small else _normal
        x, w = (draw(shape, generator) for shape in shapes)
        bias = _integers((len(self.ends), self.columns), generator)
        has_bias = is_small or self.op != "mx_matmul"
        return _ARGUMENTS[self.op](self, x, w, is_small) | ({"bias": bias} if has_bias else {})

    def _poison(self, given: dict[str, object]) -> None:
        """Give the last expert that has rows a bias of NaN."""
        bias = given["bias"]
        assert isinstance(bias, Tensor)
        busy = [e for e, (first, last) in enumerate(pairwise((0, *self.ends))) if first < last]
        bias[busy[-1:]] = torch.nan

    def _alone(self, name: str, value: object, expert: int, rows: slice) -> object:
        if isinstance(value, Tensor) and name in _OF_EXPERT:
            return value[expert]
        return value[rows] if isinstance(value, Tensor) and name in ("x", "x_scale") and value.ndim else value


def _text(value: object) -> str:
    if isinstance(value, MatmulTile):
        return f"{value.block_m}x{value.block_n}x{value.block_k}{'t' if value.is_transposed else ''}"
    return value.value if isinstance(value, Factors) else str(value)


def _integers(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(-_SMALL, _SMALL + 1, shape, generator=generator).float()


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _packed(codes: Tensor, fmt: str, layout: PackLayout) -> Tensor:
    return torch.stack([pack(one, fmt, layout=layout) for one in codes])


def _of_fp8(case: GroupedCase, x: Tensor, w: Tensor, is_small: bool) -> dict[str, object]:  # noqa: FBT001
    named = {"x_fmt": case.fmt, "w_fmt": case.fmt, "w_granularity": case.granularity}
    assert case.x_granularity is not None
    named["x_granularity"] = case.x_granularity
    if is_small:
        scales = [
            _powers(case.x_granularity.scale_shape(x.shape)),
            _powers((w.shape[0], *case.granularity.scale_shape(w[0].shape))),
        ]
        return {"x": encode(x, case.fmt), "w": encode(w, case.fmt), "x_scale": scales[0], "w_scale": scales[1]} | named
    codes, scale = quantize_float(x, case.fmt, granularity=case.x_granularity)
    parts = [quantize_float(one, case.fmt, granularity=case.granularity) for one in w]
    weight, w_scale = (torch.stack(each) for each in zip(*parts, strict=True))
    return {"x": codes, "w": weight, "x_scale": scale, "w_scale": w_scale} | named


def _of_weight(case: GroupedCase, x: Tensor, w: Tensor, is_small: bool) -> dict[str, object]:  # noqa: FBT001
    given: dict[str, object] = {"x": x.to(torch.bfloat16), "fmt": case.fmt}
    kind = FORMATS[case.fmt]
    if isinstance(kind, BlockFormat):
        whole = torch.ones(()) if is_small else None
        parts = [quantize_mx(one, kind, tensor_scale=whole if kind.has_tensor_scale else None) for one in w]
        given |= {"w": torch.stack([one[0] for one in parts]), "scale": torch.stack([one[1] for one in parts])}
        if kind.has_tensor_scale:
            factors = [one[2] for one in parts]  # type: ignore[misc]
            given["tensor_scale"] = _powers((w.shape[0],)) if is_small else torch.stack(factors)
        return given
    given["granularity"] = case.granularity
    if is_small:
        shape = (w.shape[0], *case.granularity.scale_shape(w[0].shape))
        codes = (w + _SMALL).to(torch.uint8) if case.fmt == "uint4" else encode(w, case.fmt, nan=NanRule.ZERO)
        zeros = torch.full(shape, _SMALL, dtype=torch.int32) if case.fmt == "uint4" else None
        return given | {"w": codes, "scale": _powers(shape), "zero_point": zeros}
    parts = [
        quantize_affine(one, case.fmt, granularity=case.granularity, symmetric=case.fmt != "uint4", nan=NanRule.ZERO)
        for one in w
    ]
    stacked = [torch.stack(each) for each in zip(*parts, strict=True)]
    return given | {"w": stacked[0], "scale": stacked[1], "zero_point": stacked[2] if case.fmt == "uint4" else None}


def _of_blocks(case: GroupedCase, x: Tensor, w: Tensor, is_small: bool) -> dict[str, object]:  # noqa: FBT001
    kind = get_format(case.fmt)
    assert isinstance(kind, BlockFormat)
    one = torch.ones(()) if kind.has_tensor_scale else None
    left, right = quantize_mx(x, kind, tensor_scale=one), quantize_mx(w, kind, tensor_scale=one)
    given: dict[str, object] = {"x": left[0], "w": right[0], "x_scale": left[1], "w_scale": right[1]}
    if one is not None:
        factors = _powers((w.shape[0],)) if is_small else torch.ones(w.shape[0])
        given |= {"x_tensor_scale": one, "w_tensor_scale": factors}
    return given | {"x_fmt": case.fmt, "w_fmt": case.fmt}


def _powers(shape: tuple[int, ...]) -> Tensor:
    """Give 1, 2, 4, 1, ...: factors that leave sums exact."""
    count = torch.Size(shape).numel()
    return (torch.arange(count) % 3).float().exp2().view(shape)


_Arguments = Callable[[GroupedCase, Tensor, Tensor, bool], dict[str, object]]
_ARGUMENTS: Mapping[str, _Arguments] = {
    "fp8_matmul": _of_fp8,
    "weight_only_matmul": _of_weight,
    "mx_matmul": _of_blocks,
}
_POSITIONAL: Mapping[str, tuple[str, ...]] = {
    "fp8_matmul": ("x", "w", "x_scale", "w_scale"),
    "weight_only_matmul": ("x", "w", "scale", "fmt", "zero_point"),
    "mx_matmul": ("x", "w", "x_scale", "w_scale"),
}

# Empty experts at both ends and in between, one row, more than a tile, and rows that are no expert's.
_FEW = (0, 3, 3, 20, 21, 47, 47)
# Fewer rows than experts: as many programs as rows are launched, and none is to spare.
_SPARSE = (0, 0, 1, 1, 1, 3, 3, 3)
_MANY = (130, 130, 131, 330, 400)


def grouped_cases() -> Iterator[DeviceCase]:
    """Cases of grouped products."""
    for ends, rows in ((_FEW, 50), (_SPARSE, 3), (_MANY, 400)):
        fp8 = GroupedCase(op="fp8_matmul", fmt="float8_e4m3fn", ends=ends, rows=rows)
        for factors in (Factors.CODES, Factors.BFLOAT16):
            for left, right in (
                (PER_TOKEN, PER_TOKEN),
                (PER_TENSOR, PER_TENSOR),
                (per_group(128), per_block((128, 128))),
            ):
                yield replace(fp8, x_granularity=left, granularity=right, options=(("factors", factors),))
        weight = GroupedCase(op="weight_only_matmul", fmt="uint4", ends=ends, rows=rows, granularity=per_group(128))
        yield replace(weight, packed=PackLayout.INT32)
        yield replace(weight, packed=PackLayout.BYTES, granularity=per_group(32), length=192)
        yield replace(weight, fmt="int8", granularity=PER_TOKEN)
        for fmt in ("mxfp4", "nvfp4"):
            yield replace(weight, fmt=fmt, granularity=PER_TENSOR)
        for fmt in ("mxfp8_e4m3", "mxfp4", "nvfp4"):
            yield GroupedCase(op="mx_matmul", fmt=fmt, ends=ends, rows=rows)


GROUPED_SECTIONS = {"grouped": grouped_cases}
"""Cases of products for mixtures of experts."""
