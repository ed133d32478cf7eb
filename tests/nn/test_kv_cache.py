import torch

from incref.nn.kv_cache import KVCache


def test_keeps_what_it_is_given() -> None:
    x = torch.randn(1, 2, 5, 4)
    cache = KVCache()
    assert torch.equal(cache(x[..., :3, :]), x[..., :3, :])
    assert torch.equal(cache(x[..., 3:, :]), x)
    assert cache.state_dict() == {}
    cache.reset()
    assert torch.equal(cache(x[..., 4:, :]), x[..., 4:, :])
