"""Puts the simulated operators where the real ones would be, and takes them away again."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from incref.errors import UnsupportedError
from incref_kernels.hpu.simulator.casts import Casts
from incref_kernels.hpu.simulator.int4 import Int4
from incref_kernels.hpu.simulator.options import Mode
from incref_kernels.hpu.simulator.products import Products
from incref_kernels.hpu.simulator.profile import HpuProfile, find_profile
from incref_kernels.hpu.simulator.reductions import Reductions
from incref_kernels.hpu.simulator.schemas import GROUP_INDEX, SCHEMAS

__all__ = ["Simulation", "active", "has_real_operators", "simulate", "start"]

_NAMESPACE = "hpu"
_INT4 = ("convert_from_uint4", "convert_from_int4")


@dataclass(eq=False)
class Simulation:
    """Simulated operators that are registered.

    Attributes:
        profile: the chip.
        mode: which mode of the vendor's software is played.
        steps: how often a graph was cut since it began.
        models: how many the environment of inference is set up for now.
    """

    profile: HpuProfile
    mode: Mode = Mode.LAZY
    steps: int = 0
    models: int = 0


class _Registered:
    """What is registered now: at most one simulation in a process."""

    simulation: Simulation | None = None
    libraries: tuple[torch.library.Library, ...] = ()

    @classmethod
    def put(cls, simulation: Simulation | None) -> None:
        """Take away the operators that are there, and register those of `simulation`."""
        for library in cls.libraries:
            library._destroy()  # noqa: SLF001  # a library has no other way to end before the process does
        if cls.libraries:
            for name in SCHEMAS:
                vars(torch.ops.hpu).pop(name.split(".")[0], None)
        cls.simulation, cls.libraries = simulation, ()
        if simulation is not None:
            cls.libraries = (_register(simulation.profile), _register_scaled_mm(simulation.profile))


def active() -> Simulation | None:
    """The simulation that stands for a Gaudi now, or None."""
    return _Registered.simulation


def has_real_operators() -> bool:
    """Whether the vendor's software is there; it is imported if it is installed."""
    if find_spec("habana_frameworks") is not None:
        import habana_frameworks.torch.core  # noqa: F401, PLC0415

        return True
    return _Registered.simulation is None and hasattr(torch.ops.hpu, "cast_to_fp8_v2")


@contextmanager
def simulate(chip: str | HpuProfile, *, mode: Mode | str = Mode.LAZY, **options: object) -> Iterator[Simulation]:
    """Let CPU tensors be computed as on a Gaudi by `torch.ops.hpu`, and by the backend "hpu", until the block ends.

    One simulation holds for the whole process, whatever the thread; one inside another replaces it until it ends.

    Args:
        chip: "gaudi2", "gaudi3", or a profile.
        mode: which mode of the vendor's software is played: "lazy"; "eager", where a model may be compiled or not; or
            "compile", for a model that counts as compiled in whole.
        options: fields of `HpuProfile` that get another value.

    Raises:
        UnsupportedError: for another chip; if the vendor's operators are there.
        ValueError: for another mode.

    >>> with simulate("gaudi2"):
    ...     x = torch.tensor([1.0, 300.0])
    ...     torch.ops.hpu.cast_to_fp8_v2(x, None, False, False, torch.float8_e4m3fn)[0].view(torch.uint8)
    tensor([ 56, 119], dtype=torch.uint8)
    """
    before = _Registered.simulation
    simulation = start(chip, mode=mode, **options)
    try:
        yield simulation
    finally:
        _Registered.put(before)


def start(chip: str | HpuProfile, *, mode: Mode | str = Mode.LAZY, **options: object) -> Simulation:
    """Simulate until the process ends; see `simulate`."""
    if has_real_operators():
        raise UnsupportedError("the operators of Gaudi are there; they are not replaced by simulated ones")
    profile = find_profile(chip) if isinstance(chip, str) else chip
    simulation = Simulation(profile=replace(profile, **options), mode=_mode(mode))  # type: ignore[arg-type]  # its fields
    _Registered.put(simulation)
    return simulation


def _mode(mode: Mode | str) -> Mode:
    try:
        return Mode(mode)
    except ValueError as error:
        raise ValueError(f"mode must be {', '.join(one.value for one in Mode)}, got {mode!r}") from error


def schemas_of(profile: HpuProfile) -> Mapping[str, str]:
    """The signatures that are registered for `profile`."""
    if not profile.has_group_index:
        return SCHEMAS
    return {
        name: schema.replace(") ->", f", {GROUP_INDEX}) ->") if name in _INT4 else schema
        for name, schema in SCHEMAS.items()
    }


def _register(profile: HpuProfile) -> torch.library.Library:
    library = torch.library.Library(_NAMESPACE, "FRAGMENT")
    functions = _functions(profile)
    for name, schema in schemas_of(profile).items():
        library.define(name + schema)
        real, meta = functions[name.split(".")[0]]
        library.impl(name, real, "CPU")
        library.impl(name, meta, "Meta")
    return library


def _register_scaled_mm(profile: HpuProfile) -> torch.library.Library:
    """Let PyTorch's own product of 8-bit floats on the CPU be what it is on a Gaudi."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        # PyTorch says that it had a kernel of its own.
        warnings.simplefilter("ignore")
        library.impl("_scaled_mm", Products(profile).scaled_mm, "CPU")
    return library


def _functions(profile: HpuProfile) -> Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """What computes each operator, and what says only its shape."""
    casts, products, int4, reductions = Casts(profile), Products(profile), Int4(profile), Reductions(profile)
    return {
        "cast_to_fp8": (casts.cast_to_fp8, casts.cast_to_fp8_meta),
        "cast_to_fp8_v2": (casts.cast_to_fp8_v2, casts.cast_to_fp8_v2_meta),
        "cast_to_fp8_hybrid": (casts.cast_to_fp8_hybrid, casts.cast_to_fp8_hybrid_meta),
        "cast_from_fp8": (casts.cast_from_fp8, casts.cast_from_fp8_meta),
        "fp8_gemm": (products.fp8_gemm, products.fp8_gemm_meta),
        "fp8_gemm_v2": (products.fp8_gemm_v2, products.fp8_gemm_v2_meta),
        "conv2d_fp8": (products.conv2d_fp8, products.conv2d_fp8_meta),
        "sum_fp8": (reductions.sum_fp8, reductions.sum_fp8_meta),
        "softmax_fp8": (reductions.softmax_fp8, reductions.softmax_fp8_meta),
        "convert_from_uint4": (int4.convert_from_uint4, int4.convert_meta),
        "convert_from_int4": (int4.convert_from_int4, int4.convert_meta),
    }
