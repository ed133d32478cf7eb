import torch

from incref.calibration.seen import SeenTensor


def test_a_tensor_is_the_same_memory_until_it_is_written_to() -> None:
    x = torch.ones(2, 3)
    seen = SeenTensor.now(x)
    assert seen.is_still(x)
    assert seen.is_still(x.view(2, 3))
    assert not seen.is_still(x.clone())
    assert not seen.is_still(x[:1])
    assert not seen.is_still(x.view(3, 2))
    x += 1
    assert not seen.is_still(x)
    assert SeenTensor.now(x).is_still(x)


def test_nothing_is_known_of_what_is_empty_or_made_in_inference_mode() -> None:
    assert not SeenTensor.now(torch.ones(0)).is_still(torch.ones(0))
    with torch.inference_mode():
        x = torch.ones(2)
        assert not SeenTensor.now(x).is_still(x)
