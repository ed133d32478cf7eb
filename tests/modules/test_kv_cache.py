import pytest
import torch

from incref.config.maxabs import MaxAbsScale, ScaleValue
from incref.config.scheme import Elementwise, InputScheme
from incref.formats import FORMATS, FloatFormat
from incref.modules.kv_cache import QuantKVCache
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_group
from incref.qtensor.parts import fake_quantize
from incref.qtensor.spec import QuantSpec

X = torch.randn(2, 3, 6, 40, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 6)[:, None]
E4M3 = FORMATS["float8_e4m3fn"]
POWER = MaxAbsScale(value=ScaleValue.POWER_OF_TWO)
SCHEMES = {
    "token": InputScheme(activation=QuantSpec(fmt=E4M3, granularity=PER_TOKEN)),
    "token, powers of two": InputScheme(activation=QuantSpec(fmt=E4M3, granularity=PER_TOKEN), input_scale=POWER),
    "groups": InputScheme(activation=QuantSpec(fmt=FORMATS["int8"], granularity=per_group(16))),
    "mx": InputScheme(activation=QuantSpec(fmt=FORMATS["mxfp4"])),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_tokens_have_scales_of_their_own(name: str) -> None:
    cache, whole = QuantKVCache(SCHEMES[name]), QuantKVCache(SCHEMES[name])
    for start in range(0, 6, 2):
        got = cache(X[..., start : start + 2, :])
        assert got.shape[-2] == start + 2
    assert torch.equal(got, whole(X))
    if SCHEMES[name].input_scale is None:
        assert torch.equal(got, fake_quantize(X, SCHEMES[name].activation))
    assert cache.state_dict() == {}
    cache.reset()
    assert torch.equal(cache(X[..., :1, :]), got[..., :1, :])


def test_a_static_scale_is_for_all_tokens() -> None:
    spec = QuantSpec(fmt=E4M3, granularity=PER_TENSOR)
    scale = torch.tensor(0.25)
    cache = QuantKVCache(InputScheme(activation=spec, input_scale=POWER, is_static=True), {"x": scale})
    cache(X[..., :5, :])
    assert torch.equal(cache(X[..., 5:, :]), fake_quantize(X, spec, scale))
    assert list(cache.state_dict()) == ["x_scale"]
    assert cache.kept.nbytes == X.numel()


def test_elementwise_rounding_comes_first() -> None:
    half = FORMATS["float16"]
    assert isinstance(half, FloatFormat)
    spec = QuantSpec(fmt=FORMATS["mxfp4"])
    cache = QuantKVCache(InputScheme(activation=spec, elementwise=Elementwise(fmt=half)))
    assert torch.equal(cache(X), fake_quantize(X.to(torch.float16).to(torch.float32), spec))


@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(fmt=E4M3, granularity=PER_TENSOR),
        QuantSpec(fmt=E4M3, granularity=per_group(16, axis=-2)),
        QuantSpec(fmt=FORMATS["nvfp4"]),
        QuantSpec(fmt=FORMATS["mxfp4"], axis=-2),
        QuantSpec(fmt=FORMATS["uint8"], granularity=PER_TOKEN, symmetric=False),
    ],
    ids=str,
)
def test_what_comes_later_must_not_change_what_is_kept(spec: QuantSpec) -> None:
    with pytest.raises(ValueError, match="what grows has a static scale, or scales along its last dimension alone"):
        QuantKVCache(InputScheme(activation=spec))
