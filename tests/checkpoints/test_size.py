from pathlib import Path

from torch import nn

from incref.checkpoints.size import ModelSize, file_bytes, measure_size
from incref.config.schemes import SCHEMES
from incref.workflow.convert import convert
from incref.workflow.save import save


def test_float_model_has_32_bits() -> None:
    size = measure_size(nn.Linear(64, 8))
    assert size == ModelSize(weight_elements=0, weight_bytes=0, elements=520, bytes=2080)
    assert size.bits_per_weight == size.bits_per_parameter == 32.0


def test_scales_count() -> None:
    # 64 x 8 codes of 4 bits and 16 scales of 8 bits; 8 biases of 32.
    size = measure_size(convert(nn.Sequential(nn.Linear(64, 8)), SCHEMES["mxfp4"]))
    assert size == ModelSize(weight_elements=512, weight_bytes=256 + 16, elements=520, bytes=272 + 32)
    assert size.bits_per_weight == 4.25


def test_zero_points_count() -> None:
    # 8 rows of one group of 64: codes of 4 bits, float32 scales, and zero points of 4 bits, each row of them a byte.
    size = measure_size(convert(nn.Sequential(nn.Linear(64, 8, bias=False)), SCHEMES["int4_asym_g128"]))
    assert size.weight_bytes == 256 + 8 * 4 + 8


def test_shared_tensors_count_once() -> None:
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    head.weight = embedding.weight
    assert measure_size(nn.Sequential(embedding, head)).elements == 40


def test_file_holds_these_bytes_and_a_header(tmp_path: Path) -> None:
    model = convert(nn.Sequential(nn.Linear(64, 8)), SCHEMES["nvfp4"])
    save(model, tmp_path / "saved")
    data = (tmp_path / "saved" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    assert file_bytes(tmp_path / "saved") == len(data) == header + measure_size(model).bytes


def test_model_of_no_tensors_has_no_bits() -> None:
    assert measure_size(nn.ReLU()).bits_per_weight == 0.0
