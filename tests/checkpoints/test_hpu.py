from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from incref.checkpoints.hpu import cached_layers, pack_hpu, unpack_hpu
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError
from incref.formats.layouts import PackLayout
from incref.qtensor.qtensor import QTensor

from .weights import convert_from_uint4, draw_weight


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("group_size", "ordered"), [(16, False), (16, True), (-1, False), (-1, True)])
def test_the_operator_gives_the_weight(group_size: int, *, symmetric: bool, ordered: bool) -> None:
    weight = draw_weight(24, 64, 4, group_size, symmetric=symmetric, ordered=ordered)
    packed = pack_hpu("fc", weight)
    assert (packed["qweight"].shape, packed["qweight"].dtype) == ((64, 3), torch.int32)
    x = torch.randint(-4, 5, (5, 64), generator=torch.Generator().manual_seed(0)).to(torch.float64)
    w = convert_from_uint4(packed["qweight"], packed["scales"], packed["qzeros"]).double()
    # Only groups of columns that are not neighbours need the input in another order.
    assert ("order" in packed) == (ordered and group_size != -1)
    rows = x[:, packed["order"].long()] if "order" in packed else x
    assert torch.equal(rows @ w, x @ weight.dequantize(torch.float64).T)
    again = unpack_hpu("fc", packed, weight.dtype)
    assert again.layout is PackLayout.HPU
    assert again.packed is packed["qweight"]
    assert torch.equal(again.dequantize(), weight.dequantize())


def test_every_zero_point_is_kept() -> None:
    weight = draw_weight(16, 32, 4, -1, symmetric=False)
    parts = weight.parts
    zero = torch.arange(16, dtype=torch.int32).view(16, 1)
    weight = QTensor.from_parts(
        type(parts)(codes=parts.codes, scale=parts.scale, zero_point=zero), weight.spec, weight.dtype
    )
    packed = pack_hpu("fc", weight)
    assert packed["qzeros"].tolist() == [[0x76543210, 0xFEDCBA98 - (1 << 32)]]


def test_scales_are_rounded_where_asked() -> None:
    weight = draw_weight(16, 32, 4, 16, dtype=torch.float32)
    assert pack_hpu("fc", weight)["scales"].dtype is torch.float32
    rounded = pack_hpu("fc", weight, torch.bfloat16)["scales"]
    assert torch.equal(rounded, weight.scale.T.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (draw_weight(20, 64, 4, 16), "fc: output features must be a multiple of 8 on Gaudi, got 20"),
        (draw_weight(24, 72, 4, 32), "fc: groups of 32 must divide the 72 input features on Gaudi"),
        (draw_weight(24, 64, 3, 16), "fc: Gaudi dequantizes integers of 4 bits, got 3"),
        (QTensor.quantize(torch.randn(8, 64), SCHEMES["mxfp4"].weight), "fc: this layout holds matrices of integers"),
    ],
)
def test_weights_that_the_operator_does_not_take_are_refused(weight: QTensor, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        pack_hpu("fc", weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qweight": None}, "fc: there must be matrices qweight and scales"),
        ({"qweight": torch.zeros(64, 3)}, "qweight must be torch.int32"),
        ({"scales": torch.zeros(4, 16)}, r"qweight must be .* of shape \(64, 2\), got"),
        ({"qzeros": None}, "qzeros must be .* and there is none"),
        ({"order": torch.zeros(3, dtype=torch.int32)}, r"order must be .* of shape \(64,\)"),
        ({"order": torch.zeros(64, dtype=torch.int32)}, "fc: order must name each column once"),
        ({"g_idx": torch.zeros(64, dtype=torch.int32)}, "fc: a layer for Gaudi has no g_idx"),
        ({"scales": torch.full((4, 24), torch.nan)}, "fc: scales must be finite, and there are NaN or Inf among them"),
        (
            {"scales": torch.ones(5, 24), "qzeros": torch.zeros(5, 3, dtype=torch.int32)},
            "fc: 64 input features can't be in 5 groups of one size",
        ),
        (
            {"scales": torch.ones(0, 24), "qzeros": torch.zeros(0, 3, dtype=torch.int32)},
            "fc: 64 input features can't be in 0 groups of one size",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Tensor | None], message: str) -> None:
    parts: dict[str, Tensor | None] = {**pack_hpu("fc", draw_weight(24, 64, 4, 16)), **changes}
    given = {name: part for name, part in parts.items() if part is not None}
    with pytest.raises(CheckpointError, match=message):
        unpack_hpu("fc", given, torch.float32)


def test_layers_of_a_checkpoint_are_repacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = {"a.b": draw_weight(24, 64, 4, 16, ordered=True), "b": draw_weight(8, 64, 4, 64)}
    (tmp_path / "config.json").write_text("{}")
    calls = []

    def layers() -> Iterator[tuple[str, QTensor]]:
        calls.append(1)
        yield from weights.items()

    for _ in range(2):
        found = cached_layers(tmp_path, layers, scale_dtype=torch.bfloat16)
    assert len(calls) == 1
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        packed = pack_hpu(name, weight, torch.bfloat16)
        assert found[name].keys() == packed.keys()
        assert all(torch.equal(found[name][part], tensor) for part, tensor in packed.items())
    # What the file is for is part of its stamp.
    cached_layers(tmp_path, layers)
    cached_layers(tmp_path, layers, variant="weights_only")
    assert len(calls) == 3
