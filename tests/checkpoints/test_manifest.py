import json
from dataclasses import replace
from pathlib import Path

import pytest

from incref.checkpoints.manifest import LayerRecord, Manifest
from incref.config.mx import MXQuantConfig
from incref.config.schemes import SCHEMES
from incref.errors import CheckpointError

MX = MXQuantConfig(blocksize=16, round_method="dither").scheme()
MANIFEST = Manifest(
    layers={
        "plain": LayerRecord(weight={"shape": [1, 2]}, activation=None, elementwise=None),
        "both": LayerRecord(weight={}, activation=SCHEMES["fp8_e4m3_w8a8"].activation, elementwise=None),
        "mx": LayerRecord(weight={}, activation=MX.activation, elementwise=MX.elementwise),
    },
    aliases={"lm_head.weight": "embedding.weight"},
    transient=("cache", "inv_freq"),
    architecture="LlamaForCausalLM",
    digests={"model.safetensors": "00ff"},
)


def test_survives_the_file(tmp_path: Path) -> None:
    for manifest in (MANIFEST, Manifest(layers={}), replace(MANIFEST, architecture=None)):
        manifest.write(tmp_path / "incref.json")
        assert Manifest.read(tmp_path / "incref.json") == manifest


def _written(tmp_path: Path) -> dict[str, object]:
    MANIFEST.write(tmp_path / "incref.json")
    described = json.loads((tmp_path / "incref.json").read_text())
    assert isinstance(described, dict)
    return described


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "gguf"}, "is not a manifest"),
        ({"version": 3}, "has version 3, and this incref reads version 2; update incref, or save the model again"),
        ({"version": "2"}, "has version '2'"),
        ({"version": 1}, "has version 1, and this incref reads version 2"),
        ({"sha256": "00ff"}, "is damaged"),
        ({"sha256": {"../model.safetensors": "00ff"}}, "tensors are in safetensors files beside the manifest"),
        ({"sha256": {"/etc/passwd": "00ff"}}, "tensors are in safetensors files beside the manifest"),
        ({"layers": []}, "is damaged; save the model again"),
        ({"layers": {"a": {"weight": {}}}}, "is damaged.*KeyError"),
        ({"layers": {"a": 3}}, "is damaged.*TypeError"),
        ({"layers": {"a": {"weight": {}, "activation": {}, "elementwise": None}}}, "a QuantSpec has the fields"),
        ({"layers": {"a": {"weight": {}, "activation": None, "elementwise": 3}}}, "is damaged"),
        (
            {"layers": {"a": {"weight": {}, "activation": None, "elementwise": {"fmt": "int8", "rounding": "floor"}}}},
            "elementwise rounding is to a float format, got int8",
        ),
        (
            {"layers": {"a": {"weight": {}, "activation": None, "elementwise": {"fmt": "bfloat16", "rounding": "up"}}}},
            "'up' is not a valid Rounding",
        ),
        ({"aliases": None}, "is damaged"),
        ({"transient": 3}, "is damaged"),
    ],
)
def test_damage_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "incref.json"
    path.write_text(json.dumps({**_written(tmp_path), **changes}))
    with pytest.raises(CheckpointError, match=message):
        Manifest.read(path)


@pytest.mark.parametrize("key", ["layers", "aliases", "transient", "architecture", "sha256"])
def test_missing_keys_are_refused(tmp_path: Path, key: str) -> None:
    described = _written(tmp_path)
    del described[key]
    (tmp_path / "incref.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=f"is damaged.*KeyError: '{key}'"):
        Manifest.read(tmp_path / "incref.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "incref"', "\udcff"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "incref.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"is damaged|is not a manifest"):
        Manifest.read(tmp_path / "incref.json")
