"""Products of 8-bit integers beside those of floats: a layer, and two compiled models."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed_result import Better, Judged, not_measured, speedup_of
from benchmarks.timing import measure
from examples.fp8_resnet18 import ResNet18
from incref import INT8StaticQuantConfig, StaticQuantConfig, convert, prepare
from incref.export import export
from incref_kernels.cpu.processor import multiplies_int8_exactly

__all__ = ["LACKS", "Library", "compiled_model", "int8_rows", "models"]

_LINEAR = ("static int8 linear with its input, 512 x 4096 x 4096", "bfloat16 F.linear", "float32 F.linear")
_RESNET = Judged(
    work="static int8 ResNet-18, compiled", base="float32, eager", better=Better.MORE, bar=13.0, stretch=17.0
)
_ENCODER = Judged(
    work="static int8 encoder of 4 layers, compiled", base="float32, eager", better=Better.MORE, bar=8.0, stretch=10.0
)
LACKS = "this processor has neither VNNI nor AMX: PyTorch multiplies int8 one by one, or in 16 bits that saturate"
_BATCHES = 4


def int8_rows(rounds: int) -> list[Judged]:
    """Measure where the processor multiplies integers, else say why not."""
    work, narrow, wide = _LINEAR
    to_narrow = Judged(work=work, base=narrow, better=Better.MORE, bar=1.4, stretch=1.7)
    to_wide = Judged(work=work, base=wide, better=Better.MORE, bar=7.0, stretch=9.0)
    if not multiplies_int8_exactly():
        return not_measured(LACKS, to_narrow, to_wide, _RESNET, _ENCODER)
    with torch.no_grad():
        return [*_linear(to_narrow, to_wide, rounds), *_models(rounds)]


def _linear(to_narrow: Judged, to_wide: Judged, rounds: int) -> list[Judged]:
    x, layer = torch.randn(512, 4096), nn.Linear(4096, 4096, bias=False)
    w = layer.weight.detach().clone()
    prepared = prepare(nn.Sequential(layer), INT8StaticQuantConfig())
    prepared(x)
    quantized = convert(prepared, backend="cpu")
    narrow = partial(F.linear, x.to(torch.bfloat16), w.to(torch.bfloat16))
    times = measure({"int8": partial(quantized, x), "narrow": narrow, "wide": partial(F.linear, x, w)}, rounds=rounds)
    return [
        replace(row, found=speedup_of(times["int8"], times[base]))
        for row, base in ((to_narrow, "narrow"), (to_wide, "wide"))
    ]


def _models(rounds: int) -> list[Judged]:
    found = []
    for row, (_, model, x) in zip((_RESNET, _ENCODER), models(), strict=True):
        functions = {"float32": partial(model, x), "int8": partial(compiled_model(model, x), x)}
        times = measure(functions, rounds=rounds)
        found.append(replace(row, found=speedup_of(times["int8"], times["float32"])))
    return found


def models() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Models with random weights in evaluation mode, by name, with what they are called with."""
    yield "ResNet-18", ResNet18().eval(), torch.randn(8, 3, 224, 224)
    layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
    yield (
        "encoder of 4 layers",
        nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval(),
        torch.randn(8, 128, 768),
    )


@dataclass(frozen=True, kw_only=True)
class Library:
    """What quantizes a captured graph: incref's names, or what has the same ones."""

    export: Callable[..., Any]
    prepare: Callable[..., Any]
    convert: Callable[..., Any]
    config: Callable[..., object]

    @classmethod
    def own(cls) -> "Library":
        """Incref."""
        return cls(export=export, prepare=prepare, convert=convert, config=StaticQuantConfig)


def compiled_model(model: nn.Module, x: Tensor, library: Library | None = None) -> Callable[[Tensor], Tensor]:
    """Quantize a model in evaluation mode as a graph, calibrated with data like x, and compile it."""
    library = library or Library.own()
    is_fused = torch.backends.mha.get_fastpath_enabled()
    # A whole layer of a transformer as one operation has no products to quantize.
    torch.backends.mha.set_fastpath_enabled(value=False)
    try:
        exported = library.export(model, example_inputs=(x,))
    finally:
        torch.backends.mha.set_fastpath_enabled(value=is_fused)
    prepared = library.prepare(exported, library.config())
    generator = torch.Generator().manual_seed(0)
    for _ in range(_BATCHES):
        prepared(torch.randn(x.shape, generator=generator))
    quantized = library.convert(prepared)
    with torch._inductor.config.patch(freezing=True):  # noqa: SLF001  # the switch that PyTorch documents
        compiled: Callable[[Tensor], Tensor] = torch.compile(quantized)
        # Compiled by its first call.
        compiled(x)
    return compiled
