"""Compiles what a call launches."""

from collections.abc import Iterator
from dataclasses import replace

import torch
import triton
from torch import Tensor
from triton.compiler import ASTSource

from conformance.aot.builds import Build
from conformance.aot.machine_code import Code, read_code
from conformance.aot.targets import AotTarget
from incref_kernels.triton.launch import Launch, recording
from incref_kernels.triton.targets import assuming

__all__ = ["compile_for", "compile_launch", "launches_of"]

_POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.float8_e5m2: "*fp8e5",
    torch.float8_e4m3fnuz: "*fp8e4b8",
    torch.float8_e5m2fnuz: "*fp8e5b16",
}
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
_ALIGNED = 16
_LARGE = 1 << 16


def launches_of(build: Build, target: AotTarget) -> list[Launch]:
    """Find what a call launches on a target."""
    with assuming(target.launched_on), recording() as launches:
        build.call()
    return launches


def compile_for(build: Build, target: AotTarget, known: dict[str, Code]) -> Iterator[tuple[str, Code]]:
    """Compile what a call launches, with the name of each kernel; what several calls launch is compiled once.

    Args:
        build: the call.
        target: to compile for.
        known: the code of what was compiled before, by its source and options.
    """
    seen: set[str] = set()
    for launch in launches_of(build, target):
        source, options = _source(launch, target), _options(launch)
        what = f"{target.gpu} {source.fn.__name__} {source.signature} {source.constants} {source.attrs} {options}"
        if what in seen:
            continue
        seen.add(what)
        if what not in known:
            known[what] = compile_launch(launch, target, products=build.products, is_streaming=build.is_streaming)
        yield source.fn.__name__, replace(known[what], faults=list(known[what].faults))


def compile_launch(launch: Launch, target: AotTarget, *, products: str | None, is_streaming: bool) -> Code:
    """Compile a kernel for the arguments that it is launched with; see `Build`."""
    options = _options(launch)
    return read_code(
        triton.compile(_source(launch, target), target=target.gpu, options=options),
        target,
        warps=int(str(options["num_warps"])),
        products=products if "BLOCK_K" in launch.options else None,
        is_streaming=is_streaming and _is_streaming(launch),
    )


def _options(launch: Launch) -> dict[str, object]:
    """What the compiler is told beside the constants."""
    return {name: launch.options[name] for name in _OPTIONS if name in launch.options}


def _is_streaming(launch: Launch) -> bool:
    """Whether it goes through a tensor once, and not only through what was found of one."""
    is_large = any(isinstance(each, Tensor) and each.numel() >= _LARGE for each in launch.args)
    return is_large and "BLOCK_K" not in launch.options


def _source(launch: Launch, target: AotTarget) -> ASTSource:
    """Give what the compiler takes for arguments as they are: Triton's own specialization of them."""
    kernel = launch.kernel
    names = kernel.arg_names
    given: dict[str, object] = dict(zip(names, launch.args, strict=False))
    given |= {name: value for name, value in launch.options.items() if name in names}
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(names):
        value = given[name]
        if isinstance(value, Tensor):
            signature[name] = _POINTERS[value.dtype]
            facts = [["tt.divisibility", _ALIGNED]] if value.data_ptr() % _ALIGNED == 0 else []
            if not target.is_nvidia:
                # The tensor is smaller than 2 GiB.
                facts.append(["tt.pointer_range", 32])
            if facts:
                attributes[place,] = facts
        elif type(value) is int and value != 1 and name not in launch.options:
            signature[name] = "i32"
            if value % _ALIGNED == 0:
                attributes[place,] = [["tt.divisibility", _ALIGNED]]
        else:
            signature[name], constants[name] = "constexpr", value
    return ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
