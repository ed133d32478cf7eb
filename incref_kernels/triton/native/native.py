"""Run Triton kernels on the CPU."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from incref_kernels.llvm import engine
from incref_kernels.llvm.disk import cache_directory
from incref_kernels.triton.native import cache, triton_internals
from incref_kernels.triton.native.compiled import CompiledKernel, default_threads
from incref_kernels.triton.native.host.checks import Check
from incref_kernels.triton.native.host.program import host_module
from incref_kernels.triton.native.host.retarget import retarget
from incref_kernels.triton.native.llir.parse_module import parse_module
from incref_kernels.triton.native.worker import Layout

__all__ = ["Native", "NativeOptions", "native"]

Grid = Sequence[int] | Callable[[Mapping[str, object]], Sequence[int]] | int


@dataclass(frozen=True, kw_only=True)
class NativeOptions:
    """How kernels are compiled and run.

    Attributes:
        arch: the GPU whose lowering is run.
        threads: how many threads run programs.
        seed: shuffles the order of the programs; None for ascending.
        fused: whether `a * b + c` may be rounded once.
        optimize: whether the fastest code is looked for.
        checks: what is checked while a kernel runs.
        outputs: arguments that hold nothing before a launch.
        directory: where compiled kernels are kept; None keeps none.
    """

    arch: str
    threads: int
    seed: int | None
    fused: bool
    optimize: bool
    checks: frozenset[Check]
    outputs: tuple[str, ...]
    directory: Path | None


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Look for no cycles meanwhile: with PyTorch loaded one look takes longer than the retargeting of a kernel."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Native:
    """A Triton kernel whose launches run on the CPU."""

    def __init__(self, kernel: object, options: NativeOptions) -> None:
        self.kernel, self._steps = triton_internals.unwrap(kernel)
        self._options = options
        self._compiled: dict[str, CompiledKernel] = {}

    def __getitem__(self, grid: Grid) -> Callable[..., None]:
        """Choose the grid: one to three sizes, or a function from the arguments by name to them."""
        return lambda *args, **kwargs: self._launch(grid, args, kwargs)

    def _launch(self, grid: Grid, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        named = dict(zip(self.kernel.arg_names, args, strict=False))
        for step in self._steps:
            kwargs.update(step(named, kwargs))
        kwargs["debug"] = triton_internals.debugs(self.kernel, kwargs)
        binding = triton_internals.bind(self.kernel, self._options.arch, args, kwargs)
        key = triton_internals.key_of_call(binding)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = CompiledKernel.load(
                self._artifact(key, binding, kwargs), checks=self._options.checks
            )
        triton_internals.check_globals(self.kernel)
        sizes = grid(binding.arguments) if callable(grid) else grid
        compiled.launch(
            (sizes,) if isinstance(sizes, int) else sizes,
            binding.arguments,
            threads=self._options.threads,
            seed=self._options.seed,
            outputs=self._options.outputs,
        )

    def _artifact(self, key: str, binding: triton_internals.Binding, kwargs: dict[str, object]) -> cache.Artifact:
        options = self._options
        given = {**kwargs, "enable_fp_fusion": options.fused}
        if options.directory is None:
            return self._compile(binding, given)
        chosen = f"{options.arch} {options.fused} {options.optimize} {sorted(check.name for check in options.checks)}"
        versions = (triton_internals.check_version(), engine.host_description())
        name = cache.digest(triton_internals.key_of(self.kernel), key, chosen, *versions)
        found = cache.read(options.directory, name)
        if found is None:
            found = self._compile(binding, given)
            cache.write(options.directory, name, found)
        return found

    def _compile(self, binding: triton_internals.Binding, given: dict[str, object]) -> cache.Artifact:
        options = self._options
        lowered = triton_internals.lower(self.kernel, options.arch, binding, given)
        with _collection_paused():
            module = parse_module(lowered.text)
            host = retarget(module, arch=options.arch, fused=options.fused, checks=options.checks)
        return cache.Artifact(
            image=engine.build(host_module(host, waves=lowered.num_warps), optimize=options.optimize),
            name=self.kernel.fn.__name__,
            signature=lowered.signature,
            parameters=host.parameters,
            layout=Layout(
                waves=lowered.num_warps,
                shared=lowered.shared,
                frame=host.frame_bytes,
                watched=lowered.shared if Check.SHARED in options.checks else 0,
            ),
            sites=host.sites,
        )


def native(
    kernel: object,
    *,
    arch: str = triton_internals.DEFAULT_ARCH,
    threads: int | None = None,
    seed: int | None = None,
    fused: bool = False,
    optimize: bool = True,
    bounds: bool = False,
    writers: bool = False,
    shared: bool = False,
    outputs: Sequence[str] = (),
    nans: bool = False,
    directory: Path | None = None,
) -> Native:
    """Make a kernel that runs on the CPU, compiled, without a GPU.

    Args:
        kernel: a function decorated with `triton.jit`; of `triton.autotune` the first configuration that its pruning
            leaves is taken, what a call gives stays; `triton.heuristics` are evaluated.
        arch: the GPU whose lowering is run.
        threads: how many threads run programs; all cores by default.
        seed: shuffles the order of the programs; None for ascending.
        fused: whether `a * b + c` may be rounded once.
        optimize: whether to look for the fastest code; else what compiles soon. Both compute the same bits.
        bounds: fail at the first load or store outside of every tensor, and say where.
        writers: fail when two programs store to the same element, and say which.
        shared: fail when two lanes race for a byte of shared memory, and say which.
        outputs: arguments that hold nothing before a launch: fail when a load reads of them what nothing was stored to,
            or when an element of them is left out.
        nans: fail at the first operation that gives NaN of operands that are none, and say where. What a lane computes
            and throws away counts too; matrix products and conversions in integers are left out.
        directory: where compiled kernels are kept, `incref/triton-native` in the user's cache directory by default.

    Returns:
        What is launched as the kernel would be: `native(kernel)[grid](*args, **meta)`, with CPU tensors.

    Raises:
        UnsupportedError: if Triton or llvmlite is missing or of a version that is not known, or the kernel needs
            something that has no known meaning on the host.
    """
    wishes = {
        Check.BOUNDS: bounds,
        Check.WRITERS: writers,
        Check.SHARED: shared,
        Check.UNWRITTEN: bool(outputs),
        Check.NAN: nans,
    }
    options = NativeOptions(
        arch=arch,
        threads=threads or default_threads(),
        seed=seed,
        fused=fused,
        optimize=optimize,
        checks=frozenset(check for check, wanted in wishes.items() if wanted),
        outputs=tuple(outputs),
        directory=directory or cache_directory("triton-native"),
    )
    return Native(kernel, options)
