"""Peak memory of `incref quantize` on a checkpoint that is larger than it.

python -m benchmarks.large_checkpoint [--gigabytes 10] [--directory DIR] [--json FILE]

A checkpoint of random bfloat16 values for a Llama of that size is written, quantized to int4 in groups of 128 by
rounding to nearest (`incref quantize --layer-wise --journal`) in a process of its own, and deleted. Files are mapped
into memory, so what a process has there is of two kinds: pages that no file backs (RssAnon), which it can't do without,
and pages of files, which the system takes away when it needs the room. The former must be at most 2 GB; the exit status
is 1 if they are more. Linux only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.memory import anonymous_memory
from benchmarks.synthetic import write_checkpoint
from conformance.record import Json, environment
from incref.checkpoints.size import file_bytes
from incref.workflow.transformers_model import empty_model

__all__ = ["main"]

_GB = 10**9
_BOUND = 2 * _GB
_SCHEME = "int4_g128"
_PROGRAM = "from incref.cli.main import app; app()"
_TICK = 0.05


_WIDTH, _INNER, _VOCABULARY = 4096, 11008, 32000
"""Of Llama 2 with seven billion parameters."""
_HEAD = 128


def _blocks(size: int) -> int:
    """How many blocks make a checkpoint of about `size` bytes."""
    ends = 2 * _VOCABULARY * _WIDTH
    block = 4 * _WIDTH**2 + 3 * _WIDTH * _INNER
    return max(1, round((size / torch.bfloat16.itemsize - ends) / block))


def _write(blocks: int, directory: Path) -> int:
    """Write a checkpoint, and give its bytes."""
    from transformers import LlamaConfig  # noqa: PLC0415  # slow to import

    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=_WIDTH,
        intermediate_size=_INNER,
        num_hidden_layers=blocks,
        num_attention_heads=_WIDTH // _HEAD,
        num_key_value_heads=_WIDTH // _HEAD,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    with tempfile.TemporaryDirectory() as described:
        config.save_pretrained(described)
        model = empty_model(Path(described))
        generator = torch.Generator().manual_seed(0)

        def values() -> Iterator[tuple[str, Tensor]]:
            for name, parameter in model.named_parameters():
                made = torch.randn(parameter.shape, generator=generator).mul_(parameter.shape[-1] ** -0.5)
                yield name, made.to(torch.bfloat16)

        total = write_checkpoint(values(), directory)
        shutil.copy(Path(described) / "config.json", directory)
    return total


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a process took.

    Attributes:
        anonymous: the most bytes of memory that no file backs.
        resident: the most bytes of memory, pages of mapped files among them.
        seconds: how long.
    """

    anonymous: int
    resident: int
    seconds: float


def _quantize(source: Path, target: Path) -> _Run:
    """Quantize in a process of its own."""
    command = [sys.executable, "-c", _PROGRAM, "quantize", str(source), str(target), "--scheme", _SCHEME]
    options = ["--layer-wise", "--journal", str(target.with_suffix(".journal")), "--quiet"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)  # noqa: S603  # this program
    anonymous = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        anonymous = max(anonymous, anonymous_memory(process.pid) or 0)
        time.sleep(_TICK)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"incref quantize ended with status {process.returncode}")
    seconds = time.perf_counter() - start
    return _Run(anonymous=anonymous, resident=usage.ru_maxrss * 1024, seconds=round(seconds, 1))


def main() -> int:
    """Measure, print, and store the result if asked."""
    parser = argparse.ArgumentParser(description="Peak memory of incref quantize on a checkpoint larger than that.")
    parser.add_argument("--gigabytes", type=float, default=10, help="size of the checkpoint")
    parser.add_argument("--directory", type=Path, help="where there is room for twice as much")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    blocks = _blocks(int(arguments.gigabytes * _GB))
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        root = Path(directory)
        total = _write(blocks, root / "float")
        run = _quantize(root / "float", root / "quantized")
        written = file_bytes(root / "quantized")
    result: dict[str, Json] = {
        "environment": environment(),
        "scheme": _SCHEME,
        "blocks": blocks,
        "checkpoint_bytes": total,
        "quantized_bytes": written,
        "anonymous_peak_bytes": run.anonymous,
        "resident_peak_bytes": run.resident,
        "bound_bytes": _BOUND,
        "seconds": run.seconds,
    }
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if run.anonymous <= _BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
