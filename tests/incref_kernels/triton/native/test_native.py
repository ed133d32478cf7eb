from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

from incref.errors import FlushDenormalError, UnsupportedError
from incref_kernels.llvm import engine
from incref_kernels.triton.native import triton_internals
from incref_kernels.triton.native.install import installed
from incref_kernels.triton.native.native import native


@triton.jit
def where_kernel(out, nx, ny):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    size = tl.num_programs(0) * 10000 + tl.num_programs(1) * 100 + tl.num_programs(2)
    tl.store(out + (z * ny + y) * nx + x, size)


@pytest.mark.parametrize("grid", [(5,), (5, 3), (5, 3, 2)])
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_program_runs(grid: tuple[int, ...], seed: int | None, threads: int) -> None:
    nx, ny, nz = (*grid, 1, 1)[:3]
    out = torch.zeros(nx * ny * nz, dtype=torch.int32)
    native(where_kernel, seed=seed, threads=threads)[grid](out, nx, ny)
    assert set(out.tolist()) == {nx * 10000 + ny * 100 + nz}


@triton.jit
def order_kernel(counter, out):
    tl.store(out + tl.program_id(0), tl.atomic_add(counter, 1))


def test_a_seed_shuffles_the_order() -> None:
    found = []
    for seed in (None, 1, 1, 2):
        out = torch.zeros(64, dtype=torch.int32)
        native(order_kernel, seed=seed, threads=1)[64](torch.zeros(1, dtype=torch.int32), out)
        found.append(out.tolist())
    assert found[0] == list(range(64))
    assert found[1] == found[2] != found[3]
    assert sorted(found[3]) == list(range(64))


@triton.jit
def arguments_kernel(out, pair, maybe, flag, small, half, SCALE: tl.constexpr, N: tl.constexpr = 64):
    at = tl.arange(0, N)
    value = tl.load(pair[0] + at) * pair[1] + SCALE + small
    if maybe is not None:
        value += tl.load(maybe + at)
    if flag:
        value = -value
    tl.store(out + at, value + half)


def test_arguments_of_every_kind() -> None:
    x = torch.arange(64).float()
    for maybe in (None, torch.ones(64)):
        for flag in (False, True):
            out = torch.zeros(64)
            native(arguments_kernel)[(1,)](out, (x, 5), maybe, flag, -3, 0.5, SCALE=2)
            want = x * 5 + 2 - 3 + (0 if maybe is None else 1)
            assert torch.equal(out, (-want if flag else want) + 0.5)


@triton.jit
def big_kernel(out, big, one):
    tl.store(out, big)
    tl.store(out + 1, big + one)


def test_integers_beyond_32_bits_and_specialized_ones() -> None:
    out = torch.zeros(2, dtype=torch.int64)
    native(big_kernel)[1](out, 1 << 40, 1)
    assert out.tolist() == [1 << 40, (1 << 40) + 1]


@triton.autotune(configs=[triton.Config({"N": 128}), triton.Config({"N": 64})], key=[])
@triton.heuristics({"DOUBLED": lambda given: given["N"] * 2})
@triton.jit
def tuned_kernel(out, N: tl.constexpr, DOUBLED: tl.constexpr):
    tl.store(out, N)
    tl.store(out + 1, DOUBLED)


def test_autotune_takes_its_first_configuration_and_heuristics_are_evaluated() -> None:
    out = torch.zeros(2, dtype=torch.int32)
    native(tuned_kernel)[lambda given: (given["N"] // given["N"],)](out)
    assert out.tolist() == [128, 256]


@triton.autotune(
    configs=[triton.Config({"N": n}, pre_hook=lambda given: given["out"].fill_(given["N"])) for n in (256, 128, 64)],
    key=[],
    prune_configs_by={
        "early_config_prune": lambda configs, named, **given: (
            config for config in configs if config.kwargs["N"] <= min(named["out"].numel(), given["most"])
        )
    },
)
@triton.jit
def pruned_kernel(out, most, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(out + at) + 1, mask=(at < 2) & (at < most))


def pruned_launches() -> dict[str, Callable[..., object]]:
    return {"native": native(pruned_kernel)[1], "installed": pruned_kernel[1,]}


@pytest.mark.parametrize("way", pruned_launches())
def test_pruning_comes_first_and_the_hook_of_the_configuration_runs(way: str) -> None:
    out = torch.zeros(128, dtype=torch.int32)
    with installed():
        pruned_launches()[way](out, most=1000)
        assert out.tolist() == [129] * 2 + [128] * 126
        pruned_launches()[way](out, most=100)
        assert out.tolist() == [65] * 2 + [64] * 126


def test_pruning_that_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="pruning leaves none of the 3 configurations"):
        native(pruned_kernel)[1](torch.zeros(128), most=1)


def test_what_a_call_gives_stays() -> None:
    out = torch.zeros(2, dtype=torch.int32)
    native(tuned_kernel)[1](out, N=32)
    assert out.tolist() == [32, 64]


@triton.jit
def descriptor_kernel(source, target, M: tl.constexpr):
    block = source.load([tl.program_id(0) * M, 0])
    target.store([tl.program_id(0) * M, 0], block + 1)


def test_tensor_descriptors() -> None:
    from triton.tools.tensor_descriptor import TensorDescriptor

    x = torch.arange(40 * 32).view(40, 32).float()
    y = torch.zeros_like(x)
    source, target = (TensorDescriptor.from_tensor(tensor, [16, 32]) for tensor in (x, y))
    native(descriptor_kernel)[3](source, target, M=16)
    assert torch.equal(y, x + 1)


@triton.jit
def add_one_kernel(x, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(x + at, tl.load(x + at) + 1)


def test_a_second_process_loads_what_the_first_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(64)
    native(add_one_kernel, directory=tmp_path)[1](x, N=64)
    monkeypatch.setattr(engine, "build", lambda text, **_: pytest.fail(f"compiled again: {text[:40]}"))
    native(add_one_kernel, directory=tmp_path)[1](x, N=64)
    assert x.tolist() == [2.0] * 64


def test_another_constant_or_type_is_another_entry(tmp_path: Path) -> None:
    kernel = native(add_one_kernel, directory=tmp_path)
    for n, dtype in ((64, torch.float32), (32, torch.float32), (64, torch.int32)):
        x = torch.zeros(64, dtype=dtype)
        kernel[64 // n](x, N=n)
        assert x.tolist() == [1] * 64
    assert len(list(tmp_path.iterdir())) == 3


def test_a_tensor_elsewhere_is_refused() -> None:
    with pytest.raises(TypeError, match="native kernels take CPU tensors, got one on meta"):
        native(add_one_kernel)[1](torch.zeros(64, device="meta"), N=64)


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a function decorated with triton\.jit, got function"):
        native(lambda: None)


def test_a_grid_has_at_most_three_axes() -> None:
    with pytest.raises(ValueError, match="one to three axes, got 4"):
        native(add_one_kernel)[1, 1, 1, 1](torch.zeros(64), N=64)


def test_an_empty_grid_runs_nothing() -> None:
    x = torch.zeros(64)
    native(add_one_kernel)[0](x, N=64)
    assert not x.any()


def test_a_thread_that_flushes_subnormals_is_refused() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        with pytest.raises(FlushDenormalError, match=r"call torch\.set_flush_denormal\(False\)"):
            native(add_one_kernel, threads=1)[1](torch.zeros(64), N=64)
    finally:
        torch.set_flush_denormal(False)


def test_an_unknown_version_of_triton_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "__version__", "4.0.1")
    with pytest.raises(
        UnsupportedError, match=r"tried with Triton 3\.6 to 3\.9, got 4\.0\.1: pip install 'triton>=3\.6,<3\.10'"
    ):
        triton_internals.check_version()


def test_elementwise_kernels_have_no_meetings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts: list[str] = []
    build = engine.build
    monkeypatch.setattr(engine, "build", lambda text, **options: texts.append(text) or build(text, **options))
    native(add_one_kernel, directory=tmp_path)[1](torch.zeros(64), N=64)
    assert texts[0].count("define internal i32 @region.") == 1
