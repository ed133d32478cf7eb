"""Every float32 magnitude through every scale rule that gives powers of two, compared with the oracle.

python -m conformance.scales
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from torch import Tensor

from conformance.expect import Mismatch
from conformance.runner import Outcome, Run, add_run_options, compare_runs, run_cases
from incref.formats import FORMATS, BlockFormat, FloatFormat, IntFormat, ScaleRule
from incref.numerics.granularity import PER_TOKEN
from incref.ops import compute_scale
from incref.oracle.scale_segments import scale_segments

__all__ = ["ScaleCase", "all_cases", "main"]


@dataclass(frozen=True, kw_only=True)
class ScaleCase:
    """One scale rule for one format of elements, over all float32 magnitudes."""

    fmt: FloatFormat | IntFormat
    rule: ScaleRule

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"{self.fmt.name}/{self.rule.value}"

    @property
    def op(self) -> str:
        """Name and version of the operation."""
        return f"{compute_scale.name}@{compute_scale.version}"

    def check(self, *, stride: int = 1, console: Console | None = None) -> Outcome:
        """Compare all 2**31 magnitudes, Inf and NaN included, or every `stride`-th chunk of them."""
        float32 = FORMATS["float32"]
        assert isinstance(float32, FloatFormat)
        run = Run(start=0, stop=1 << 31, segments=scale_segments(float32, self.fmt, self.rule))
        return compare_runs(self._scales, [run], name=self.key, stride=stride, console=console)

    def _scales(self, amax: Tensor) -> Tensor:
        """Scale codes of blocks of one element each."""
        scale = compute_scale(amax.view(-1, 1), self.fmt, PER_TOKEN, rule=self.rule)
        assert isinstance(scale, Tensor)
        return scale.view(-1)

    def describe(self, mismatch: Mismatch) -> str:
        """Say what a mismatch means."""
        return f"amax {mismatch.pattern:#010x}: compute_scale gave code {mismatch.got}, the oracle {mismatch.want}"


def all_cases() -> list[ScaleCase]:
    """Every rule that gives powers of two, with every element format of a block format that takes such scales."""
    elements = {
        fmt.element.name: fmt.element
        for fmt in FORMATS.values()
        if isinstance(fmt, BlockFormat) and not fmt.has_tensor_scale
    }
    return [ScaleCase(fmt=fmt, rule=rule) for fmt in elements.values() for rule in ScaleRule if rule.is_power_of_two]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status is 1 if there is a mismatch."""
    parser = argparse.ArgumentParser(description="Check every scale rule on all 2**31 float32 magnitudes.")
    add_run_options(parser)
    return run_cases("scales", all_cases(), parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
