import pytest
import torch
from torch import nn

from incref.autotune.layer_options import measure_options
from incref.autotune.sampler import Search
from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.mx import MXQuantConfig
from incref.config.resolve import QuantConfig
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.workflow.convert import convert

X = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8)).eval()


def search(*configs: QuantConfig, x: torch.Tensor = X, model: nn.Module | None = None) -> Search:
    model = model or make()

    def feed(fed: nn.Module) -> None:
        assert fed is not model
        with torch.no_grad():
            for batch in x.split(16):
                fed(batch)

    def quantize(config: QuantConfig) -> nn.Module:
        return convert(model, config, inplace=False)

    return Search(model=model, configs=configs, trials=[], quantize=quantize, feed=feed)


def test_a_layer_is_compared_on_what_the_float_model_feeds_it() -> None:
    config = RTNConfig(bits=3)
    (first,), (second,) = measure_options(search(config)).values()
    model, quantized = make(), convert(make(), config)
    with torch.no_grad():
        hidden = model[1](model[0](X))
        for option, index, x in ((first, 0, X), (second, 2, hidden)):
            want = float(
                (quantized[index](x) - model[index](x)).double().square().sum()
                / model[index](x).double().square().sum()
            )
            assert option.loss == pytest.approx(want, rel=1e-6)
            assert option.bits == 8 * quantized[index].qweight.nbytes
            assert option.config == config


def test_what_happens_to_inputs_counts() -> None:
    weights, both = MXQuantConfig(w_dtype="fp4", weight_only=True), MXQuantConfig(w_dtype="fp4", act_dtype="fp4")
    options = measure_options(search(weights, both))["0"]
    assert options[1].bits == options[0].bits
    assert options[1].loss > 1.5 * options[0].loss


def test_configurations_that_agree_on_a_layer_are_one_option() -> None:
    first, second = RTNConfig(bits=8), RTNConfig(bits=8).set_local("2", RTNConfig(bits=4))
    options = measure_options(search(first, second))
    assert [option.config for option in options["0"]] == [first]
    assert [option.config for option in options["2"]] == [first, RTNConfig(bits=4)]


@pytest.mark.parametrize(
    "config",
    [MXQuantConfig(w_dtype="fp4"), FP8Config(dynamic_quantization=True, scale_method="maxabs_pcs_pow2")],
    ids=["mx", "fp8"],
)
def test_convolutions_have_schemes_of_their_own(config: BaseConfig) -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    found = measure_options(search(config, model=model, x=X.view(32, 1, 8, 8).expand(32, 4, 8, 8)))
    assert {name: [option.config for option in options] for name, options in found.items()} == {
        "0": [config],
        "2": [config],
    }


def test_bags_are_called_with_all_that_they_get() -> None:
    class Bags(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bags = nn.EmbeddingBag(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.bags((x.flatten()[:6] > 0).long(), torch.tensor([0, 2]))
            return result

    config = FP8Config(dynamic_quantization=True)
    (option,) = measure_options(search(config, model=Bags()))["bags"]
    assert 0 < option.loss < 0.01


def test_to_be_left_alone_is_an_option_without_loss() -> None:
    options = measure_options(search(RTNConfig(bits=4), RTNConfig(white_list=["0"], bits=8)))
    assert [option.config for option in options["0"]] == [RTNConfig(bits=4), RTNConfig(white_list=["0"], bits=8)]
    assert (options["2"][1].config, options["2"][1].bits, options["2"][1].loss) == (None, 32 * 8 * 32, 0.0)


def test_layers_are_in_the_order_of_the_model() -> None:
    assert list(measure_options(search(RTNConfig(white_list=["2"]), RTNConfig(white_list=["0"])))) == ["0", "2"]


def test_a_layer_without_finite_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="0: what a layer loses must be finite, got nan of nan; feed the model finite"):
        measure_options(search(RTNConfig(), x=torch.full((16, 32), torch.nan)))
    with pytest.raises(ValueError, match="data that calls this layer"):
        measure_options(search(RTNConfig(), x=torch.empty(0, 32)))


def test_a_scheme_is_no_configuration() -> None:
    with pytest.raises(
        TypeError, match="a layer gets a configuration such as RTNConfig; config_set must hold no other"
    ):
        measure_options(search(SCHEMES["mxfp4"]))
