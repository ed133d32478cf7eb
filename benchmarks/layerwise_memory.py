"""Peak memory of GPTQ on a model that is read one block at a time, or of rounding to nearest.

python -m benchmarks.layerwise_memory [--small] [--rtn] [--json FILE]

A model of several blocks is written to files, made again on the meta device, calibrated and converted with a journal.
With `--rtn` the files hold bfloat16, layers are rounded one after another to nearest, and the model is saved.
What is measured is the anonymous memory of the process, sampled every millisecond, over what it is when all is
imported. It must be at most that of the largest block, its Hessians in float64 and 300 MiB, or 64 MiB for `--small`
and `--rtn`; the exit status is 1 if it is more. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.memory import watch_growth
from benchmarks.synthetic import write_checkpoint
from conformance.record import environment
from incref import GPTQConfig, RTNConfig, convert, prepare, save

__all__ = ["main"]

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class _Size:
    """How large the model is.

    Attributes:
        width: of what blocks hand on.
        inner: of what is inside of a block.
        extra: weights of a block that are not quantized.
        blocks: how many.
        tokens: of each of two calls; 0 for rounding to nearest.
        slack: bytes that may be taken beside a block and its Hessians.
    """

    width: int
    inner: int
    extra: int
    blocks: int
    tokens: int
    slack: int

    @property
    def hessians(self) -> int:
        """Bytes of the Hessians of a block: of what q, k and v share, of o, of what gate and up share, and of down."""
        return 8 * (3 * self.width**2 + self.inner**2) if self.tokens else 0


_LARGE = _Size(width=1536, inner=4096, extra=1, blocks=6, tokens=256, slack=300 * _MIB)
_SMALL = _Size(width=128, inner=256, extra=4 << 20, blocks=12, tokens=32, slack=64 * _MIB)
_ROUNDED = _Size(width=768, inner=1536, extra=1, blocks=8, tokens=0, slack=64 * _MIB)


class _Block(nn.Module):
    def __init__(self, size: _Size) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(size.width, size.width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(size.width, size.inner, bias=False) for _ in range(2))
        self.down = nn.Linear(size.inner, size.width, bias=False)
        self.extra = nn.Parameter(torch.zeros(size.extra))

    def forward(self, x: Tensor) -> Tensor:
        h = F.layer_norm(x, x.shape[-1:])
        x = x + self.o(self.q(h).sigmoid() * self.k(h) + self.v(h)) + self.extra.mean()
        h = F.layer_norm(x, x.shape[-1:])
        result: Tensor = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return result


class _Model(nn.Module):
    def __init__(self, size: _Size) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(size) for _ in range(size.blocks))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def main() -> int:
    """Measure, print, and store the result if asked."""
    parser = argparse.ArgumentParser(description="Peak memory of a model that is converted layer by layer.")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rtn", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = _ROUNDED if arguments.rtn else _SMALL if arguments.small else _LARGE
    with torch.device("meta"):
        model = _Model(size).eval()
    if arguments.write is not None:
        _write(model, arguments.write, torch.float32 if size.tokens else torch.bfloat16)
        return 0
    block = sum(p.numel() * p.element_size() for p in model.blocks[0].parameters())
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        # By a process of its own: what this one had freed again it could use without growing.
        command = [sys.executable, "-m", "benchmarks.layerwise_memory", "--write", str(root / "model")]
        options = [f"--{name}" for name in ("small", "rtn") if getattr(arguments, name)]
        subprocess.run([*command, *options], check=True)  # noqa: S603  # this program
        start = time.perf_counter()
        peak = _peak(model, size, root)
    bound = block + size.hessians + size.slack
    result = {
        "environment": environment(),
        "model_bytes": block * size.blocks,
        "block_bytes": block,
        "hessian_bytes": size.hessians,
        "bound_bytes": bound,
        "peak_bytes": peak,
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if peak <= bound else 1


def _write(model: nn.Module, directory: Path, dtype: torch.dtype) -> None:
    """Write values for `model`."""
    generator = torch.Generator().manual_seed(0)

    def values() -> Iterator[tuple[str, Tensor]]:
        for name, parameter in model.named_parameters():
            made = torch.randn(parameter.shape, generator=generator).mul_(parameter.shape[-1] ** -0.5)
            yield name, made.to(dtype)

    write_checkpoint(values(), directory)


def _peak(model: nn.Module, size: _Size, root: Path) -> int:
    """Convert `model`, and give by how much the memory of this process grew at most."""
    # What is loaded or started once is no memory of the conversion.
    torch.linalg.cholesky_ex(torch.eye(64, dtype=torch.float64))
    with watch_growth() as growth:
        _convert(model, size, root)
    return growth.peak


def _convert(model: nn.Module, size: _Size, root: Path) -> None:
    files = str(root / "model")
    if not size.tokens:
        save(convert(model, RTNConfig(group_size=128, model_path=files), journal=root / "journal"), root / "saved")
        return
    prepared = prepare(model, GPTQConfig(group_size=128, group_scales="current", model_path=files))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(2):
            prepared(torch.randn(1, size.tokens, size.width, generator=generator))
    convert(prepared, journal=root / "journal")


if __name__ == "__main__":
    sys.exit(main())
