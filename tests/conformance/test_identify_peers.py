"""What was found of other libraries is recorded whole, and says so where something is not explained."""

import json

from conformance.record import RESULTS

RECORDED = json.loads((RESULTS / "identify.json").read_text())


def test_every_peer_was_asked() -> None:
    for part in ("Tensor.to", "astype", "to_mx", "_int_mm", "_scaled_mm", "qlinear_pointwise", "interpreter"):
        assert any(part in name for name in RECORDED), part


def test_what_is_not_explained_has_an_input_that_shows_it() -> None:
    for name, found in RECORDED.items():
        if found.get("unexplained"):
            assert found["first"], name
        if "options" in found:
            assert found["compared"] > 100, name
            assert found["differences"], name
