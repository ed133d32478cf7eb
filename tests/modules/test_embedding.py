import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.config.fp8 import FP8Config
from incref.modules.embedding import QuantEmbedding, QuantEmbeddingBag
from incref.qtensor.parts import fake_quantize
from incref.workflow.convert import convert
from incref.workflow.load import load
from incref.workflow.save import save

CONFIG = FP8Config(
    allowlist={"types": ["Embedding", "EmbeddingBag"]},
    scale_method="maxabs_pcs_arbitrary",
    target="gaudi2",
)
IDS = torch.tensor([[1, 0, 2], [5, 5, 3]])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(6, 10, padding_idx=0)
        self.bags = nn.EmbeddingBag(6, 10, mode="sum", include_last_offset=True, padding_idx=2)

    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = self.rows(ids).sum(1) + self.bags(ids.flatten(), torch.tensor([0, 3, 6]))
        return result


def net() -> Net:
    torch.manual_seed(0)
    return Net()


@torch.no_grad()
def test_rows_of_the_dequantized_table(tmp_path: Path) -> None:
    floats, converted = net(), convert(net(), CONFIG)
    assert isinstance(converted, Net)
    assert isinstance(converted.rows, QuantEmbedding)
    assert isinstance(converted.bags, QuantEmbeddingBag)
    spec = CONFIG.resolve(floats)["rows"].weight
    rows = fake_quantize(floats.rows.weight, spec)
    assert torch.equal(converted.rows(IDS), rows[IDS])
    # Each row has a scale of its own, and one of zeros stays zeros.
    assert converted.rows.qweight.scale.shape == (6, 1)
    assert not bool(converted.rows(torch.tensor(0)).any())
    bags = fake_quantize(floats.bags.weight, spec)
    want = F.embedding_bag(IDS, bags, mode="sum", padding_idx=2)
    assert torch.equal(converted.bags(IDS), want)
    weights = torch.rand(2, 3)
    want = F.embedding_bag(IDS, bags, mode="sum", padding_idx=2, per_sample_weights=weights)
    assert torch.equal(converted.bags(IDS, per_sample_weights=weights), want)
    save(converted, tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved", net())(IDS), converted(IDS))


def test_rows_follow_the_dtype_of_the_model() -> None:
    converted = convert(net(), CONFIG).to(torch.bfloat16)
    assert isinstance(converted, Net)
    assert converted.rows(IDS).dtype is torch.bfloat16
    assert converted.bags(IDS).dtype is torch.bfloat16
    assert converted.get_buffer("rows.weight_scale").dtype is torch.float32
    assert converted(IDS).dtype is torch.bfloat16


def test_says_what_it_is() -> None:
    converted = convert(net(), CONFIG)
    assert repr(converted.rows) == "QuantEmbedding(6, 10, weight=float8_e4m3 (11.2 bits))"
    assert repr(converted.bags) == "QuantEmbeddingBag(6, 10, mode=sum, weight=float8_e4m3 (11.2 bits))"


def test_tables_that_are_left_alone() -> None:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(10, 6, bias=False)
            self.head.weight = self.rows.weight
            self.changing = nn.Embedding(6, 10, max_norm=1.0)
            self.twice = nn.Embedding(6, 10)
            self.again = nn.Embedding(6, 10)
            self.again.weight = self.twice.weight

    plan = FP8Config(allowlist={"types": ["Linear", "Embedding", "EmbeddingBag"]}).plan(Tied())
    assert {one.name: one.reason for one in plan.decisions if one.scheme is None} == {
        "rows": "it shares its weight with another kind of module",
        "head": "it shares its weight with another kind of module",
        "changing": "it changes its weight when it is called (max_norm)",
    }
    assert list(plan.schemes) == ["bags", "twice", "again"]
    # Those that do not speak of tables do not list them; FP8 quantizes bags unless told otherwise.
    assert [one.name for one in FP8Config().plan(copy.deepcopy(net())).decisions if one.scheme] == ["bags"]


def test_tables_are_matrices() -> None:
    with pytest.raises(ValueError, match="a table is a matrix"):
        QuantEmbedding(convert(nn.Sequential(nn.Conv2d(1, 1, 1)), FP8Config(dynamic_quantization=True))[0].qweight)
