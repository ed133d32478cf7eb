import torch

from incref.qtensor.straight_through import straight_through


def test_the_value_is_the_quantized_one_and_the_gradient_goes_through() -> None:
    x = torch.tensor([0.1, -3e38, 0.3], requires_grad=True)
    quantized = torch.tensor([0.125, 6.0, -0.0])
    y = straight_through(x, quantized)
    # x + (quantized - x) would not have these bits.
    assert torch.equal(y.view(torch.int32), quantized.view(torch.int32))
    y.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [1, 2, 3]


def test_nothing_is_recorded_without_a_gradient() -> None:
    quantized = torch.ones(2)
    assert straight_through(torch.zeros(2), quantized) is quantized
    x = torch.zeros(2, requires_grad=True)
    with torch.no_grad():
        assert not straight_through(x, quantized).requires_grad


def test_gradients_of_another_dtype_are_cast_back() -> None:
    x = torch.zeros(2, requires_grad=True)
    straight_through(x.to(torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype is torch.float32
