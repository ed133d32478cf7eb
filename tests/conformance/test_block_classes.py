import pytest
import torch

from conformance.block_classes import block_classes
from incref.formats import FORMATS, BlockFormat

BLOCKS = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat)]


@pytest.mark.parametrize("fmt", BLOCKS, ids=lambda fmt: fmt.name)
def test_there_are_more_than_ten_thousand_blocks(fmt: BlockFormat) -> None:
    classes = block_classes(fmt)
    assert sum(len(blocks) for blocks in classes.values()) > 10_000
    assert all(blocks.dtype is torch.float32 and blocks.shape[1] == fmt.block_size for blocks in classes.values())


def test_a_seed_gives_the_same_blocks() -> None:
    first, second, other = (block_classes(BLOCKS[0], scale=0.01, seed=seed) for seed in (3, 3, 4))
    for name, blocks in first.items():
        assert torch.equal(blocks.view(torch.int32), second[name].view(torch.int32))
    assert not torch.equal(first["random"], other["random"])


def test_classes_are_what_their_names_say() -> None:
    classes = block_classes(BLOCKS[0])
    amax = {name: blocks.abs().amax(1) for name, blocks in classes.items()}
    mantissa, exponent = torch.frexp(amax["2^k"])
    assert (mantissa == 0.5).all()
    assert sorted(exponent.tolist()) == list(range(-148, 129))
    below, _ = torch.frexp(amax["just below 2^k"][amax["just below 2^k"] > 2.0**-100])
    assert (below >= 1 - 20 * 2.0**-24).all()
    assert (amax["subnormal"] < 2.0**-126).all()
    assert (classes["subnormal and zero"] == 0).any(1).all()
    assert (amax["top of range"] >= 2.0**118).all()
    assert (amax["zero"] == 0).all()
    assert classes["zero"].signbit().any()
    assert classes["nan"].isnan().sum(1).eq(1).all()
    assert classes["inf"].isinf().sum(1).eq(1).all()
    finite = [blocks for name, blocks in classes.items() if name not in ("nan", "inf")]
    assert all(blocks.isfinite().all() for blocks in finite)
