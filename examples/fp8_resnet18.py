"""Quantize a ResNet-18 to FP8 as Gaudi 2 computes it, on any machine: prepare, calibrate, convert.

The workflow is that of Neural Compressor; only the imports differ, and the target may be any.
"""

import argparse
import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from incref import FP8Config, convert, finalize_calibration, prepare


class BasicBlock(nn.Module):
    """Two convolutions, and a way around them (arXiv 1512.03385, figure 5, left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Make a block from `inputs` channels to `outputs`."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of x to x."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """The network of 18 layers (arXiv 1512.03385, table 1)."""

    def __init__(self, classes: int = 1000) -> None:
        """Make one with random weights."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        channels = (64, 64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(channels):
            blocks += [BasicBlock(inputs, outputs, 1 if inputs == outputs else 2), BasicBlock(outputs, outputs, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes, of images [B, 3, H, W]."""
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def make_images(seed: int, batch: int, size: int) -> Tensor:
    """Draw images [batch, 3, size, size] with structure at every scale."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(batch, 3, size, size)
    for cells in (2, 4, 8, 16, size):
        noise = torch.randn(batch, 3, cells, cells, generator=generator)
        images += F.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)
    return images


@torch.no_grad()
def make_model(size: int) -> nn.Module:
    """Make a network whose normalizations know the images, as those of a trained one do."""
    torch.manual_seed(0)
    model = ResNet18().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # The plain average over all that is seen.
            module.momentum = None
    for seed in range(2):
        model(make_images(seed, 8, size))
    return model.eval()


@torch.no_grad()
def calibrate(model: nn.Module, batches: int, size: int) -> None:
    """Show the model some images."""
    for seed in range(batches):
        model(make_images(100 + seed, 8, size))


@torch.no_grad()
def compare(model: nn.Module, quantized: nn.Module, size: int) -> tuple[float, float]:
    """Relative error of the scores, and how often the class with the highest one is the same, of new images."""
    images = make_images(1000, 16, size)
    device = next(quantized.parameters()).device
    want, got = model(images), quantized(images.to(device)).cpu()
    error = (got - want).norm() / want.norm()
    return error.item(), (got.argmax(-1) == want.argmax(-1)).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Quantize, and show what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="gaudi2", help="gaudi2, gaudi3 or ocp")
    parser.add_argument("--fp8-config", default="E4M3", help="E4M3 or E5M2")
    parser.add_argument("--scale-method", default="maxabs_hw")
    parser.add_argument("--dump-stats-path", default="./hqt_output/measure")
    parser.add_argument("--size", type=int, default=224, help="of the images")
    parser.add_argument("--device", default="cpu", help="hpu for a Gaudi, or for what INCREF_HPU_SIMULATOR simulates")
    parser.add_argument("--batches", type=int, default=2, help="for calibration, of 8 images")
    given = parser.parse_args(arguments)

    model = make_model(given.size)
    config = FP8Config(
        fp8_config=given.fp8_config,
        target=given.target,
        scale_method=given.scale_method,
        dump_stats_path=given.dump_stats_path,
    )
    prepared = prepare(copy.deepcopy(model), config)
    calibrate(prepared, given.batches, given.size)
    finalize_calibration(prepared)
    quantized = convert(prepared, device=given.device)

    print(quantized.get_submodule("blocks.0"))
    error, agreement = compare(model, quantized, given.size)
    print(f"{given.fp8_config} as on {given.target}: relative error {error:.4f}, same class {agreement:.0%}")


if __name__ == "__main__":
    main()
