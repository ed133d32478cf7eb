"""Every float32 value through `encode`, compared with the oracle.

python -m conformance.sweep --format e4m3fn --rounding nearest_even --overflow saturate
python -m conformance.sweep --all
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from conformance.expect import Mismatch
from conformance.runner import Outcome, Run, add_run_options, compare_runs, run_cases
from incref.formats import (
    FORMATS,
    BlockFormat,
    ElementFormat,
    FloatFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    get_format,
)
from incref.ops import encode
from incref.oracle.datum import Datum
from incref.oracle.segments import encode_segments
from incref.oracle.values import decode

__all__ = ["EncodeCase", "main"]

_HALF = 1 << 31


@dataclass(frozen=True, kw_only=True)
class EncodeCase:
    """`encode` under one combination of options, over all float32 values."""

    fmt: ElementFormat
    rounding: Rounding = Rounding.NEAREST_EVEN
    overflow: Overflow = Overflow.SATURATE
    nan: NanRule = NanRule.MAX
    int_range: IntRange = IntRange.FULL

    @property
    def key(self) -> str:
        """Its name among the results."""
        options = (self.rounding, self.overflow, self.nan, self.int_range)
        return "/".join((self.fmt.name, *(option.value for option in options)))

    @property
    def op(self) -> str:
        """Name and version of the operation."""
        return f"{encode.name}@{encode.version}"

    def check(self, *, stride: int = 1, console: Console | None = None) -> Outcome:
        """Compare all 2**32 patterns, or every `stride`-th chunk of them."""
        run = partial(
            encode,
            fmt=self.fmt,
            rounding=self.rounding,
            overflow=self.overflow,
            nan=self.nan,
            int_range=self.int_range,
        )
        return compare_runs(
            run, (self._run(is_negative=sign) for sign in (False, True)), name=self.key, stride=stride, console=console
        )

    def _run(self, *, is_negative: bool) -> Run:
        segments = encode_segments(
            _float32(),
            self.fmt,
            is_negative=is_negative,
            rounding=self.rounding,
            overflow=self.overflow,
            nan=self.nan,
            int_range=self.int_range,
        )
        start = _HALF if is_negative else 0
        return Run(start=start, stop=start + _HALF, segments=segments)

    def describe(self, mismatch: Mismatch) -> str:
        """Say what a mismatch means."""
        # Codes of floats come back from tensors of signed integers.
        mask = (1 << self.fmt.bits) - 1 if isinstance(self.fmt, FloatFormat) else -1
        got, want = mismatch.got & mask, mismatch.want & mask
        return (
            f"float32 {mismatch.pattern:#010x} ({_show(decode(mismatch.pattern, _float32()))}): "
            f"encode gave code {got:#x} ({_show(decode(got, self.fmt))}), "
            f"the oracle {want:#x} ({_show(decode(want, self.fmt))})"
        )


def _show(x: Datum) -> str:
    sign = "-" if x.is_negative else ""
    return sign + (float.hex(float(x.magnitude)) if x.is_finite else x.kind.name.lower())


def _float32() -> FloatFormat:
    fmt = FORMATS["float32"]
    assert isinstance(fmt, FloatFormat)
    return fmt


def _element_format(name: str) -> ElementFormat:
    fmt = get_format(name)
    if isinstance(fmt, BlockFormat):
        raise SystemExit(f"{fmt.name} shares scales between elements; sweep its elements, {fmt.element.name}")
    return fmt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status is 1 if there is a mismatch."""
    parser = argparse.ArgumentParser(description="Check encode on all 2**32 float32 values against the exact oracle.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--format", help="an element format, such as e4m3fn or int8")
    which.add_argument("--all", action="store_true", help="every float format of at most 8 bits")
    roundings = [rounding.value for rounding in Rounding if rounding is not Rounding.STOCHASTIC]
    parser.add_argument("--rounding", default=Rounding.NEAREST_EVEN.value, choices=roundings)
    parser.add_argument("--overflow", default=Overflow.SATURATE.value, choices=[mode.value for mode in Overflow])
    rules = [rule.value for rule in NanRule if rule is not NanRule.ERROR]
    parser.add_argument("--nan", default=NanRule.MAX.value, choices=rules)
    parser.add_argument("--int-range", default=IntRange.FULL.value, choices=[kind.value for kind in IntRange])
    add_run_options(parser)
    options = parser.parse_args(arguments)
    narrow = [fmt for fmt in FORMATS.values() if isinstance(fmt, FloatFormat) and fmt.bits <= 8]
    cases = [
        EncodeCase(
            fmt=fmt,
            rounding=Rounding(options.rounding),
            overflow=Overflow(options.overflow),
            nan=NanRule(options.nan),
            int_range=IntRange(options.int_range),
        )
        for fmt in (narrow if options.all else [_element_format(options.format)])
    ]
    return run_cases("sweep", cases, options)


if __name__ == "__main__":
    sys.exit(main())
