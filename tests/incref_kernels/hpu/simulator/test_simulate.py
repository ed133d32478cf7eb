"""The operators are there on request only, with the signatures of the vendor's software."""

import importlib.machinery
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from enum import Enum
from pathlib import Path

import pytest
import torch

from incref.errors import UnsupportedError
from incref_kernels.hpu.simulator import simulate as module
from incref_kernels.hpu.simulator.profile import PROFILES, HpuProfile
from incref_kernels.hpu.simulator.schemas import NOT_SIMULATED, SCHEMAS
from incref_kernels.hpu.simulator.simulate import active, simulate

CAST = "bool stochastic_rounding=False, bool is_amax=False, ScalarType? dtype=None, int[]? scale_shape=None"
# Typed here once more, as the vendor's software registers them.
PINNED = {
    "cast_to_fp8": "(Tensor input, Tensor? scale, bool stochastic_rounding, Tensor(a!) out, Tensor(b!) amax) -> "
    "(Tensor(a!), Tensor(b!))",
    "cast_to_fp8_v2": f"(Tensor input, Tensor? scale=None, {CAST}) -> (Tensor, Tensor)",
    "cast_to_fp8_v2.scalar": f"(Tensor input, float scale, {CAST}) -> (Tensor, Tensor)",
    "cast_to_fp8_v2.scalar_list": f"(Tensor input, float[] scale, {CAST}) -> (Tensor, Tensor)",
    "cast_to_fp8_hybrid": "(Tensor input, Tensor? scale_152=None, Tensor? scale_143=None, bool "
    "stochastic_rounding=False, bool is_amax=False) -> (Tensor, Tensor, Tensor)",
    "cast_from_fp8": "(Tensor input, Tensor? scale, ScalarType out_dtype, int[]? scale_shape=None) -> Tensor",
    "cast_from_fp8.scalar": "(Tensor input, float scale, ScalarType out_dtype, int[]? scale_shape=None) -> Tensor",
    "cast_from_fp8.scalar_list": "(Tensor input, float[] scale, ScalarType out_dtype, int[]? scale_shape=None) -> "
    "Tensor",
    "fp8_gemm": "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor D, ScalarType out_dtype, Tensor? A_scale_inv, "
    "Tensor? B_scale_inv, Tensor? bias, bool accumulate, Tensor(a!) out) -> Tensor(a!)",
    "fp8_gemm_v2": "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, Tensor? "
    "A_scale_inv=None, Tensor? B_scale_inv=None, Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None) "
    "-> Tensor",
    "fp8_gemm_v2.scalar": "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, float "
    "A_scale_inv, float B_scale_inv, Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None) -> Tensor",
    "fp8_gemm_v2.scalar_list": "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, "
    "float[] A_scale_inv, float[] B_scale_inv, Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None) -> "
    "Tensor",
    "conv2d_fp8": "(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0, SymInt[2] "
    "dilation=1, int groups=1, ScalarType? out_dtype=None, Tensor? scale_input=None, Tensor? scale_weight=None) -> "
    "Tensor",
    "conv2d_fp8.scalar": "(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0, "
    "SymInt[2] dilation=1, int groups=1, ScalarType? out_dtype=None, float scale_input=1.0, float scale_weight=1.0) -> "
    "Tensor",
    "sum_fp8": "(Tensor self, int[1]? dim=None, bool keepdim=False, ScalarType? out_dtype=None) -> Tensor",
    "softmax_fp8": "(Tensor input, int dim, Tensor? input_scale=None, Tensor? output_scale=None, Tensor? "
    "inv_attn_heads=None, Tensor? fused_add=None) -> Tensor",
    "softmax_fp8.Scalar_scales": "(Tensor input, int dim, float input_scale, float output_scale, Tensor? "
    "inv_attn_heads=None, Tensor? fused_add=None) -> Tensor",
    "softmax_fp8.Scalar": "(Tensor input, int dim, float input_scale, float output_scale, float inv_attn_heads, "
    "Tensor? fused_add=None) -> Tensor",
    "convert_from_uint4": "(Tensor input, Tensor scale, Tensor? zero_point, ScalarType out_dtype) -> Tensor",
    "convert_from_int4": "(Tensor input, Tensor scale, Tensor? zero_point, ScalarType out_dtype) -> Tensor",
}


def registered(name: str) -> str:
    op, _, overload = name.partition(".")
    return str(getattr(getattr(torch.ops.hpu, op), overload or "default")._schema)


def test_every_signature_is_the_vendors() -> None:
    assert {name: SCHEMAS[name] for name in PINNED} == PINNED
    assert set(SCHEMAS) == set(PINNED)
    with simulate("gaudi2"):
        for name, signature in PINNED.items():
            wanted = torch._C.parse_schema(f"hpu::{name}{signature}")
            assert registered(name) == str(wanted)
        assert not any(hasattr(torch.ops.hpu, name) for name in NOT_SIMULATED)


def test_newer_software_takes_groups() -> None:
    with simulate("gaudi3", has_group_index=True):
        for name in ("convert_from_uint4", "convert_from_int4"):
            assert registered(name).endswith("ScalarType out_dtype, Tensor? group_index=None) -> Tensor")


def test_operators_are_there_until_the_block_ends() -> None:
    with simulate("gaudi2"):
        assert hasattr(torch.ops.hpu, "cast_to_fp8_v2")
    assert active() is None
    assert not hasattr(torch.ops.hpu, "cast_to_fp8_v2")


def test_an_inner_chip_replaces_the_outer_one_until_it_ends() -> None:
    def largest() -> int:
        x = torch.tensor([1e4])
        return int(torch.ops.hpu.cast_to_fp8_v2(x, None, False, False, torch.float8_e4m3fn)[0].view(torch.uint8))

    with simulate("gaudi2"):
        assert largest() == 0x77
        with simulate("gaudi3"):
            assert largest() == 0x7E
        assert largest() == 0x77


def test_operators_go_if_the_block_fails() -> None:
    with pytest.raises(ValueError, match="needs a dtype"), simulate("gaudi2"):
        torch.ops.hpu.cast_to_fp8_v2(torch.ones(1))
    assert active() is None


def test_shapes_are_known_without_values() -> None:
    with simulate("gaudi2"):
        codes, amax = torch.ops.hpu.cast_to_fp8_v2(
            torch.empty(3, 4, device="meta"), None, False, True, torch.float8_e5m2
        )
        assert (codes.shape, codes.dtype, amax.shape) == ((3, 4), torch.float8_e5m2, ())
        y = torch.ops.hpu.fp8_gemm_v2(codes, False, codes, True, None, torch.bfloat16)
        assert (y.shape, y.dtype) == ((3, 3), torch.bfloat16)
        words = torch.empty(6, 2, dtype=torch.int32, device="meta")
        assert torch.ops.hpu.convert_from_uint4(words, amax, None, torch.bfloat16).shape == (6, 16)


def of_every_operator() -> dict[str, tuple[object, ...]]:
    """Arguments of each overload."""
    x, weight = torch.randn(2, 6, 16), torch.randn(8, 16)
    a, b = x.to(torch.float8_e4m3fn), weight.to(torch.float8_e4m3fn)
    image, filters = torch.ones(2, 4, 5, 6).to(torch.float8_e5m2), torch.ones(8, 2, 3, 2).to(torch.float8_e5m2)
    words, scale, zeros = torch.zeros(6, 2, dtype=torch.int32), torch.ones(3, 16), torch.zeros(3, 2, dtype=torch.int32)
    one, half, codes = torch.ones(()), torch.bfloat16, torch.float8_e5m2
    product, geometry = (a, False, b, True, None, half), ([2, 1], [1, 0], [1, 2], 2, half)
    out, amax = torch.empty(2, 6, 16, dtype=codes), torch.empty(())
    return {
        "cast_to_fp8": (x, one, False, out, amax),
        "cast_to_fp8_v2": (x, one, False, True, codes),
        "cast_to_fp8_v2.scalar": (x, 2.0, False, False, codes),
        "cast_to_fp8_v2.scalar_list": (x, [2.0] * 16, False, False, codes, [1, 16]),
        "cast_to_fp8_hybrid": (x, one, one, False, True),
        "cast_from_fp8": (a, one, half),
        "cast_from_fp8.scalar": (a, 2.0, half),
        "cast_from_fp8.scalar_list": (a, [2.0] * 16, half, [1, 16]),
        "fp8_gemm": (*product[:4], one, half, one, one, None, False, torch.empty(2, 6, 8, dtype=half)),
        "fp8_gemm_v2": (*product, one, torch.ones(8), torch.ones(8)),
        "fp8_gemm_v2.scalar": (*product, 2.0, 2.0),
        "fp8_gemm_v2.scalar_list": (*product, [2.0], [2.0] * 8, None, False, [1, 8]),
        "conv2d_fp8": (image, filters, torch.ones(8), *geometry, one, one),
        "conv2d_fp8.scalar": (image, filters, torch.ones(8), *geometry, 2.0, 2.0),
        "sum_fp8": (a, [0, -1], True, half),
        "softmax_fp8": (x, -1, one, one),
        "softmax_fp8.Scalar_scales": (x, -1, 1.0, 2.0),
        "softmax_fp8.Scalar": (x, -1, 1.0, 2.0, 0.5, torch.ones(6, 16)),
        "convert_from_uint4": (words, scale, zeros, half),
        "convert_from_int4": (words, scale, None, codes),
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_operator_tells_the_shape_of_what_it_computes(name: str) -> None:
    arguments = of_every_operator()[name]
    empty = [one.to("meta") if isinstance(one, torch.Tensor) else one for one in arguments]
    op, _, overload = name.partition(".")
    with simulate("gaudi2"):
        call = getattr(getattr(torch.ops.hpu, op), overload or "default")
        pairs = [found if isinstance(found, tuple) else (found,) for found in (call(*arguments), call(*empty))]
    for real, meta in zip(*pairs, strict=True):
        assert meta.is_meta
        assert (real.shape, real.dtype) == (meta.shape, meta.dtype)


def test_real_operators_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_real_operators", lambda: True)
    with pytest.raises(UnsupportedError, match="the operators of Gaudi are there"), simulate("gaudi2"):
        pass


def test_installed_software_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.machinery.ModuleSpec("habana_frameworks", None)
    monkeypatch.setattr(module, "find_spec", lambda _: spec)
    for name in ("habana_frameworks", "habana_frameworks.torch", "habana_frameworks.torch.core"):
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    assert module.has_real_operators()


def test_importing_the_package_registers_nothing() -> None:
    code = "import torch, incref_kernels.hpu; print(hasattr(torch.ops.hpu, 'cast_to_fp8_v2'))"
    for chip, wanted in (("", "False"), ("gaudi3", "True"), ("Gaudi2", "True")):
        found = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "INCREF_HPU_SIMULATOR": chip},
        )
        assert found.stdout.strip() == wanted


def test_what_is_no_chip_is_refused() -> None:
    with (
        pytest.raises(UnsupportedError, match="the simulated chips are gaudi2, gaudi3, got 'gaudi'"),
        simulate("gaudi"),
    ):
        pass
    with pytest.raises(ValueError, match="chip must be one of gaudi2, gaudi3, got 'x'"):
        HpuProfile(chip="x")
    for name in ("mme_e4m3", "from_e4m3"):
        with pytest.raises(ValueError, match=f"{name} must be one of None, float8_e4m3, float8_e4m3fn, got 'fnuz'"):
            HpuProfile(chip="gaudi2", **{name: "fnuz"})
    with (
        pytest.raises(ValueError, match="mode must be lazy, eager, compile, got 'fast'"),
        simulate("gaudi2", mode="fast"),
    ):
        pass


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.chip)
def test_a_profile_says_how_its_chip_adds(profile: HpuProfile) -> None:
    assert profile.accumulator.group == {"gaudi2": 16, "gaudi3": 8}[profile.chip]


def test_chips_differ_in_their_rows_alone() -> None:
    one, other = PROFILES.values()
    assert replace(one, chip=other.chip) == other
    assert (one.hardware.e4m3.qmax, other.hardware.e4m3.qmax) == (240.0, 448.0)
    assert [len(row.hardware.aligned_scales(row.hardware.e4m3)) for row in (one, other)] == [4, 64]
    assert one.accumulator != other.accumulator


def test_the_documentation_has_every_option_with_its_default_and_no_other() -> None:
    questions = (Path(__file__).parents[4] / "docs" / "hpu.md").read_text().split("## What is not known")[1]
    rows = re.findall(r"^\| [^|]+ \| `(\w+)`[^|]* \| ([^|]+) \|$", questions.split("\n## ")[0], re.MULTILINE)
    options = [field for field in fields(HpuProfile) if field.name != "chip"]
    assert [name for name, _ in rows] == [option.name for option in options]
    for (name, stated), option in zip(rows, options, strict=True):
        default = option.default
        if isinstance(default, Enum):
            assert stated.startswith(f"`{default.name}`"), name
        elif isinstance(default, bool):
            assert stated.startswith(str(default).lower()), name
        else:
            # The format is that of casts, which the row states in words.
            assert default is None, name
            assert stated.startswith({"from_e4m3": "Inf and NaN", "mme_e4m3": "numbers"}[name]), name


def test_no_other_source_asks_for_the_name_of_a_chip() -> None:
    sources = Path(module.__file__).parents[1].rglob("*.py")
    found = [source for source in sources if re.search("""chip(\\(\\))? *[!=]=""", source.read_text())]
    assert found == []
