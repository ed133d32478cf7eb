"""What other libraries are asked in the place of a row: the like of it, on the arguments of the row."""

import pytest
import torch

pytest.importorskip("torchao", reason="torchao is not installed (extra `bench`)")

from benchmarks.triton_peers import peer_versions, peers_of_product, peers_of_quantization
from incref.ops import int8_matmul, quantize_mx


def test_versions_are_those_of_what_is_there() -> None:
    assert "torchao" in peer_versions()


def test_blocks_of_torchao_are_those_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # Inductor has no E8M0 for the CPU.
    monkeypatch.setattr(torch, "compile", lambda fn, **_options: fn)
    x = torch.randn(4, 64)
    ((library, run),) = peers_of_quantization("quantize_mx mxfp8_e4m3 float32 axis -1", (x, "mxfp8_e4m3"), {"axis": -1})
    found, (codes, scale, *_) = run(), quantize_mx(x, "mxfp8_e4m3")
    assert library == "torchao"
    assert isinstance(found, tuple)
    assert torch.equal(found[0].view(torch.uint8), scale)
    assert torch.equal(found[1].reshape(x.shape).view(torch.uint8), codes)


def test_integers_of_torchao_are_multiplied_as_those_of_the_row() -> None:
    x, w = (torch.randint(-128, 128, shape, dtype=torch.int8) for shape in ((32, 64), (16, 64)))
    scale, one = torch.full((32, 1), 0.5), torch.ones(16, 1)
    ((_, run),) = peers_of_product("int8_matmul 32", (x, w, scale, one))
    found = run()
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, int8_matmul(x, w, torch.tensor(0.5), torch.tensor(1.0)))


def test_rows_without_a_peer_have_none() -> None:
    x = torch.randn(4, 64)
    assert not [*peers_of_quantization("encode float8_e4m3fn from float32", (x, "float8_e4m3fn"), {})]
    assert not [*peers_of_quantization("quantize_mx nvfp4 float32 axis -1", (x, "nvfp4"), {"axis": -1})]
    assert not [*peers_of_product("fp8_matmul tensor 32", (x, x, x, x))]
