"""SmolLM2 in the FP8 of Gaudi, on the simulated operators, beside that of OCP: perplexity over windows of text.

`python -m benchmarks.hpu --model build/smollm2 --json benchmarks/results/hpu.json`

The model is calibrated with the last windows of the text, once as it is and once with its attention exposed; every row
reads what was measured then.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.smollm2 import make_smollm2
from incref import FP8Config, convert, expose_attention, finalize_calibration, prepare, save
from incref.checkpoints.files import write_atomically
from incref.checkpoints.size import file_bytes, measure_size
from incref.cli.evaluate import calibration_of, tokens_of
from incref.cli.report import as_json
from incref.evaluation.huggingface import load_model
from incref.evaluation.perplexity import window_nll
from incref.evaluation.result import FLOAT32, Evaluation
from incref.modules.layer import QuantLayer
from incref.modules.matmul import QuantMatmul
from incref_kernels.hpu.simulator.simulate import simulate

__all__ = ["Row", "main"]

_HEADS = {"names": ["lm_head"], "types": ()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to compute the model.

    Attributes:
        target: of `FP8Config`; None for the float model.
        device: "hpu" for the simulated operators, "cpu" for the references.
        attention: whether the products of attention are of FP8, too.
        dtype: of everything that is not quantized.
    """

    target: str | None = None
    device: str = "cpu"
    attention: bool = False
    dtype: str = "float32"

    @property
    def scheme(self) -> str:
        """Its name beside those of `SCHEMES`."""
        if self.target is None:
            return FLOAT32
        return (
            f"fp8_{self.target}{'_simulated' if self.device == 'hpu' else ''}{'_attention' if self.attention else ''}"
        )

    def make(self, directory: Path, stats: Path) -> nn.Module:
        """Load the model and convert it."""
        model = load_model(directory).to(getattr(torch, self.dtype))
        if self.target is None:
            return model
        config = FP8Config(target=self.target, mode="QUANTIZE", dump_stats_path=str(stats), blocklist=_HEADS)
        exposed = expose_attention(model) if self.attention else model
        return convert(prepare(exposed, config), device=self.device)

    def run(self, directory: Path, stats: Path, tokens: Tensor) -> tuple[Evaluation, list[str]]:
        """Evaluate the model; and say which kernels compute it."""
        simulated = self.target is not None and self.device == "hpu"
        with simulate(str(self.target)) if simulated else nullcontext():
            start = time.perf_counter()
            model = self.make(directory, stats)
            made = time.perf_counter()
            kernels = {one.kernel for one in model.modules() if isinstance(one, QuantLayer | QuantMatmul)}
            size = measure_size(model)
            with tempfile.TemporaryDirectory() as scratch:
                where = directory
                if self.target is not None:
                    save(model, Path(scratch))
                    where = Path(scratch)
                on_disk = file_bytes(where)
            before = time.perf_counter()
            nll = window_nll(model, tokens)
        found = Evaluation(
            scheme=self.scheme,
            nll=tuple(nll.tolist()),
            size=size,
            file_bytes=on_disk,
            quantize_seconds=made - start,
            eval_seconds=time.perf_counter() - before,
        )
        return found, sorted(kernels)


ROWS = (
    Row(),
    Row(target="ocp"),
    Row(target="gaudi2", device="hpu"),
    Row(target="gaudi3", device="hpu"),
    Row(target="ocp", attention=True),
    Row(target="gaudi2", device="hpu", attention=True),
    Row(target="gaudi3", device="hpu", attention=True),
)


def _measure(directory: Path, stats: Path, tokens: Tensor, *, attention: bool) -> None:
    config = FP8Config(mode="MEASURE", dump_stats_path=str(stats), blocklist=_HEADS)
    loaded = load_model(directory)
    model = prepare(expose_attention(loaded) if attention else loaded, config)
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
    done: list[Evaluation] = []
    about: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        later = calibration_of(
            options.model, None, window=512, windows=options.calibration_windows, after=options.windows
        )
        stats = {attention: Path(scratch) / f"measured{attention}" for attention in (False, True)}
        for attention, file in stats.items():
            _measure(options.model, file, later, attention=attention)
        for row in ROWS:
            found, kernels = row.run(options.model, stats[row.attention], tokens)
            done.append(found)
            about.append({**asdict(row), "kernels": kernels})
            print(f"{row}: {found.perplexity:.3f}, {found.eval_seconds:.0f} s", flush=True)
            report = as_json(done, model="SmolLM2-135M-Instruct", text="pydoc_data.topics", tokens=tokens)
            rows = report["rows"]
            assert isinstance(rows, list)
            report["rows"] = [{**one, **more} for one, more in zip(rows, about, strict=True)]  # type: ignore[dict-item]
            report["calibration_windows"] = options.calibration_windows
            write_atomically(options.json, (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
