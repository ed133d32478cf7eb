import pytest
from torch import nn

from incref.config.conv1d import Conv1D
from incref.config.rtn import RTNConfig
from incref.config.rules import find_layers

pytest.importorskip("transformers")
from transformers.pytorch_utils import Conv1D as TheirConv1D


class Derived(TheirConv1D):
    pass


class Own(TheirConv1D):
    def forward(self, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # never called
        return super().forward(x) + 1


def test_is_known_by_its_name() -> None:
    assert isinstance(TheirConv1D(2, 3), Conv1D)
    assert isinstance(Derived(2, 3), Conv1D)
    assert not isinstance(nn.Linear(2, 3), Conv1D)
    assert not isinstance(nn.Conv1d(2, 3, 1), Conv1D)


def test_is_a_linear_layer_to_configurations() -> None:
    model = nn.ModuleDict({"a": TheirConv1D(8, 3), "b": Derived(8, 3), "c": Own(8, 3)})
    found = find_layers(model, RTNConfig().kinds)
    assert {name: why for name, (_, why) in found.items()} == {
        "a": None,
        "b": None,
        "c": "Own defines a forward of its own",
    }


def test_groups_run_along_the_input_features() -> None:
    [decision] = RTNConfig(group_size=32).plan(nn.Sequential(TheirConv1D(8, 64))).decisions
    assert decision.shape == (64, 8)
    # 64 input features make two groups for each of 8 outputs: 4 bits a weight and 2 scales of 4 bytes.
    assert decision.stored_bytes == 8 * (64 // 2 + 2 * 4)
