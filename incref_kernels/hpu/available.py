"""Whether there is a Gaudi or a simulation of one, which chip it is, and in which mode it runs."""

import os
from importlib import import_module
from importlib.util import find_spec

import torch

from incref.backends.declared import Declared, in_any_order
from incref.errors import UnsupportedError
from incref.formats import FloatFormat
from incref.formats.gaudi import GAUDI
from incref.numerics.accumulate.table import find_accumulator
from incref_kernels.hpu.simulator.options import Mode
from incref_kernels.hpu.simulator.simulate import active

__all__ = [
    "chip",
    "declared_sums",
    "float8_dtype",
    "has_group_index",
    "home",
    "mode",
    "why_not_device",
    "why_unavailable",
]

_SOFTWARE = "habana_frameworks"


def why_unavailable() -> str | None:
    """Say why no kernel can run, or None: a simulation is needed, or a Gaudi with its software."""
    if active() is not None:
        return None
    if find_spec(_SOFTWARE) is None:
        return (
            f"{_SOFTWARE} is not installed; INCREF_HPU_SIMULATOR=gaudi2 or incref_kernels.hpu.simulate simulate a Gaudi"
        )
    import_module(f"{_SOFTWARE}.torch.core")
    if not torch.get_device_module("hpu").is_available():
        return f"{_SOFTWARE} finds no Gaudi"
    return None


def home() -> str:
    """Where tensors have to be: "hpu", or "cpu" in a simulation."""
    return "hpu" if active() is None else "cpu"


def chip() -> str:
    """Which chip it is: a name of `GAUDI`.

    Raises:
        UnsupportedError: if the software names another one.
    """
    simulation = active()
    if simulation is not None:
        return simulation.profile.chip
    experimental = import_module(f"{_SOFTWARE}.torch.utils.experimental")
    found = str(experimental._get_device_type())  # noqa: SLF001  # the software has no public name for it
    kinds = experimental.synDeviceType
    for name in GAUDI:
        if found == str(getattr(kinds, f"synDevice{name.capitalize()}", None)):
            return name
    raise UnsupportedError(f"the chips that are known are {', '.join(GAUDI)}; the device is a {found}")


def mode() -> Mode:
    """Say how an operator runs that is called now: while `torch.compile` traces the caller, in its graph."""
    if torch.compiler.is_compiling():
        return Mode.COMPILE
    simulation = active()
    if simulation is not None:
        return simulation.mode
    try:
        is_lazy = import_module(f"{_SOFTWARE}.torch.utils.internal").is_lazy()
    except (ImportError, AttributeError):
        # The default changed between releases, so only what is said counts.
        is_lazy = os.environ.get("PT_HPU_LAZY_MODE") == "1"
    return Mode.LAZY if is_lazy else Mode.EAGER


def has_group_index() -> bool:
    """Whether `convert_from_uint4` takes the group of every row."""
    schema = torch.ops.hpu.convert_from_uint4.default._schema  # noqa: SLF001  # the only way to ask
    return any(argument.name == "group_index" for argument in schema.arguments)


def declared_sums(_: torch.device) -> Declared:
    """Say what of the chip's matrix unit holds however K is split, for products of 8-bit floats.

    Its steps were read in the vendor's functional simulator. A simulation here that sums exactly is within them too.
    """
    return in_any_order(find_accumulator(GAUDI[chip()].accumulator))


def float8_dtype(fmt: FloatFormat) -> torch.dtype | None:
    """What operators call the 8-bit float `fmt` of this chip; None if it has no such."""
    formats = GAUDI[chip()]
    names = {formats.e4m3.name: torch.float8_e4m3fn, formats.e5m2.name: torch.float8_e5m2}
    return names.get(fmt.name)


def why_not_device(**tensors: torch.Tensor | None) -> str | None:
    """Say which tensors are not where kernels need them."""
    wanted = home()
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device.type != wanted:
            return f"{name} must be on {wanted}, got {tensor.device}"
    return None
