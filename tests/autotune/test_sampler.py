from torch import nn

from incref.autotune.sampler import Search, SequentialSampler
from incref.config.rtn import RTNConfig


def test_sequential_is_in_order() -> None:
    configs = (RTNConfig(bits=8), RTNConfig(bits=2), RTNConfig(bits=4))
    search = Search(model=nn.Identity(), configs=configs, trials=[], quantize=lambda _: nn.Identity(), feed=len)
    assert tuple(SequentialSampler().propose(search)) == configs
