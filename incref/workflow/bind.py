"""Binds the modules of a model to the kernels of a backend."""

import os

import torch
from torch import nn

from incref.backends.device import require_device
from incref.backends.discovery import find_backend
from incref.errors import UnsupportedError
from incref.modules.binding import REFERENCE_ONLY, Binding
from incref.modules.layer import QuantLayer
from incref.modules.quant_inputs import QuantInputs

__all__ = ["bind", "is_hpu", "resolve_binding", "settle", "target_device"]

_HPU = "hpu"
_NAMED_BY = ("INCREF_TARGET_DEVICE", "INC_TARGET_DEVICE")
_DEVICES = (_HPU, "xpu", "cuda", "cpu")


def bind(model: nn.Module, binding: Binding) -> nn.Module:
    """Let every quantized layer of `model` compute by the backends of `binding`.

    Returns:
        The model.

    Raises:
        UnsupportedError: if a layer can't; the message names it.
    """
    if binding == REFERENCE_ONLY:
        return model
    device_type = next((tensor.device.type for tensor in model.parameters()), "cpu")
    for name, module in model.named_modules():
        if isinstance(module, QuantLayer):
            try:
                module.bind(binding)
            except UnsupportedError as error:
                raise UnsupportedError(f"{name}: {error}") from error
        elif isinstance(module, QuantInputs):
            module.bind(binding, device_type)
    return model


def settle(model: nn.Module, device: str | torch.device | None) -> nn.Module:
    """Let the backend "hpu" do what it does to a model that was put on `device`, if that is its own.

    Returns:
        The model.
    """
    if is_hpu(device) and (prepare := find_backend(_HPU).settle) is not None:
        prepare(model)
    return model


def is_hpu(device: str | torch.device | None) -> bool:
    """Whether a device is a Gaudi, or what stands for one."""
    return device is not None and str(device).split(":")[0] == _HPU


def target_device(device: str | torch.device | None) -> str | torch.device | None:
    """Give `device`, or if that is None the one that the environment names, if it does.

    INCREF_TARGET_DEVICE goes before INC_TARGET_DEVICE, and neither minds capitals.

    Raises:
        ValueError: if the environment names another than hpu, xpu, cuda or cpu.
    """
    if device is not None:
        return device
    variable = next((name for name in _NAMED_BY if os.environ.get(name)), None)
    if variable is None:
        return None
    named = os.environ[variable].lower()
    if named not in _DEVICES:
        raise ValueError(f"{variable} must be {', '.join(_DEVICES)}, or unset, got {os.environ[variable]!r}")
    return named


def resolve_binding(
    backend: str | None, fallback: str | None, device: str | torch.device | None
) -> tuple[Binding, torch.device | None]:
    """Which backends compute, and where tensors go, for what a user asks for.

    Args:
        backend: "reference", "auto", or the name of one; None for "hpu" on that device, else "reference".
        fallback: see `Binding`.
        device: one of PyTorch; or "hpu", which stands for where the backend of that name wants tensors: on its
            simulator these are on the CPU. None to leave them where they are.

    Raises:
        UnsupportedError: if there is no such device; if a named backend is not installed, or can't run here and nothing
            else may compute.
        ValueError: for another fallback.
    """
    for_hpu = is_hpu(device)
    binding = Binding(backend=backend or (_HPU if for_hpu else REFERENCE_ONLY.backend), fallback=fallback)
    if binding.names_one:
        # Says why the backend can't run here, before anything is done.
        binding.backends(binding.backend)
    if not for_hpu:
        if device is None:
            return binding, None
        require_device(device)
        return binding, torch.device(device)
    hpu = find_backend(_HPU)
    reason = hpu.why_unavailable()
    if reason is not None:
        raise UnsupportedError(f"device {str(device)!r} needs backend {_HPU!r}, which can't run here: {reason}")
    return binding, torch.device(str(device) if hpu.home is None else hpu.home())
