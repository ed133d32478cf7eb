import torch

from incref.export.processor import saturates


def test_the_answer_is_that_of_the_instructions() -> None:
    """A processor with VNNI, or one of another kind than x86, adds in 32 bits."""
    has_vnni = torch.cpu._is_vnni_supported() if torch.backends.cpu.get_cpu_capability().startswith("AVX") else True
    assert saturates() == (not has_vnni)
