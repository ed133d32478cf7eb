from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref.calibration.collect import HessianCollector

GENERATOR = torch.Generator().manual_seed(0)


class Attention(nn.Module):
    """Three layers that read one tensor, and one that reads another; the first two sometimes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(6, 6) for _ in range(4))
        self.is_split = False

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.q(x), self.k(x)
        v = self.v(x + 1 if self.is_split else x)
        result: Tensor = self.o(F.relu(q + k + v))
        return result


def layers(model: Attention) -> dict[str, nn.Linear]:
    return {"q": model.q, "k": model.k, "v": model.v, "o": model.o}


def close(got: Tensor | None, *rows: Tensor) -> bool:
    want = sum(r.reshape(-1, 6).to(torch.float64).T @ r.reshape(-1, 6).to(torch.float64) for r in rows)
    assert got is not None
    assert isinstance(want, Tensor)
    # Far fewer than 2**10 products, summed in float32.
    return bool(((got - want).abs() <= 2.0**-14 * want.abs().max()).all())


def total(collector: HessianCollector, name: str) -> Tensor | None:
    sets = [names for names in collector.sets if name in names]
    found = collector.take(sets, later=sets)
    return found.total if found is not None and found.tokens else None


@torch.no_grad()
def test_layers_that_are_fed_one_tensor_share_a_sum() -> None:
    model, x = Attention(), torch.randn(2, 5, 6, generator=GENERATOR)
    hidden = F.relu(model.q(x) + model.k(x) + model.v(x))
    collector = HessianCollector(layers(model))
    model(x)
    collector.detach()
    assert collector.fed_together == [["q", "k", "v"], ["o"]]
    assert collector.sets == [("q", "k", "v"), ("o",)]
    assert close(total(collector, "q"), x)
    assert close(total(collector, "o"), hidden)
    model(x)
    assert close(total(collector, "q"), x)


@torch.no_grad()
def test_a_layer_that_leaves_the_others_keeps_its_own_sum() -> None:
    model, x = Attention(), torch.randn(2, 5, 6, generator=GENERATOR)
    collector = HessianCollector(layers(model))
    model(x)
    collector.flush()
    model.is_split = True
    model(2 * x)
    collector.detach()
    assert close(total(collector, "q"), x, 2 * x)
    assert close(total(collector, "v"), x, 2 * x + 1)
    assert collector.sets == [("q", "k", "v"), ("o",), ("q", "k"), ("v",)]
    assert collector.fed_together == [["q", "k", "v"], ["o"]]


@torch.no_grad()
def test_a_tensor_that_is_written_to_is_another() -> None:
    model, x = Attention(), torch.ones(1, 6)
    collector = HessianCollector({"q": model.q, "k": model.k})
    model.q(x)
    x *= 2
    model.k(x)
    collector.detach()
    assert close(total(collector, "q"), torch.ones(1, 6))
    assert close(total(collector, "k"), 2 * torch.ones(1, 6))


@torch.no_grad()
def test_a_layer_that_is_called_twice_with_one_tensor_counts_it_twice() -> None:
    model, x = Attention(), torch.ones(1, 6)
    collector = HessianCollector({"q": model.q})
    model.q(x)
    model.q(x)
    collector.detach()
    assert close(total(collector, "q"), x, x)


@torch.no_grad()
def test_transforms() -> None:
    model, x = Attention(), torch.ones(1, 6)
    double = partial(torch.mul, other=2)
    collector = HessianCollector({"q": model.q, "k": model.k, "v": model.v}, {"k": double, "v": double})
    model.q(x)
    model.k(x)
    model.v(x)
    collector.detach()
    assert close(total(collector, "q"), x)
    assert close(total(collector, "k"), 2 * x)
    assert collector.fed_together == [["q"], ["k", "v"]]


def test_inference_mode_and_layers_that_are_never_called() -> None:
    model = Attention()
    collector = HessianCollector(layers(model))
    with torch.inference_mode():
        model.q(torch.ones(1, 6))
        model.o(torch.ones(0, 6))
    collector.detach()
    assert close(total(collector, "q"), torch.ones(1, 6))
    assert total(collector, "k") is None
    assert total(collector, "o") is None


@torch.no_grad()
def test_sums_are_given_away_when_they_are_needed_no_more() -> None:
    model, x = Attention(), torch.randn(2, 5, 6, generator=GENERATOR)
    collector = HessianCollector(layers(model))
    model(x)
    collector.detach()
    first, second = collector.sets
    kept = collector.take([first], later=[first])
    taken = collector.take([first])
    assert kept is not None
    assert taken is not None
    assert kept is not taken
    assert torch.equal(kept.total, taken.total)
    assert collector.sets == [second]
    assert collector.take([first]) is None
