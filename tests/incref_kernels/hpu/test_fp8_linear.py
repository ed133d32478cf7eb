"""Training a linear layer: both ways are the products that the contracts give, of codes that they give."""

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from incref.conformance.judge import assert_same_bits
from incref.errors import UnsupportedError
from incref.formats import QuotientDtype, ScaleArithmetic
from incref.formats.gaudi import GAUDI
from incref.ops import decode, fp8_matmul, quantize_float
from incref_kernels.hpu.fp8_linear import LinearScales, fp8_linear
from incref_kernels.hpu.simulator.simulate import simulate

E5M2 = "float8_e5m2"
SCALES = LinearScales(
    x=torch.tensor(0.013),
    w=torch.tensor(0.0021),
    x_back=torch.tensor(0.37),
    w_back=torch.tensor(0.11),
    grad=torch.tensor(1.3),
)


class Called(TorchDispatchMode):
    """Keeps which of Gaudi's operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        if func.namespace == "hpu":
            self.operators.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes_of(x: Tensor, fmt: str, scale: Tensor) -> Tensor:
    """What a cast of Gaudi gives."""
    return quantize_float(x, fmt, scale, arithmetic=ScaleArithmetic.RECIPROCAL, quotient=QuotientDtype.INPUT)[0]


def both_ways(x: Tensor, w: Tensor, bias: Tensor, grad: Tensor, e4m3: str) -> tuple[Tensor, ...]:
    """The same in references, one product after the other."""
    dtype, s = x.dtype, SCALES
    rows, back = x.flatten(0, -2), grad.flatten(0, -2)
    formats = {"x_fmt": e4m3, "w_fmt": e4m3, "dtype": dtype}
    y = fp8_matmul(codes_of(rows, e4m3, s.x), codes_of(w, e4m3, s.w), s.x, s.w, bias=bias, **formats)
    g, x_back, w_back = codes_of(back, E5M2, s.grad), codes_of(rows, E5M2, s.x_back), codes_of(w, E5M2, s.w_back)
    formats = {"x_fmt": E5M2, "w_fmt": E5M2, "dtype": dtype}
    of_x = fp8_matmul(g, w_back.T, s.grad, s.w_back, **formats)
    of_w = fp8_matmul(g.T, x_back.T, s.grad, s.x_back, **formats)
    of_bias = (decode(g, E5M2, dtype=torch.float64).sum(0).float() * s.grad).to(dtype)
    return y.view(*x.shape[:-1], -1), of_x.view(x.shape), of_w, of_bias


@pytest.mark.parametrize("mode", ["lazy", "eager", "compile"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("chip", GAUDI)
def test_both_ways_are_products_of_codes(chip: str, dtype: torch.dtype, mode: str) -> None:
    x, w, bias = (draw(*shape, seed=seed).to(dtype) for seed, shape in enumerate(((2, 5, 24), (7, 24), (7,))))
    grad = (draw(2, 5, 7, seed=3) * 100).to(dtype)
    for tensor in (x, w, bias):
        tensor.requires_grad_()
    with simulate(chip, mode=mode), Called() as called:
        y = fp8_linear(x, w, bias, SCALES)
        y.backward(grad)
    want = both_ways(x.detach(), w.detach(), bias.detach(), grad, GAUDI[chip].e4m3.name)
    for found, right in zip((y.detach(), x.grad, w.grad, bias.grad), want, strict=True):
        assert found is not None
        assert_same_bits(found, right)
    forward = ["cast_to_fp8_hybrid", "cast_to_fp8_hybrid", "fp8_gemm_v2"]
    assert called.operators == [*forward, "cast_to_fp8_v2", "fp8_gemm_v2", "fp8_gemm_v2", "sum_fp8"]


@pytest.mark.parametrize("chip", GAUDI)
def test_what_all_formats_hold_is_what_pytorch_computes(chip: str) -> None:
    """E5M2 holds -3 to 3 and E4M3 too, and sums of their products are exact everywhere."""
    generator = torch.Generator().manual_seed(0)
    x, w, bias, grad = (
        torch.randint(-3, 4, shape, generator=generator).float() for shape in ((6, 9), (4, 9), (4,), (6, 4))
    )
    one = torch.ones(())
    scales = LinearScales(x=one, w=one, x_back=one, w_back=one, grad=one)
    found = [tensor.clone().requires_grad_() for tensor in (x, w, bias)]
    want = [tensor.clone().requires_grad_() for tensor in (x, w, bias)]
    with simulate(chip):
        y = fp8_linear(*found, scales)
        y.backward(grad)
    right = F.linear(*want)
    right.backward(grad)
    assert torch.equal(y, right)
    for mine, theirs in zip(found, want, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad)


def test_only_gradients_that_are_asked_for_are_computed() -> None:
    x, w = draw(3, 8), draw(4, 8, seed=1).requires_grad_()
    with simulate("gaudi3"), Called() as called:
        fp8_linear(x, w, None, SCALES).sum().backward()
    assert called.operators.count("fp8_gemm_v2") == 2
    assert "sum_fp8" not in called.operators
    assert x.grad is None


def test_a_layer_learns() -> None:
    """A weight that makes an output of the input is found again, as far as its codes reach."""
    x, right = draw(64, 8), draw(4, 8, seed=1)
    w = torch.zeros(4, 8, requires_grad=True)
    scales = LinearScales(
        **dict.fromkeys(("x", "w", "x_back", "w_back"), torch.tensor(2.0**-4)), grad=torch.tensor(2.0**-10)
    )
    losses = []
    with simulate("gaudi2"):
        for _ in range(60):
            loss = (fp8_linear(x, w, None, scales) - x @ right.T).square().mean()
            losses.append(loss.item())
            (step,) = torch.autograd.grad(loss, [w])
            w.data -= step
    assert losses[-1] < losses[0] / 100


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(2, 7)}, ValueError, r"got \(2, 7\), \(4, 8\) and \(4,\)"),
        ({"bias": torch.ones(3)}, ValueError, r"got \(2, 8\), \(4, 8\) and \(3,\)"),
        (
            {"x": torch.ones(2, 8).half()},
            TypeError,
            "must be all torch.float32 or all torch.bfloat16, got torch.float16",
        ),
        ({"w": torch.ones(4, 8).bfloat16()}, TypeError, "got torch.float32, torch.bfloat16, torch.float32"),
        ({"scales": torch.ones(1)}, ValueError, r"the scale grad must have the shape \(\), got \(1,\)"),
        ({"scales": torch.ones(()).double()}, TypeError, "the scale grad must be torch.float32, got torch.float64"),
        ({"x": torch.ones(2, 8, device="meta")}, UnsupportedError, "x must be on cpu, got meta"),
    ],
)
def test_what_is_wrong_is_refused(change: dict[str, Tensor], error: type[Exception], message: str) -> None:
    tensors = {"x": torch.ones(2, 8), "w": torch.ones(4, 8), "bias": torch.ones(4), "scales": torch.ones(()), **change}
    one = torch.ones(())
    scales = LinearScales(x=one, w=one, x_back=one, w_back=one, grad=tensors["scales"])
    with simulate("gaudi2"), pytest.raises(error, match=message):
        fp8_linear(tensors["x"], tensors["w"], tensors["bias"], scales)


def test_without_a_gaudi_or_a_simulation_it_says_so() -> None:
    with pytest.raises(UnsupportedError, match="backend 'hpu' can't compute this: habana_frameworks is not installed"):
        fp8_linear(torch.ones(2, 8), torch.ones(4, 8), None, SCALES)
