"""The scaling curves of a run as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["plot"]


def plot(curves: Mapping[str, Any], path: Path) -> None:
    """Draw the curves that `benchmarks.speed` measured.

    Args:
        curves: as a run stores them.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an optional package
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    _lines(axes[0, 0], curves["size"], "elements", "ns an element", logarithmic=True)
    _lines(axes[0, 1], curves["threads"], "threads", "ms")
    _lines(axes[1, 0], curves["layers"], "width", "ms", logarithmic=True)
    for width in sorted({point["width"] for point in curves["gptq"]}):
        points = [{k: v for k, v in p.items() if k != "width"} for p in curves["gptq"] if p["width"] == width]
        _lines(axes[1, 1], points, "rows", "ms", suffix=f", {width}", logarithmic=True)
    titles = ("conversions", f"conversions, {curves['mebibytes']} MiB", "MXFP8 layer, 128 rows", "GPTQ, int4 g128")
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set_title(title)
        axis.legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(path)


def _lines(
    axis: Any,  # noqa: ANN401  # axes of matplotlib
    points: Sequence[Mapping[str, float]],
    x: str,
    y: str,
    *,
    suffix: str = "",
    logarithmic: bool = False,
) -> None:
    for name in points[0]:
        if name != x:
            axis.plot([p[x] for p in points], [p[name] for p in points], marker="o", label=f"{name}{suffix}")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if logarithmic:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
