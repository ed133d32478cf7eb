"""Does the reference give the same bits on another device? `python -m conformance.devices cuda`."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Annotated

import torch
import typer
from torch import Tensor

from conformance.record import Json, environment, source_hash, store
from incref import ops
from incref.formats import (
    FORMATS,
    BlockFormat,
    CodebookFormat,
    FloatFormat,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
)
from incref.formats.layouts import PackLayout
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, Granularity, per_block, per_group

__all__ = ["differences", "main"]

Call = Callable[[Tensor], object]

_GRANULARITIES: dict[str, Granularity] = {
    "tensor": PER_TENSOR,
    "token": PER_TOKEN,
    "group 32": per_group(32),
    "block 16 x 128": per_block((16, 128)),
}


def _patterns() -> Tensor:
    """Every bfloat16 there is, as float32, and random float32 patterns; [512, 300]."""
    generator = torch.Generator().manual_seed(0)
    every = torch.arange(1 << 16, dtype=torch.int32) << 16
    drawn = torch.randint(-(1 << 31), (1 << 31) - 1, (512 * 300 - len(every),), generator=generator, dtype=torch.int64)
    return torch.cat([every, drawn.to(torch.int32)]).view(torch.float32).view(512, 300)


def _values() -> Tensor:
    """Finite values of many magnitudes, with rows of zeros and subnormals; [512, 300]."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, 300, generator=generator)
    x *= torch.randint(-140, 100, (512, 1), generator=generator).to(torch.float32).exp2()
    x[3], x[4] = 0.0, -0.0
    return x


def _calls() -> Iterator[tuple[str, Tensor, Call]]:
    yield from _element_calls(_patterns())
    yield from _block_calls(_patterns())
    yield from _scaled_calls(_values())
    nibbles = torch.randint(0, 16, (64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    for layout in (PackLayout.BYTES, PackLayout.DENSE, PackLayout.INT32):
        yield f"pack {layout.value}", nibbles, lambda c, p=layout: ops.pack(c, "uint4", layout=p)


def _element_calls(x: Tensor) -> Iterator[tuple[str, Tensor, Call]]:
    elements = [fmt for fmt in FORMATS.values() if not isinstance(fmt, BlockFormat) and fmt.bits <= 8]
    roundings = [rounding for rounding in Rounding if rounding is not Rounding.STOCHASTIC]
    for fmt, rounding, overflow in product(elements, roundings, Overflow):
        yield f"encode {fmt.name} {rounding.value} {overflow.value}", x, _encode(fmt.name, rounding, overflow)
    for fmt in elements:
        if isinstance(fmt, FloatFormat | CodebookFormat):
            codes = torch.arange(fmt.num_codes, dtype=torch.int16).to(torch.uint8)
            yield f"decode {fmt.name}", codes, lambda c, f=fmt.name: ops.decode(c, f)


def _block_calls(x: Tensor) -> Iterator[tuple[str, Tensor, Call]]:
    for fmt in FORMATS.values():
        if isinstance(fmt, BlockFormat):
            rules = [None] if fmt.has_tensor_scale else [rule for rule in ScaleRule if rule.is_power_of_two]
            for rule, axis in product(rules, (-1, 0)):
                name = f"quantize_mx {fmt.name} {rule and rule.value} axis {axis}"
                yield name, x, _quantize_mx(fmt.name, rule, axis)


def _scaled_calls(x: Tensor) -> Iterator[tuple[str, Tensor, Call]]:
    for (name, granularity), arithmetic in product(_GRANULARITIES.items(), ScaleArithmetic):
        for fmt in ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "nf4"):
            yield f"quantize_float {fmt} {name} {arithmetic.value}", x, _float(fmt, granularity, arithmetic)
        for fmt in ("int8", "uint8", "int4", "uint4"):
            yield f"quantize_affine {fmt} {name} {arithmetic.value}", x, _affine(fmt, granularity, arithmetic)


def _encode(fmt: str, rounding: Rounding, overflow: Overflow) -> Call:
    return lambda x: ops.encode(x, fmt, rounding=rounding, overflow=overflow, nan=NanRule.ZERO)


def _quantize_mx(fmt: str, rule: ScaleRule | None, axis: int) -> Call:
    def run(x: Tensor) -> object:
        codes, scale, *rest = ops.quantize_mx(x, fmt, rule=rule, axis=axis, nan=NanRule.ZERO)
        values = ops.dequantize_mx(codes, scale, fmt, axis=axis, tensor_scale=rest[0] if rest else None)
        return codes, scale, *rest, values

    return run


def _float(fmt: str, granularity: Granularity, arithmetic: ScaleArithmetic) -> Call:
    def run(x: Tensor) -> object:
        codes, scale = ops.quantize_float(x, fmt, granularity=granularity, arithmetic=arithmetic)
        return codes, scale, ops.dequantize_float(codes, scale, fmt, granularity=granularity)

    return run


def _affine(fmt: str, granularity: Granularity, arithmetic: ScaleArithmetic) -> Call:
    def run(x: Tensor) -> object:
        symmetric = fmt.startswith("int")
        codes, scale, *zero = ops.quantize_affine(
            x, fmt, granularity=granularity, arithmetic=arithmetic, symmetric=symmetric
        )
        return codes, scale, *zero, ops.dequantize_affine(codes, scale, *zero, granularity=granularity)

    return run


def differences(device: torch.device, only: str = "") -> Iterator[tuple[str, int]]:
    """For every call with `only` in its name: how many elements of its results differ on `device` from the CPU's."""
    for name, x, call in ((n, x, c) for n, x, c in _calls() if only in n):
        want, got = call(x), call(x.to(device))
        pairs = zip(want, got, strict=True) if isinstance(want, tuple) and isinstance(got, tuple) else [(want, got)]
        yield name, sum(_count(a, b) for a, b in pairs)


def _count(want: object, got: object) -> int:
    assert isinstance(want, Tensor)
    assert isinstance(got, Tensor)
    if want.shape != got.shape or want.dtype is not got.dtype:
        return max(1, want.numel())
    found = got.cpu()
    if want.is_floating_point():
        # A NaN for a NaN: what its bits are is the device's choice.
        differ = ~(want.isnan() & found.isnan()) & ((want != found) | (want.signbit() != found.signbit()))
        return int(differ.sum())
    return int((want != found).sum())


def main(device: Annotated[str, typer.Argument(help="Such as cuda, mps or xpu.")]) -> None:
    """Compare all operations on a device with the CPU, bit by bit, and record the outcome."""
    bad = total = 0
    for name, wrong in differences(torch.device(device)):
        total += 1
        if wrong:
            bad += 1
            typer.echo(f"{name}: {wrong} elements differ")
    typer.echo(f"{total} calls on {device}, {bad} with differences")
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    result: dict[str, Json] = {"sources": source_hash(), "calls": total, "differing": bad, **environment()}
    store("devices", name, result)
    raise typer.Exit(int(bad > 0))


if __name__ == "__main__":
    typer.run(main)
