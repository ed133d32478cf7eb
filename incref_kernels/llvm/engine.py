"""LLVM on the host, by way of llvmlite: from text to an object file, and from an object file to functions."""

import ctypes
from dataclasses import dataclass
from functools import cache
from itertools import count

from incref.errors import UnsupportedError

try:
    import llvmlite
    import llvmlite.binding as llvm
except ImportError as error:  # pragma: no cover
    raise UnsupportedError("compiling kernels for the CPU needs llvmlite: pip install 'llvmlite>=0.45'") from error

__all__ = ["LoadedKernel", "assembly", "build", "host_description", "host_has", "load", "machine_of"]


# Tried: llvmlite 0.45.1 to 0.47.0 (LLVM 20), 0.48.0 to 0.50.0 (LLVM 22). Before, pointers had other types.
_OLDEST_LLVM = 20


@cache
def _machine(effort: int = 2) -> "llvm.TargetMachine":
    if llvm.llvm_version_info[0] < _OLDEST_LLVM:
        found = ".".join(map(str, llvm.llvm_version_info))
        raise UnsupportedError(
            f"compiling kernels for the CPU needs LLVM {_OLDEST_LLVM} or newer, llvmlite {llvmlite.__version__} "
            f"has {found}: pip install 'llvmlite>=0.45'"
        )
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        opt=effort,
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        reloc="pic",
        codemodel="default",
    )


@cache
def host_description() -> str:
    """Name all that the object file depends on: LLVM's version, the processor and what it can do."""
    version = ".".join(map(str, llvm.llvm_version_info))
    processor = f"{_machine().triple}, {llvm.get_host_cpu_name()}, {llvm.get_host_cpu_features().flatten()}"
    return f"llvmlite {llvmlite.__version__}, LLVM {version}, {processor}"


@cache
def host_has(feature: str) -> bool:
    """Whether this processor has a feature, by LLVM's name for it."""
    return bool(llvm.get_host_cpu_features().get(feature, False))


@cache
def machine_of(triple: str) -> "llvm.TargetMachine":
    """Find what compiles for another machine: for the least processor that `triple` names."""
    _machine()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(triple).create_target_machine(opt=2, reloc="pic", codemodel="default")


def build(text: str, machine: "llvm.TargetMachine | None" = None, *, optimize: bool = True) -> bytes:
    """Compile a module to an object file.

    Args:
        text: of the module.
        machine: to compile for, this one by default.
        optimize: whether to look for the fastest code; else what compiles soon. Both compute the same bits.

    Raises:
        RuntimeError: if LLVM does not accept the text: what wrote it is at fault.
    """
    machine = machine or (_machine() if optimize else _machine(0))
    emitted = machine.emit_object(_optimized(text, machine, optimize=optimize))
    assert isinstance(emitted, bytes)
    return emitted


def assembly(text: str) -> str:
    """Optimize a module and write the machine code that `build` makes of it, to be read.

    Raises:
        RuntimeError: if LLVM does not accept the text: what wrote it is at fault.
    """
    written = _machine().emit_assembly(_optimized(text, _machine()))
    assert isinstance(written, str)
    return written


def _optimized(text: str, machine: "llvm.TargetMachine", *, optimize: bool = True) -> "llvm.ModuleRef":
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise RuntimeError(f"LLVM {llvm.llvm_version_info} of llvmlite does not accept the kernel: {error}") from error
    module.triple = machine.triple
    options = llvm.create_pipeline_tuning_options(speed_level=2 if optimize else 1)
    # The elements of one lane lie side by side: they become vectors.
    options.slp_vectorization = options.loop_vectorization = options.loop_unrolling = optimize
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


@dataclass(frozen=True, kw_only=True)
class LoadedKernel:
    """Code in memory: it lives as long as `library` does, its function at `address`."""

    address: int
    run: "ctypes._CFunctionType"
    library: object


@cache
def _jit() -> "llvm.LLJIT":
    _machine()
    return llvm.create_lljit_compiler()


_numbers = count()


def load(image: bytes) -> LoadedKernel:
    """Load an object file.

    Raises:
        UnsupportedError: if it calls a function that the process doesn't have.
    """
    library = llvm.JITLibraryBuilder().add_object_img(image).add_current_process()
    library.export_symbol("run")
    try:
        linked = library.link(_jit(), f"kernel{next(_numbers)}")
    except RuntimeError as error:
        raise UnsupportedError(f"the kernel calls a function that is not there: {error}") from error
    run = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(linked["run"])
    return LoadedKernel(address=linked["run"], run=run, library=linked)
