"""Run Triton kernels on the CPU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from incref_kernels.triton.native import engine, triton_internals
from incref_kernels.triton.native.compiled import CompiledKernel, default_threads
from incref_kernels.triton.native.host.program import host_module
from incref_kernels.triton.native.host.retarget import retarget
from incref_kernels.triton.native.llir.parse_module import parse_module
from incref_kernels.triton.native.worker import Layout

__all__ = ["Native", "native"]

_Grid = Sequence[int] | Callable[[Mapping[str, object]], Sequence[int]] | int


@dataclass(frozen=True, kw_only=True)
class _Options:
    arch: str
    threads: int
    seed: int | None
    fused: bool


class Native:
    """A Triton kernel whose launches run on the CPU."""

    def __init__(self, kernel: object, options: _Options) -> None:
        self.kernel, self._steps = triton_internals.unwrap(kernel)
        self._options = options
        self._compiled: dict[str, CompiledKernel] = {}

    def __getitem__(self, grid: _Grid) -> Callable[..., None]:
        """Choose the grid: one to three sizes, or a function from the arguments by name to them."""
        return lambda *args, **kwargs: self._launch(grid, args, kwargs)

    def _launch(self, grid: _Grid, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        names = self.kernel.arg_names
        for step in self._steps:
            kwargs.update(step({**dict(zip(names, args, strict=False)), **kwargs}))
        binding = triton_internals.bind(self.kernel, self._options.arch, args, kwargs)
        key = f"{binding.specialization}{binding.options}"
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._compile(binding, kwargs)
        sizes = grid(binding.arguments) if callable(grid) else grid
        compiled.launch(
            (sizes,) if isinstance(sizes, int) else sizes,
            list(binding.arguments.values()),
            threads=self._options.threads,
            seed=self._options.seed,
        )

    def _compile(self, binding: triton_internals.Binding, kwargs: dict[str, object]) -> CompiledKernel:
        options = self._options
        given = {"debug": bool(self.kernel.debug), **kwargs, "enable_fp_fusion": options.fused}
        lowered = triton_internals.lower(self.kernel, options.arch, binding, given)
        host = retarget(parse_module(lowered.text), arch=options.arch, fused=options.fused)
        text = host_module(host, waves=lowered.num_warps)
        return CompiledKernel(
            name=self.kernel.fn.__name__,
            signature=lowered.signature,
            parameters=host.parameters,
            layout=Layout(waves=lowered.num_warps, shared=lowered.shared, frame=host.frame_bytes),
            sites=host.sites,
            loaded=engine.load(engine.build(text)),
        )


def native(
    kernel: object, *, arch: str = "gfx942", threads: int | None = None, seed: int | None = None, fused: bool = False
) -> Native:
    """Make a kernel that runs on the CPU, compiled, without a GPU.

    Args:
        kernel: a function decorated with `triton.jit`; of `triton.autotune` the first configuration is taken,
            `triton.heuristics` are evaluated.
        arch: the GPU whose lowering is run.
        threads: how many threads run programs; all cores by default.
        seed: shuffles the order of the programs; None for ascending.
        fused: whether `a * b + c` may be rounded once.

    Returns:
        What is launched as the kernel would be: `native(kernel)[grid](*args, **meta)`, with CPU tensors.

    Raises:
        UnsupportedError: if Triton or llvmlite is missing or of a version that is not known, or the kernel needs
            something that has no known meaning on the host.
    """
    options = _Options(arch=arch, threads=threads or default_threads(), seed=seed, fused=fused)
    return Native(kernel, options)
