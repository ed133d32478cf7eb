"""A plot of size against loss, with the schemes that no other beats on both."""

from collections.abc import Sequence
from pathlib import Path

from incref.config.schemes import SCHEMES
from incref.evaluation.result import Evaluation

__all__ = ["pareto_front", "plot_front"]


def pareto_front(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return those evaluations that none with as small a file or a smaller one beats in perplexity, smallest first."""
    front: list[Evaluation] = []
    for evaluation in sorted(evaluations, key=lambda e: (e.file_bytes, e.mean_nll)):
        if not front or evaluation.mean_nll < front[-1].mean_nll:
            front.append(evaluation)
    return front


def plot_front(evaluations: Sequence[Evaluation], path: Path, *, title: str) -> None:
    """Plot the size of each scheme against what it loses, as PNG, every point with the name of its scheme.

    Args:
        evaluations: the first is the float model, which losses are against.
        path: of the PNG.
        title: above the plot.
    """
    import matplotlib as mpl  # noqa: PLC0415  # slow, and only the demonstration has it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    baseline, *others = evaluations
    weight_only = [e for e in others if SCHEMES[e.scheme].activation is None]
    both = [e for e in others if e not in weight_only]
    figure, axes = plt.subplots(figsize=(11, 7), layout="constrained")
    for rows, color, marker, label in (
        (weight_only, "tab:blue", "o", "weights quantized"),
        (both, "tab:red", "s", "weights and activations quantized"),
    ):
        if not rows:
            continue
        front = pareto_front(rows)
        sizes, losses = zip(*((_megabytes(e), _loss(e, baseline)) for e in front), strict=True)
        axes.plot(sizes, losses, color=color, linewidth=1, alpha=0.5)
        axes.scatter(
            [_megabytes(e) for e in rows], [_loss(e, baseline) for e in rows], color=color, marker=marker, label=label
        )
        for e in rows:
            # Names of one kind stand on one side, so that schemes of one size don't cover each other.
            axes.annotate(
                e.scheme,
                (_megabytes(e), _loss(e, baseline)),
                xytext=(7 if rows is weight_only else -7, 0),
                textcoords="offset points",
                ha="left" if rows is weight_only else "right",
                va="center",
                fontsize=8,
                color=color,
            )
    # A scheme may lose nothing, or gain by chance.
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.margins(x=0.12)
    axes.set_xlabel(f"model.safetensors, MB (float32: {_megabytes(baseline):.0f} MB)")
    axes.set_ylabel(f"loss against float32 (perplexity {baseline.perplexity:.2f}), nats a token; lower is better")
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": ""})
    plt.close(figure)


def _loss(evaluation: Evaluation, baseline: Evaluation) -> float:
    return evaluation.mean_nll - baseline.mean_nll


def _megabytes(evaluation: Evaluation) -> float:
    return evaluation.file_bytes / 1e6
