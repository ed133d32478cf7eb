from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from incref.config.base import BaseConfig
from incref.config.fp8 import FP8Config
from incref.config.resolve import plan
from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES


class OwnLinear(nn.Linear):
    def forward(self, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # never called
        return super().forward(x) + 1


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 8)
        self.fc = nn.Linear(8, 4)
        self.conv = nn.Conv2d(2, 2, 3)
        self.own = OwnLinear(8, 8)
        self.normed = weight_norm(nn.Linear(8, 8))
        self.attention = nn.MultiheadAttention(8, 2)
        self.tied = nn.Linear(8, 4)
        self.tied.weight = self.embedding.weight
        self.lm_head = nn.Linear(8, 4)


def reasons(config: BaseConfig) -> dict[str, str]:
    found = config.plan(Model())
    assert found.schemes.keys() == config.resolve(Model()).keys()
    return {one.name: one.reason if one.scheme is None else "changes" for one in found.decisions}


WHY = {
    "own": "OwnLinear defines a forward of its own",
    "normed": "its weight is computed by a parametrization",
    "attention.out_proj": "nn.MultiheadAttention reads its weight without calling it",
    "tied": "it shares its weight with another kind of module",
}


def test_every_layer_has_a_reason() -> None:
    assert reasons(RTNConfig()) == {
        "fc": "changes",
        "conv": "the configuration does not speak of Conv2d",
        **WHY,
        "lm_head": "an output head; see quant_lm_head",
    }
    tied = {"embedding": WHY["tied"]}
    assert reasons(FP8Config()) == {"fc": "changes", "conv": "changes", **WHY, **tied, "lm_head": "changes"}


def test_rules() -> None:
    config = FP8Config().set_local("fc", RTNConfig(dtype="fp32")).set_local(nn.Conv2d, RTNConfig())
    found = reasons(config)
    assert found["fc"] == "the rule 'fc' leaves it alone"
    assert found["conv"] == "RTNConfig does not speak of Conv2d"
    assert reasons(RTNConfig(white_list=["fc"]))["lm_head"] == "no rule speaks of it"
    assert config.plan(Model()).decisions[0].bits_per_weight == 32


def test_a_scheme_for_all() -> None:
    found = {one.name: one for one in plan(Model(), SCHEMES["mxfp4"]).decisions}
    assert found["fc"].scheme is SCHEMES["mxfp4"]
    assert found["lm_head"].reason == "an output head"
    assert found["fc"].stored_bytes == 4 * 8 // 2 + 4
    assert found["fc"].shape == (4, 8)


def test_sums_and_lines() -> None:
    found = RTNConfig(dtype="mxfp4").plan(Model())
    assert found.float_bytes == sum(one.layer.weight.nbytes for one in found.decisions)
    assert found.float_bytes - found.stored_bytes == 4 * 8 * 4 - (4 * 8 // 2 + 4)
    assert str(found).splitlines()[0].split() == ["fc", "4", "x", "8", "mxfp4", "5.000", "every", "layer"]
