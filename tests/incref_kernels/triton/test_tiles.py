import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (extra `native`)")

from incref_kernels.triton import tiles
from incref_kernels.triton.targets import Target, assuming
from incref_kernels.triton.tiles import Tile, choose

CPU = torch.device("cpu")
TUNED = Tile(elements=2048)


def test_the_cpu_gets_a_small_tile_and_a_gpu_the_tuned_one() -> None:
    assert choose(TUNED, CPU) == Tile(elements=512)
    assert choose(Tile(elements=256), CPU) == Tile(elements=256)
    with assuming(Target(kind="cuda", arch="sm_90")):
        assert choose(TUNED, CPU) is TUNED


def test_the_interpreter_gets_a_large_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_IS_INTERPRETING", True)
    assert choose(TUNED, CPU) == Tile(elements=1 << 16)
