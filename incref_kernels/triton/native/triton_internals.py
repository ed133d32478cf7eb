"""The parts of Triton that are not its public interface: all that this package touches of them is in this file.

Used: `create_function_from_signature` and `_pack_args` (how arguments become a signature and constants), the AMD
backend's stages up to LLVM IR, the knobs that turn buffer instructions and copies past registers off, and the classes
that autotune and heuristics wrap a kernel in; the active driver. Tried with Triton 3.6.0, 3.7.1, 3.8.0 and 3.9.0.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

import torch

from incref.errors import UnsupportedError

if TYPE_CHECKING:
    from triton.runtime.jit import JITFunction

__all__ = [
    "DEFAULT_ARCH",
    "Binding",
    "Lowered",
    "bind",
    "check_globals",
    "check_version",
    "debugs",
    "key_of",
    "key_of_call",
    "launches_replaced",
    "lower",
    "unwrap",
]

_Step = Callable[[dict[str, object], dict[str, object]], dict[str, object]]
_Bound = tuple[Mapping[str, object], Sequence[tuple[object, object]], Mapping[str, object]]
_Stage = Callable[[object, dict[str, object]], object]


class _Backend(Protocol):
    """What is called of a backend's compiler."""

    target: object

    def add_stages(self, stages: dict[str, _Stage], options: object, language: object) -> None: ...

    def load_dialects(self, context: object) -> None: ...

    def get_codegen_implementation(self, options: object) -> object: ...

    def get_module_map(self) -> dict[str, ModuleType]: ...


class _Configuration(Protocol):
    """One configuration of autotune."""

    pre_hook: Callable[[dict[str, object]], object] | None

    def all_kwargs(self) -> dict[str, object]: ...


class _Autotuner(Protocol):
    """What is read of a kernel that is autotuned."""

    fn: "JITFunction"
    arg_names: Sequence[str]
    configs: Sequence[_Configuration]
    early_config_prune: Callable[..., Iterable[_Configuration]] | None


class _Heuristics(Protocol):
    """What is read of a kernel with heuristics."""

    values: Mapping[str, Callable[[dict[str, object]], object]]


_OLDEST, _NEWEST = (3, 6), (3, 9)
_LANES = 64
DEFAULT_ARCH = "gfx942"


@dataclass(frozen=True, kw_only=True)
class Binding:
    """A call's arguments, as Triton sorts them.

    Attributes:
        arguments: by parameter, defaults applied.
        specialization: for each parameter its type and what is known of its value; what a compiled kernel depends on.
        options: keyword arguments that are no parameters (`num_warps`, ...).
    """

    arguments: Mapping[str, object]
    specialization: Sequence[tuple[object, object]]
    options: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A kernel as LLVM IR of the GPU.

    Attributes:
        text: the IR.
        num_warps: waves a program.
        shared: bytes of shared memory a program needs.
        scratch: bytes of global scratch memory a program needs.
        signature: the type of every parameter; tuples for tuples, `constexpr` for constants.
    """

    text: str
    num_warps: int
    shared: int
    scratch: int
    signature: tuple[object, ...]


def check_version() -> str:
    """Find out Triton's version.

    Raises:
        UnsupportedError: if it is missing, or too old or too new for this package.
    """
    try:
        import triton  # noqa: PLC0415 (its absence is an answer, not an error at import)
    except ImportError as error:
        raise UnsupportedError(
            "running Triton kernels natively needs Triton: pip install 'triton>=3.6,<3.10'"
        ) from error
    version: str = triton.__version__
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not _OLDEST <= found <= _NEWEST:
        raise UnsupportedError(
            "running Triton kernels natively is tried with Triton 3.6 to 3.9, "
            f"got {version}: pip install 'triton>=3.6,<3.10'"
        )
    return version


def _target(arch: str) -> object:
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415

    return GPUTarget("hip", arch, _LANES)


@cache
def _backend(arch: str) -> _Backend:
    check_version()
    from triton.compiler.compiler import make_backend  # noqa: PLC0415

    return cast("_Backend", make_backend(_target(arch)))


@cache
def _binder(kernel: "JITFunction", arch: str) -> Callable[..., _Bound]:
    from triton.runtime.jit import create_function_from_signature  # noqa: PLC0415

    return cast(
        "Callable[..., _Bound]", create_function_from_signature(kernel.signature, kernel.params, _backend(arch))
    )


def bind(kernel: "JITFunction", arch: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Binding:
    """Sort the arguments of a call."""
    arguments, specialization, options = _binder(kernel, arch)(*args, **kwargs)
    return Binding(arguments=arguments, specialization=specialization, options=options)


def debugs(kernel: "JITFunction", keywords: Mapping[str, object]) -> bool:
    """Whether a launch checks Triton's assertions: because it says so, or the kernel, or `TRITON_DEBUG=1`."""
    from triton import knobs  # noqa: PLC0415

    return bool(keywords.get("debug", kernel.debug)) or knobs.runtime.debug


def key_of(kernel: "JITFunction") -> str:
    """A digest of the kernel's source and of all that it calls."""
    key: str = kernel.cache_key
    return key


def key_of_call(binding: Binding) -> str:
    """Name what a compiled kernel depends on beside its source: types, what is known of values, constants, options."""
    parts = [f"{kind}:{_stable(known)}" for kind, known in binding.specialization]
    return ";".join([*parts, *(f"{name}={_stable(value)}" for name, value in binding.options.items())])


def _stable(value: object) -> str:
    if isinstance(value, tuple):
        return f"({','.join(map(_stable, value))})"
    key = getattr(value, "cache_key", None)
    return f"{value!r}" if key is None else str(key)


def check_globals(kernel: "JITFunction") -> None:
    """Refuse a launch after a global variable that the kernel was compiled with has changed.

    Raises:
        RuntimeError: naming the variable.
    """
    for (name, _), (value, scope) in kernel.used_global_vals.items():
        if scope.get(name) != value:
            raise RuntimeError(
                f"global variable {name} was {value} when the kernel was compiled and is {scope.get(name)} now"
            )


def lower(kernel: "JITFunction", arch: str, binding: Binding, options: Mapping[str, object]) -> Lowered:
    """Compile a kernel to the LLVM IR of the GPU `arch`.

    The device libraries are not linked: calls of their functions stay calls, for the host to answer.
    """
    from triton import knobs  # noqa: PLC0415
    from triton._C.libtriton import ir  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    backend = _backend(arch)
    parsed, signature, constants, attributes = kernel._pack_args(  # noqa: SLF001
        backend, dict(options), binding.arguments, binding.specialization, binding.options
    )
    object.__setattr__(parsed, "extern_libs", ())
    source = ASTSource(kernel, signature, constants, attributes)
    metadata: dict[str, object] = {"target": backend.target, **parsed.__dict__}
    stages: dict[str, _Stage] = {}
    with knobs.amd.scope():
        knobs.amd.use_buffer_ops = False
        knobs.amd.use_async_copy = False
        backend.add_stages(stages, parsed, source.language)
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        module = source.make_ir(
            backend.target, parsed, backend.get_codegen_implementation(parsed), _module_map(backend), context
        )
        try:
            for name in ("ttir", "ttgir", "llir"):
                module = stages[name](module, metadata)
        except RuntimeError as error:
            raise UnsupportedError(
                f"Triton {check_version()} can't lower {kernel.__name__} for {arch}: {error}"
            ) from error
    return Lowered(
        text=str(module),
        num_warps=_number(metadata, "num_warps"),
        shared=_number(metadata, "shared"),
        scratch=_number(metadata, "global_scratch_size"),
        signature=tuple(signature.values()),
    )


_LIBRARY = "triton.language.extra.libdevice"


def _module_map(backend: _Backend) -> dict[str, ModuleType]:
    """The device library that kernels mean: AMD's functions, and where it has none, CUDA's."""
    from triton.language.extra.cuda import libdevice  # noqa: PLC0415

    found = backend.get_module_map()
    both = ModuleType(_LIBRARY)
    both.__dict__.update({**vars(libdevice), **vars(found[_LIBRARY]), "__name__": _LIBRARY})
    return {**found, _LIBRARY: both}


class _Properties:
    """What a program may ask of the GPU that kernels are compiled for: an MI300X, which is a gfx942."""

    def get_device_properties(self, _device: int) -> dict[str, int]:
        return {"max_shared_mem": 1 << 16, "warpSize": _LANES, "multiprocessor_count": 304}


class _CpuDriver:
    """What a program may ask the driver for: where its tensors go, and what its kernels are compiled for."""

    utils = _Properties()

    def get_current_device(self) -> int:
        return 0

    def get_current_target(self) -> object:
        return _target(DEFAULT_ARCH)

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


@contextmanager
def launches_replaced(run: Callable[..., None]) -> Iterator[None]:
    """Replace every launch of a kernel by a call of `run(kernel, *args, grid=..., **kwargs)`."""
    check_version()
    from triton.runtime import driver  # noqa: PLC0415
    from triton.runtime.autotuner import Autotuner  # noqa: PLC0415
    from triton.runtime.jit import JITFunction  # noqa: PLC0415

    def tuned(tuner: _Autotuner, *args: object, **kwargs: object) -> None:
        named = dict(zip(tuner.arg_names, args, strict=False))
        tuner.fn.run(*args, **kwargs, **_first_configuration(tuner, named, kwargs))

    old = JITFunction.run, Autotuner.run, driver._active  # noqa: SLF001
    JITFunction.run, Autotuner.run = run, tuned
    driver.set_active(_CpuDriver())
    try:
        yield
    finally:
        JITFunction.run, Autotuner.run, driver._active = old  # noqa: SLF001


def _number(metadata: Mapping[str, object], name: str) -> int:
    value = metadata.get(name) or 0
    assert isinstance(value, int)
    return value


def unwrap(kernel: object) -> tuple["JITFunction", list[_Step]]:
    """Take autotune and heuristics off a kernel.

    Returns:
        The kernel, and from the outermost inwards what each wrapper adds to the arguments, which it is given by name,
        those of a place and those of a keyword apart: autotune its first configuration, heuristics their values.

    Raises:
        TypeError: if `kernel` is nothing that `triton.jit` made.
    """
    check_version()
    from triton.runtime.autotuner import Autotuner, Heuristics  # noqa: PLC0415
    from triton.runtime.jit import JITFunction  # noqa: PLC0415

    steps: list[_Step] = []
    while not isinstance(kernel, JITFunction):
        if isinstance(kernel, Autotuner):
            steps.append(partial(_first_configuration, cast("_Autotuner", kernel)))
        elif isinstance(kernel, Heuristics):
            steps.append(partial(_evaluated, cast("_Heuristics", kernel)))
        else:
            raise TypeError(
                f"native() runs a function decorated with triton.jit, got {type(kernel).__name__} {_hint(kernel)}"
            )
        kernel = kernel.fn
    return kernel, steps


def _hint(kernel: object) -> str:
    if type(kernel).__name__ == "InterpretedFunction":
        return "(made by TRITON_INTERPRET=1: unset it before Triton is imported)"
    return ""


def _first_configuration(tuner: _Autotuner, named: dict[str, object], keywords: dict[str, object]) -> dict[str, object]:
    """The first configuration that the kernel's own pruning leaves, without what was given; its hook is run.

    Triton, too, prunes where there is something to choose.
    """
    prune, configurations = tuner.early_config_prune, list(tuner.configs)
    if prune is not None and len(configurations) > 1:
        configurations = list(prune(tuner.configs, named, **keywords))
    if not configurations:
        raise ValueError(f"pruning leaves none of the {len(tuner.configs)} configurations of the kernel")
    given = {**named, **keywords}
    chosen = {name: value for name, value in configurations[0].all_kwargs().items() if name not in given}
    if configurations[0].pre_hook is not None:
        configurations[0].pre_hook({**given, **chosen})
    return chosen


def _evaluated(wrapper: _Heuristics, named: dict[str, object], keywords: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, rule in wrapper.values.items():
        found[name] = rule({**named, **keywords, **found})
    return found
