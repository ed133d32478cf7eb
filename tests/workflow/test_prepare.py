import pytest
import torch
from torch import nn

from incref.config.rtn import RTNConfig
from incref.config.schemes import SCHEMES
from incref.errors import LayerError
from incref.workflow.prepare import find_plan, prepare


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def test_the_plan_says_what_every_layer_becomes() -> None:
    inputs = (torch.ones(1, 8),)
    prepared = prepare(model(), SCHEMES["mxfp4"], example_inputs=inputs)
    plan = find_plan(prepared)
    assert plan is not None
    assert plan.schemes == {"0": SCHEMES["mxfp4"], "2": SCHEMES["mxfp4"]}
    assert plan.example_inputs is inputs


def test_weights_and_outputs_are_untouched() -> None:
    m = model()
    x = torch.ones(1, 8)
    before, state = m(x), {name: t.clone() for name, t in m.state_dict().items()}
    assert prepare(m, RTNConfig()) is m
    assert torch.equal(m(x), before)
    assert all(torch.equal(t, state[name]) for name, t in m.state_dict().items())


def test_inplace_false_leaves_the_model_alone() -> None:
    m = model()
    prepared = prepare(m, RTNConfig(), inplace=False)
    assert prepared is not m
    assert find_plan(m) is None
    assert find_plan(prepared) is not None


def test_twice_is_refused() -> None:
    m = prepare(model(), RTNConfig())
    with pytest.raises(ValueError, match="the model is prepared already; call convert, or start from the float model"):
        prepare(m, RTNConfig())


def test_what_does_not_fit_is_refused_here() -> None:
    with pytest.raises(ValueError, match="'nothing' matches none of the 2"):
        prepare(model(), RTNConfig().set_local("nothing", RTNConfig()))
    broken = model()
    broken[0].register_forward_hook(lambda *_: None)
    with pytest.raises(LayerError, match=r"^0: "):
        prepare(broken, RTNConfig())
    assert find_plan(broken) is None
