"""Search the options of rounding to nearest for the first that keeps a model accurate.

The workflow is that of Neural Compressor; only the imports differ.
"""

import torch
from torch import nn

from incref import RTNConfig, TuningConfig, autotune


def make_model() -> nn.Module:
    """Make a classifier of 4 classes, trained for a moment."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for seed in range(100):
        x, y = make_batch(seed)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def make_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw inputs [256, 128], and say which of four parts of each is the largest on average."""
    x = torch.randn(256, 128, generator=torch.Generator().manual_seed(seed))
    return x, x.reshape(256, 4, 32).mean(-1).argmax(-1)


@torch.no_grad()
def eval_fn(model: nn.Module) -> float:
    """Accuracy on data that the model was not trained with."""
    x, y = make_batch(1000)
    return (model(x).argmax(-1) == y).float().mean().item()


def main() -> None:
    """Tune, and show what came of it."""
    model = make_model()
    tune_config = TuningConfig(
        config_set=RTNConfig(use_sym=[False, True], group_size=[32, 128]),
        tolerable_loss=0.01,
    )
    best_model = autotune(model, tune_config, eval_fn)
    print(best_model)
    print(f"accuracy: {eval_fn(model):.3f} as float, {eval_fn(best_model):.3f} quantized")


if __name__ == "__main__":
    main()
