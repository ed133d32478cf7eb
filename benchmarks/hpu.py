"""SmolLM2 in the FP8 of Gaudi, on the simulated operators, beside that of OCP: perplexity over windows of text.

`python -m benchmarks.hpu --model build/smollm2 --json benchmarks/results/hpu.json`

The model is calibrated once, with the last windows of the text; every row reads what was measured then.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.smollm2 import make_smollm2
from incref import FP8Config, convert, finalize_calibration, prepare
from incref.checkpoints.files import write_atomically
from incref.checkpoints.versions import versions
from incref.cli.evaluate import calibration_of, tokens_of
from incref.evaluation.huggingface import load_model
from incref.evaluation.perplexity import window_nll
from incref.modules.layer import QuantLayer
from incref_kernels.hpu.simulator.simulate import simulate

__all__ = ["Row", "main"]

_HEADS = {"names": ["lm_head"], "types": ()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to compute the model.

    Attributes:
        target: of `FP8Config`; None for the float model.
        device: "hpu" for the simulated operators, "cpu" for the references.
        dtype: of everything that is not quantized.
    """

    target: str | None
    device: str
    dtype: str

    def make(self, directory: Path, stats: Path) -> nn.Module:
        """Load the model and convert it."""
        model = load_model(directory).to(getattr(torch, self.dtype))
        if self.target is None:
            return model
        config = FP8Config(target=self.target, mode="QUANTIZE", dump_stats_path=str(stats), blocklist=_HEADS)
        return convert(prepare(model, config), device=self.device)

    def run(self, directory: Path, stats: Path, tokens: Tensor) -> dict[str, object]:
        """Evaluate the model."""
        simulated = self.target is not None and self.device == "hpu"
        with simulate(str(self.target)) if simulated else nullcontext():
            model = self.make(directory, stats)
            kernels = sorted({one.kernel for one in model.modules() if isinstance(one, QuantLayer)})
            start = time.perf_counter()
            nll = window_nll(model, tokens)
        found = {"nll": nll.tolist(), "perplexity": math.exp(nll.mean().item())}
        return {**asdict(self), "kernels": kernels, **found, "eval_seconds": time.perf_counter() - start}


ROWS = (
    Row(target=None, device="cpu", dtype="float32"),
    Row(target="ocp", device="cpu", dtype="float32"),
    Row(target="gaudi2", device="hpu", dtype="float32"),
    Row(target="gaudi3", device="hpu", dtype="float32"),
)


def _measure(directory: Path, stats: Path, tokens: Tensor) -> None:
    config = FP8Config(mode="MEASURE", dump_stats_path=str(stats), blocklist=_HEADS)
    model = prepare(load_model(directory), config)
    with torch.no_grad():
        for window in tokens:
            model(input_ids=window[None])
    finalize_calibration(model)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("build/smollm2"))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--calibration-windows", type=int, default=16)
    options = parser.parse_args(arguments)
    make_smollm2(options.model)
    tokens = tokens_of(options.model, None, window=512, windows=options.windows)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        stats = Path(scratch) / "measured"
        later = calibration_of(
            options.model, None, window=512, windows=options.calibration_windows, after=options.windows
        )
        _measure(options.model, stats, later)
        for row in ROWS:
            rows.append(row.run(options.model, stats, tokens))
            print(f"{row}: {rows[-1]['perplexity']:.3f}, {rows[-1]['eval_seconds']:.0f} s", flush=True)
            about = {"windows": options.windows, "window": 512, "versions": dict(versions())}
            write_atomically(options.json, (json.dumps({**about, "rows": rows}, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
