"""Quantize a captured graph to 8-bit integers, and compile it.

The workflow is that of Neural Compressor and of PyTorch 2 Export quantization; only the imports differ. It needs
torchao: `pip install incref[pt2e]`.
"""

import torch
from torch import nn

from incref import StaticQuantConfig, convert, prepare
from incref.export import exact, export


def make_model() -> nn.Module:
    """Make a small classifier of images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    ).eval()


def make_batches() -> list[torch.Tensor]:
    """Draw some images, [8, 3, 16, 16]."""
    return [torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


@torch.no_grad()
def main() -> None:
    """Quantize, compile, and show how far each step is from the model."""
    model, batches = make_model(), make_batches()
    x = batches[0]

    exported = export(model, example_inputs=(x,))
    prepared = prepare(exported, StaticQuantConfig())
    for batch in batches:
        prepared(batch)
    quantized = convert(prepared)
    # With freezing, Inductor makes oneDNN's products of integers of the graph.
    with torch._inductor.config.patch(freezing=True):  # noqa: SLF001  # the switch that PyTorch documents
        compiled = torch.compile(quantized)
        for name, run in (("converted", quantized), ("exact", exact(quantized)), ("compiled", compiled)):
            error = (run(x) - model(x)).norm() / model(x).norm()
            print(f"{name}: {100 * error:.2f} % from the float model")


if __name__ == "__main__":
    main()
