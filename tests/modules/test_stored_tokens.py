import pytest
import torch

from incref.formats import FORMATS
from incref.modules.stored_tokens import StoredTokens
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN
from incref.qtensor.parts import fake_quantize
from incref.qtensor.spec import QuantSpec

TOKEN = QuantSpec(fmt=FORMATS["float8_e5m2"], granularity=PER_TOKEN)
X = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(0))


def test_picks_and_forgets() -> None:
    stored = StoredTokens(TOKEN)
    with pytest.raises(ValueError, match="there are no tokens yet"):
        stored.read(torch.float32)
    stored.map(lambda kept: kept[:1])
    stored.append(X)
    assert (stored.length, stored.nbytes) == (5, X.numel() + 4 * X.numel() // 8)
    stored.map(lambda kept: kept[[2, 0], :, :3])
    assert torch.equal(stored.read(torch.float32), fake_quantize(X, TOKEN)[[2, 0], :, :3])
    stored.reset()
    assert (stored.length, stored.nbytes) == (0, 0)


def test_a_static_scale_is_not_picked_from() -> None:
    spec = QuantSpec(fmt=FORMATS["float8_e4m3fn"], granularity=PER_TENSOR)
    stored = StoredTokens(spec, static_scale=torch.tensor(0.5))
    stored.append(X.to(torch.bfloat16))
    stored.map(lambda kept: kept[1:])
    assert torch.equal(stored.read(torch.float64), fake_quantize(X.to(torch.bfloat16)[1:], spec, torch.tensor(0.5)))
