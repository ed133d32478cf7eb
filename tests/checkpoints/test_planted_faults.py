"""Faults planted in what reads checkpoints and repacks them for Gaudi: checks that pass without one see it.

The checks take files that were written before the fault was planted, and compare with integers of Python. Those planted
in the casts of 8-bit floats are in tests/conformance/test_hpu.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from incref.checkpoints import awq, gptq, hpu, stamped, stored
from incref.checkpoints.foreign import CheckpointLayout, encode_layers, find_codec
from incref.checkpoints.stamped import HPU_FILE, stamped_tensors
from incref.checkpoints.stored import StoredLayer
from incref.errors import CheckpointError
from incref.formats import Format
from incref.formats.layouts import PackLayout
from incref.ops.pack import pack, unpack
from incref.qtensor.format_json import Json
from incref.qtensor.qtensor import QTensor

from .weights import convert_from_uint4, draw_weight

Check = Callable[[], bool]
Fault = Callable[[pytest.MonkeyPatch], None]
ROWS, COLUMNS, GROUP = 40, 64, 16


def checks(directory: Path) -> dict[str, Check]:
    """What is asked, by name; each says whether the answer is right. Everything that is read is written here."""
    in_order = draw_weight(ROWS, COLUMNS, 4, GROUP, symmetric=False)
    weights = {
        "columns in order": in_order,
        "columns in another order": draw_weight(ROWS, COLUMNS, 4, GROUP, symmetric=False, ordered=True),
        "groups in another order": _permute_groups(in_order),
    }
    found: dict[str, Check] = {}
    for layout in CheckpointLayout:
        has_order = layout in (CheckpointLayout.GPTQ_V1, CheckpointLayout.GPTQ_V2)
        for name, weight in weights.items():
            if weight.order is None or has_order:
                parts, config = _store(weight, layout)
                found[f"read: {layout.value}, {name}"] = partial(_is_read, parts, config, weight.dequantize())
    parts, config = _store(in_order, CheckpointLayout.GPTQ_V1)
    parts["qzeros"][0, 0] |= 15
    found["refused: gptq_v1, a zero point of 16"] = partial(_is_refused, parts, config)
    for what, change in (
        ("the checkpoint changed", _change_the_source),
        ("a bit of the file changed", _change_the_file),
        ("the file is of another program", _drop_the_stamp),
    ):
        found[f"file: {what}"] = partial(_is_made_again, directory / what.replace(" ", "_"), change)
    return found


def _permute_groups(weight: QTensor) -> QTensor:
    """The groups, each of neighbours, in the order 2, 0, 3, 1."""
    order = torch.arange(COLUMNS, dtype=torch.int32).view(-1, GROUP)[[2, 0, 3, 1]].reshape(-1)
    return QTensor.from_parts(weight.parts, weight.spec, weight.dtype, order=order)


def _store(weight: QTensor, layout: CheckpointLayout) -> tuple[dict[str, Tensor], dict[str, Json]]:
    tensors, config = encode_layers({"fc": StoredLayer(weight=weight)}, [], layout)
    return {key.removeprefix("fc."): tensor for key, tensor in tensors.items()}, config


def _is_read(parts: dict[str, Tensor], config: dict[str, Json], values: Tensor) -> bool:
    """Whether a layer is read as its values, and its words for Gaudi give these to the operator and back."""
    try:
        weight = find_codec(config).decode("fc", parts, (ROWS, COLUMNS)).weight
    except CheckpointError:
        return False
    words = hpu.pack_hpu("fc", weight)
    found = convert_from_uint4(words["qweight"], words["scales"], words["qzeros"])
    if "order" in words:
        found = torch.empty_like(found).index_copy_(0, words["order"].long(), found)
    again = hpu.unpack_hpu("fc", words, weight.dtype)
    return all(torch.equal(one, values) for one in (weight.dequantize(), found.T.to(values.dtype), again.dequantize()))


def _is_refused(parts: dict[str, Tensor], config: dict[str, Json]) -> bool:
    try:
        find_codec(config).decode("fc", parts, (ROWS, COLUMNS))
    except CheckpointError as error:
        return "that is 16 for some readers (AutoGPTQ) and 0 for others" in str(error)
    return False


def _is_made_again(directory: Path, change: Callable[[Path], None]) -> bool:
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"old")
    stamped_tensors(directory, HPU_FILE, "1", lambda: {"w": torch.zeros(8)})
    change(directory)
    found = stamped_tensors(directory, HPU_FILE, "1", lambda: {"w": torch.ones(8)})
    return torch.equal(found["w"], torch.ones(8))


def _change_the_source(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"new")


def _change_the_file(directory: Path) -> None:
    data = bytearray((directory / HPU_FILE).read_bytes())
    data[-1] ^= 1
    (directory / HPU_FILE).write_bytes(data)


def _drop_the_stamp(directory: Path) -> None:
    save_file(load_file(directory / HPU_FILE), directory / HPU_FILE, metadata={"format": "pt"})


def failed(these: dict[str, Check]) -> set[str]:
    """Names of the checks whose answer is wrong."""
    return {name for name, check in these.items() if not check()}


def v1_as_v2(patch: pytest.MonkeyPatch) -> None:
    """Zero points of version 1 are taken as they are stored: one too small."""
    patch.setitem(gptq._VERSIONS, "gptq", PackLayout.GPTQ_V2)


def v2_as_v1(patch: pytest.MonkeyPatch) -> None:
    """Zero points of version 2 become one too large, and 15 is refused."""
    patch.setitem(gptq._VERSIONS, "gptq_v2", PackLayout.GPTQ_V1)


def zero_point_16_is_0(patch: pytest.MonkeyPatch) -> None:
    """Zero points of version 1 keep as many bits as a code has, as in Neural Compressor."""
    patch.setattr(
        gptq, "_require_clear", lambda _layer, stored, bits: stored.masked_fill_(stored == (1 << bits) - 1, 255)
    )


def high_nibble_first(patch: pytest.MonkeyPatch) -> None:
    """The first code of a word is in its highest bits."""

    def packed(x: Tensor, fmt: str | Format, *, layout: PackLayout) -> Tensor:
        rows, columns = x.shape
        return pack(x.reshape(rows, -1, 8).flip(-1).reshape(rows, columns), fmt, layout=layout)

    patch.setattr(hpu, "pack", packed)


def tail_cut_off(patch: pytest.MonkeyPatch) -> None:
    """Only the words of whole blocks of 32 output features are packed: 32 columns of 40."""

    def packed(x: Tensor, fmt: str | Format, *, layout: PackLayout) -> Tensor:
        words = pack(x, fmt, layout=layout)
        words[:, x.shape[1] // 32 * 4 :] = 0
        return words

    patch.setattr(hpu, "pack", packed)


def g_idx_dropped(patch: pytest.MonkeyPatch) -> None:
    """Columns are taken to be in the order of their groups."""
    patch.setattr(stored, "_order", lambda *_: None)


def g_idx_dropped_if_groups_are_whole(patch: pytest.MonkeyPatch) -> None:
    """Groups of neighbours are taken to be in order, as by `is_g_idx_ordered` of Neural Compressor."""
    right = stored._order

    def order(layer: str, groups: Tensor, group_size: int) -> Tensor | None:
        blocks = groups.view(-1, group_size)
        return None if bool((blocks == blocks[:, :1]).all()) else right(layer, groups, group_size)

    patch.setattr(stored, "_order", order)


def order_dropped(patch: pytest.MonkeyPatch) -> None:
    """The rows for Gaudi are permuted, and nobody is told."""
    right = hpu.pack_hpu
    patch.setattr(hpu, "pack_hpu", lambda *args: {name: part for name, part in right(*args).items() if name != "order"})


def awq_not_interleaved(patch: pytest.MonkeyPatch) -> None:
    """Codes of AWQ are read in the order of their bits."""
    patch.setattr(awq, "unpack", lambda x, fmt, *, length, **_: unpack(x, fmt, layout=PackLayout.HPU, length=length))


def zero_points_of_first_group(patch: pytest.MonkeyPatch) -> None:
    """All groups have the zero points of the first one."""
    right = hpu.pack_hpu

    def packed(name: str, weight: QTensor) -> dict[str, Tensor]:
        parts = right(name, weight)
        return {**parts, "qzeros": parts["qzeros"][:1].expand_as(parts["qzeros"])}

    patch.setattr(hpu, "pack_hpu", packed)


def stale_file(patch: pytest.MonkeyPatch) -> None:
    """What the file was made of is not looked at."""
    patch.setattr(stamped, "source_digest", lambda *_: "the same")


def damaged_file(patch: pytest.MonkeyPatch) -> None:
    """What the file holds is not looked at."""
    patch.setattr(stamped, "_content", lambda _: "the same")


def any_file(patch: pytest.MonkeyPatch) -> None:
    """A file of that name is taken for what it is called, as by Neural Compressor."""
    patch.setattr(stamped, "_read", lambda path, *_: load_file(path) if path.is_file() else None)


FAULTS = {
    v1_as_v2: "gptq_v1",
    v2_as_v1: "gptq_v2",
    zero_point_16_is_0: "a zero point of 16",
    high_nibble_first: "read: ",
    tail_cut_off: "read: ",
    g_idx_dropped: "in another order",
    g_idx_dropped_if_groups_are_whole: "groups in another order",
    order_dropped: "in another order",
    awq_not_interleaved: "awq",
    zero_points_of_first_group: "read: ",
    stale_file: "the checkpoint changed",
    damaged_file: "a bit of the file changed",
    any_file: "file: ",
}
"""What is wrong, and what the checks that see it have in their names."""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return


def test_nothing_fails_without_a_fault(tmp_path: Path) -> None:
    assert failed(checks(tmp_path)) == set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    these = checks(tmp_path)
    fault(monkeypatch)
    assert failed(these) == {name for name in these if FAULTS[fault] in name} != set()
