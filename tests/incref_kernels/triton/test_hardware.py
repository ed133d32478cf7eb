"""Formats that devices convert, with the instructions of the target that kernels for the CPU are compiled from."""

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("llvmlite")

from incref.conformance.samples import all_codes, all_patterns
from incref.formats import FORMATS, FloatFormat
from incref.ops import decode, encode, quantize_mx
from incref_kernels.triton import BACKEND
from incref_kernels.triton.hardware import HardwareFloat, converted, in_hardware
from incref_kernels.triton.targets import Target, assuming

_NAMES = ("float8_e4m3fn", "float8_e5m2")


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_float_becomes_the_code_of_the_reference(name: str, dtype: torch.dtype) -> None:
    x = all_patterns(dtype)
    assert torch.equal(BACKEND.kernels["encode"].fn(x, in_hardware(FORMATS[name])), encode(x, name))


@pytest.mark.parametrize("name", _NAMES)
def test_float32_becomes_the_code_of_the_reference(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-(1 << 31), 1 << 31, (1 << 20,), generator=generator).to(torch.int32).view(torch.float32)
    assert torch.equal(BACKEND.kernels["encode"].fn(x, in_hardware(FORMATS[name])), encode(x, name))


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_code_becomes_the_value_of_the_reference(name: str, dtype: torch.dtype) -> None:
    fmt = FORMATS[name]
    assert isinstance(fmt, FloatFormat)
    codes = all_codes(fmt)
    got, want = BACKEND.kernels["decode"].fn(codes, in_hardware(fmt), dtype=dtype), decode(codes, name, dtype=dtype)
    assert isinstance(got, torch.Tensor)
    assert torch.equal(got.view(torch.uint8), want.view(torch.uint8))


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2"])
def test_elements_of_blocks_are_those_of_the_reference(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 96, generator=generator) * torch.logspace(-44, 38, 64)[:, None]
    got = BACKEND.kernels["quantize_mx"].fn(x, in_hardware(FORMATS[name]))
    assert isinstance(got, tuple)
    assert all(torch.equal(one, other) for one, other in zip(got, quantize_mx(x, name), strict=True))


def test_what_no_device_converts_is_refused() -> None:
    with pytest.raises(ValueError, match="float8_e4m3fn and float8_e5m2, and blocks of them, got float6_e2m3fn"):
        in_hardware(FORMATS["float6_e2m3fn"])


def test_only_where_it_was_shown_to_be_right() -> None:
    fmt, device = FORMATS["float8_e4m3fn"], torch.device("cpu")
    assert converted(fmt, device) is fmt
    with assuming(Target(kind="cuda", arch="sm_89")):
        assert converted(fmt, device) is fmt
    with assuming(Target(kind="cuda", arch="sm_90")):
        assert isinstance(converted(fmt, device), HardwareFloat)
        assert converted(FORMATS["float6_e2m3fn"], device) is FORMATS["float6_e2m3fn"]
