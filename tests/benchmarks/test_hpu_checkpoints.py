"""What was recorded of checkpoints for Gaudi."""

import json

import pytest

from benchmarks.hpu_checkpoints import _LAYOUTS, _PEERS, _RESULTS

RECORDED = json.loads(_RESULTS.read_text())


def test_every_layout_gives_the_same_logits() -> None:
    layouts = RECORDED["layouts"]
    assert set(layouts) == set(_LAYOUTS)
    for ways in (("references", "second, references"), ("first", "second")):
        assert len({found["loads"][way]["logits"] for found in layouts.values() for way in ways}) == 1


def test_the_second_load_is_the_faster_one() -> None:
    for found in RECORDED["layouts"].values():
        seconds = found["seconds"]
        assert seconds["second"] < seconds["references"] < seconds["first"]


@pytest.mark.parametrize(("library", "layers"), [("auto-round", 210), ("gptqmodel", 14)])
def test_what_others_wrote_is_read_bit_for_bit(library: str, layers: int) -> None:
    cases = RECORDED["others"][library]["cases"]
    assert cases.keys() == _PEERS[library].CASES.keys()
    for case in cases.values():
        assert case["layers"] == layers
        assert (case["unlike"], case["unlike_repacked"]) == ([], [])
        assert case["kernels"] == ["hpu weight_only_matmul"]
