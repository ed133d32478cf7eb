"""What a conversion depends on, as one hash."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from incref.calibration.recorder import Call
from incref.checkpoints.files import file_digest
from incref.checkpoints.versions import versions
from incref.config.scheme import LayerScheme
from incref.workflow.lending import Lender
from incref.workflow.processes import Processes

__all__ = ["fingerprint"]


def fingerprint(
    model: nn.Module,
    schemes: Mapping[str, LayerScheme],
    calls: Sequence[Call],
    lender: Lender | None,
    processes: Processes,
) -> str:
    """Hash the values of `model`, what its layers become, all calls that calibrate it and the versions of packages.

    The order of calls and who made them does not matter.
    """
    digest = hashlib.sha256()
    digest.update(repr(sorted(versions().items())).encode())
    digest.update(repr(list(schemes.items())).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(name.encode())
        _add(digest, tensor)
    if lender is not None:
        for path in sorted(set(lender.shards.files.values())):
            digest.update(file_digest(path).encode())
    own = [_digest_of(call) for call in calls]
    for found in sorted(one for others in processes.gather(own) for one in others):
        digest.update(found)
    return digest.hexdigest()


def _digest_of(call: Call) -> bytes:
    digest = hashlib.sha256()
    _add(digest, call.args)
    _add(digest, call.kwargs)
    return digest.digest()


def _add(digest: "hashlib._Hash", value: object) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        if not value.is_meta:
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, tuple | list):
        digest.update(f"{len(value)} in order".encode())
        for entry in value:
            _add(digest, entry)
    elif isinstance(value, dict):
        digest.update(f"{len(value)} by name".encode())
        for key, entry in value.items():
            digest.update(repr(key).encode())
            _add(digest, entry)
    elif isinstance(value, str | int | float | bool | None):
        digest.update(repr(value).encode())
    else:
        # Its representation may hold an address.
        digest.update(type(value).__qualname__.encode())
