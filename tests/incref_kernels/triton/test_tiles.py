import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")

from incref_kernels.triton import tiles
from incref_kernels.triton.targets import Target, assuming
from incref_kernels.triton.tiles import Tile, choose

FEW, MANY = torch.empty(100), torch.empty(1 << 20)
TUNED = Tile(elements=2048)


def test_the_cpu_gets_a_small_tile_for_few_elements_and_a_gpu_the_tuned_one() -> None:
    assert choose(TUNED, FEW) == Tile(elements=512)
    assert choose(Tile(elements=256), FEW) == Tile(elements=256)
    assert choose(TUNED, MANY) is TUNED
    with assuming(Target(kind="cuda", arch="sm_90")):
        assert choose(TUNED, FEW) is TUNED


def test_the_interpreter_gets_a_large_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_IS_INTERPRETING", True)
    assert choose(TUNED, FEW) == Tile(elements=1 << 16)
