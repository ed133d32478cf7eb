"""A plot of size against perplexity, with the schemes that no other beats on both."""

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
    """Plot the bits of a weight against the perplexity of each scheme, as PNG.

    Args:
        evaluations: the first is the float model; it is drawn as a line.
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
    axes.axhline(baseline.perplexity, color="black", linewidth=1, linestyle="--")
    axes.annotate(
        f"float32: {baseline.perplexity:.2f}, {baseline.file_bytes / 1e6:.0f} MB",
        (0.995, baseline.perplexity),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    for rows, color, marker, label in (
        (weight_only, "tab:blue", "o", "weights quantized"),
        (both, "tab:red", "s", "weights and activations quantized"),
    ):
        if not rows:
            continue
        front = pareto_front(rows)
        axes.plot([_megabytes(e) for e in front], [e.perplexity for e in front], color=color, linewidth=1, alpha=0.5)
        axes.scatter(
            [_megabytes(e) for e in rows], [e.perplexity for e in rows], color=color, marker=marker, label=label
        )
    axes.set_yscale("log")
    axes.set_xlabel("model.safetensors, MB")
    axes.set_ylabel("perplexity (log scale, lower is better)")
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": ""})
    plt.close(figure)


def _megabytes(evaluation: Evaluation) -> float:
    return evaluation.file_bytes / 1e6
