from torch import nn

from incref.calibration.blocks import find_blocks


def block(size: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(size, size), nn.ReLU())


def test_finds_the_largest_chain() -> None:
    model = nn.ModuleDict(
        {
            "small": nn.ModuleList([block(2), block(2)]),
            "large": nn.ModuleList([block(8), block(8), block(8)]),
            "head": nn.Linear(8, 100),
        }
    )
    assert find_blocks(model) == ["large.0", "large.1", "large.2"]


def test_the_model_may_be_the_chain() -> None:
    assert find_blocks(nn.Sequential(block(), block())) == ["0", "1"]


def test_no_chain() -> None:
    assert find_blocks(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))) == []
    assert find_blocks(nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])) == []
    assert find_blocks(nn.ModuleList([block()])) == []
    assert find_blocks(nn.Linear(4, 4)) == []
