"""Blocks of every kind through `quantize_mx`, scales and codes compared bit for bit with the oracle.

python -m conformance.blocks
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from conformance.block_classes import block_classes
from conformance.record import Json, environment, load, source_hash, store
from conformance.runner import add_run_options
from incref.formats import FORMATS, BlockFormat, FloatFormat, NanRule, ScaleArithmetic, ScaleRule
from incref.ops import quantize_mx
from incref.oracle.blocks import quantize_block
from incref.oracle.datum import Datum
from incref.oracle.elements import ElementRules
from incref.oracle.nvfp4 import quantize_scaled_block, tensor_scale
from incref.oracle.values import decode

__all__ = ["BlockCase", "Outcome", "all_cases", "check", "main"]

_TENSOR_BLOCKS = 64
_RULES = ElementRules(nan=NanRule.MAX)


@dataclass(frozen=True, kw_only=True)
class BlockCase:
    """A block format with one way to compute its scales: a rule for MX, an arithmetic for NVFP4."""

    fmt: BlockFormat
    rule: ScaleRule | None = None
    arithmetic: ScaleArithmetic = ScaleArithmetic.DIVIDE

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"{self.fmt.name}/{(self.rule or self.arithmetic).value}"


@dataclass(kw_only=True)
class Outcome:
    """What a comparison found: blocks and bad blocks of each class, and the first bad one in words."""

    blocks: dict[str, int] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)
    first: str | None = None
    seconds: float = 0.0


def all_cases() -> list[BlockCase]:
    """Every block format with every rule or arithmetic that it takes."""
    formats = [fmt for fmt in FORMATS.values() if isinstance(fmt, BlockFormat)]
    return [
        *(
            BlockCase(fmt=fmt, rule=rule)
            for fmt in formats
            if not fmt.has_tensor_scale
            for rule in ScaleRule
            if rule.is_power_of_two
        ),
        *(
            BlockCase(fmt=fmt, arithmetic=arithmetic)
            for fmt in formats
            if fmt.has_tensor_scale
            for arithmetic in ScaleArithmetic
        ),
    ]


def check(case: BlockCase, *, scale: float = 1.0, seed: int = 0, console: Console | None = None) -> Outcome:
    """Compare the blocks of all classes with the oracle.

    Args:
        case: format and rule.
        scale: share of the usual number of blocks in each class; 1 is 10,000 and more in all.
        seed: of the random ones.
        console: where progress is shown; None for nowhere.
    """
    begun = time.perf_counter()
    outcome = Outcome()
    classes = block_classes(case.fmt, scale=scale, seed=seed)
    with Progress(console=console, disable=console is None, transient=True) as progress:
        for name, blocks in progress.track(classes.items(), description=case.key):
            outcome.blocks[name], outcome.bad[name] = len(blocks), 0
            for tensor in blocks.split(_TENSOR_BLOCKS):
                for wrong in _wrong_blocks(case, tensor):
                    outcome.bad[name] += 1
                    outcome.first = outcome.first or f"{name}: {wrong}"
    outcome.seconds = time.perf_counter() - begun
    return outcome


def _wrong_blocks(case: BlockCase, x: Tensor) -> Iterator[str]:
    """Describe each block of the tensor `x`, [blocks, block_size], that is not as the oracle says."""
    got = quantize_mx(x, case.fmt, rule=case.rule, arithmetic=case.arithmetic, nan=NanRule.MAX)
    codes, scales = got[0].tolist(), got[1].view(-1).tolist()
    data = [[_datum(pattern & 0xFFFFFFFF) for pattern in row] for row in x.view(torch.int32).tolist()]
    whole = tensor_scale([datum for row in data for datum in row], case.fmt) if case.fmt.has_tensor_scale else None
    if whole is not None and _datum(int(got[-1].view(torch.int32)) & 0xFFFFFFFF) != whole:
        yield f"tensor_scale {got[-1].item()!r}, the oracle {whole}"
    for place, row in enumerate(data):
        if whole is None:
            assert case.rule is not None
            want_codes, want_scale = quantize_block(row, case.fmt, rule=case.rule, elements=_RULES)
        else:
            want_codes, want_scale = quantize_scaled_block(
                row, case.fmt, whole, arithmetic=case.arithmetic, elements=_RULES
            )
        if codes[place] != want_codes or scales[place] != want_scale:
            yield (
                f"values {[value.hex() for value in x[place].tolist()]}: scale {scales[place]}, codes {codes[place]}; "
                f"the oracle: scale {want_scale}, codes {want_codes}"
            )


@lru_cache(maxsize=1 << 19)
def _datum(pattern: int) -> Datum:
    fmt = FORMATS["float32"]
    assert isinstance(fmt, FloatFormat)
    return decode(pattern, fmt)


def _result(outcome: Outcome, seed: int, sources: str) -> dict[str, Json]:
    return {
        "op": f"{quantize_mx.name}@{quantize_mx.version}",
        "blocks": dict(outcome.blocks),
        "bad": dict(outcome.bad),
        "first_bad": outcome.first,
        "seed": seed,
        "seconds": round(outcome.seconds, 1),
        "sources": sources,
        "environment": environment(),
    }


def _table(outcomes: dict[str, Outcome]) -> Table:
    """Bad blocks of all, by case and class."""
    table = Table("case", title="bad blocks of all blocks")
    classes = sorted({name for outcome in outcomes.values() for name in outcome.blocks})
    for name in classes:
        table.add_column(name, justify="right")
    for key, outcome in outcomes.items():
        table.add_row(key, *(f"{outcome.bad.get(name, 0)} / {outcome.blocks.get(name, 0)}" for name in classes))
    return table


def _known(key: str, seed: int, sources: str) -> bool:
    found = load("blocks").get(key)
    if not isinstance(found, dict) or not isinstance(found["bad"], dict):
        return False
    return found["sources"] == sources and found["seed"] == seed and not any(found["bad"].values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status is 1 if a block is wrong."""
    parser = argparse.ArgumentParser(description="Check quantize_mx on blocks of every kind against the exact oracle.")
    parser.add_argument("--seed", type=int, default=0, help="of the random blocks")
    add_run_options(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console(soft_wrap=True)
    sources = source_hash()
    outcomes: dict[str, Outcome] = {}
    for case in all_cases():
        if not options.again and _known(case.key, options.seed, sources):
            console.print(f"{case.key}: no bad block in an earlier run")
            continue
        outcome = check(case, seed=options.seed, console=None if options.quiet else console)
        outcomes[case.key] = outcome
        store("blocks", case.key, _result(outcome, options.seed, sources))
        total, bad = sum(outcome.blocks.values()), sum(outcome.bad.values())
        console.print(f"{case.key}: {total:,} blocks, {bad:,} bad, {outcome.seconds:.1f} s")
        if outcome.first is not None:
            console.print(f"  first: {outcome.first}")
    if outcomes:
        console.print(_table(outcomes))
    return int(any(sum(outcome.bad.values()) for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
