"""Says which options of a contract a black box implements."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import product

import torch
from torch import Tensor

from incref.conformance.case import argument_text
from incref.conformance.comparison import as_results
from incref.conformance.generators.rows import hard_rows, tie_rows
from incref.conformance.identification import Difference, Identification
from incref.conformance.identify_product import PRODUCTS, identify_product
from incref.conformance.implementation import Candidate
from incref.conformance.judge import bits_of
from incref.conformance.samples import all_codes, boundaries
from incref.formats import (
    MX_PRESETS,
    BlockFormat,
    BlockRule,
    FloatFormat,
    Format,
    IntFormat,
    IntRange,
    NanRule,
    Overflow,
    Rounding,
    ScaleArithmetic,
    ScaleRule,
    SymmetricScale,
    get_format,
)
from incref.formats.layouts import LAYOUTS, PackLayout
from incref.numerics.codes import code_dtype
from incref.numerics.granularity import PER_TOKEN
from incref.ops.table import OPS

__all__ = ["identify"]

Options = dict[str, object]


class _Subnormals(Enum):
    KEPT = "kept"
    FLUSHED_INPUTS = "inputs_flushed"


class _NanCode(Enum):
    CONTRACT = "contract"
    ALL_ONES = "all_ones"


def identify(candidate: Candidate, fmt: str) -> Identification:
    """Find the options under which the reference gives what a black box gives.

    The black box is called with values and the name of a format, and nothing else, so that its own choices show; every
    combination of options is compared with it on inputs at which they differ. Rows share a scale in `quantize_affine`,
    `quantize_float` and `compute_scale`, and blocks lie along them in `quantize_mx`.

    Products are asked for their accumulator and the order of their scales; see `identify_product`.

    Args:
        candidate: of `encode`, `quantize_mx`, `quantize_affine`, `quantize_float`, `compute_scale`, `pack`, or a
            product.
        fmt: name of the format.

    Raises:
        ValueError: for another operation.
    """
    target = get_format(fmt)
    if candidate.op in PRODUCTS:
        return identify_product(candidate, target.name)
    if candidate.op not in _QUESTIONS:
        allowed = ", ".join((*_QUESTIONS, *PRODUCTS))
        raise ValueError(f"what can be identified is {allowed}, got {candidate.op}")
    x, fixed, choices = _QUESTIONS[candidate.op](target)
    name = "codes" if candidate.op == "pack" else "x"
    got = as_results(candidate.call({name: x.clone(), "fmt": target.name}))
    found = []
    for combination in _combinations(choices):
        want = _ask(candidate.op, name, x, target, fixed, combination)
        found.append((_count(got, want), combination))
    best = min(count for count, _ in found)
    matching = [combination for count, combination in found if count == best]
    chosen = matching[0]
    undecided = {
        option: tuple(sorted({argument_text(one[option]) for one in matching} - {argument_text(chosen[option])}))
        for option in chosen
        if len({argument_text(one[option]) for one in matching}) > 1
    }
    return Identification(
        op=candidate.op,
        fmt=target.name,
        options={option: argument_text(value) for option, value in chosen.items()},
        undecided=undecided,
        mismatches=best,
        total=sum(one.numel() for one in got),
        preset=_presets(target, chosen) if candidate.op == "quantize_mx" else (),
        differences=tuple(_differences(candidate.op, name, x, target, fixed, choices, chosen, got, undecided)),
        first_unexplained=_first_unexplained(x, got, _ask(candidate.op, name, x, target, fixed, chosen)),
    )


Question = tuple[Tensor, Options, Mapping[str, Sequence[object]]]


def _combinations(choices: Mapping[str, Sequence[object]]) -> Iterator[Options]:
    for values in product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _ask(  # noqa: PLR0917  # the question and a combination
    op: str, name: str, x: Tensor, fmt: Format, fixed: Options, combination: Options
) -> tuple[Tensor, ...]:
    options = {**fixed, **combination}
    if options.pop("subnormals", None) is _Subnormals.FLUSHED_INPUTS:
        x = torch.where(x.abs() < torch.finfo(x.dtype).tiny, torch.zeros_like(x).copysign(x), x)
    nan_code = options.pop("nan_code", None)
    found = as_results(OPS[op].reference(**{name: x, "fmt": fmt.name, **options}))
    if nan_code is _NanCode.ALL_ONES and isinstance(fmt, FloatFormat):
        is_nan = torch.tensor([fmt.is_nan(code) for code in range(fmt.num_codes)])
        codes = found[0]
        found = (torch.where(is_nan[codes.long()], codes | (fmt.sign_code - 1), codes), *found[1:])
    return found


def _count(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> int:
    if len(got) != len(want):
        return sum(one.numel() for one in want)
    return sum(int(_differs(one, right).sum()) for one, right in zip(got, want, strict=True))


def _differs(got: Tensor, want: Tensor) -> Tensor:
    if got.shape != want.shape or got.dtype is not want.dtype:
        return torch.ones_like(want, dtype=torch.bool)
    differs = bits_of(got) != bits_of(want)
    return differs & ~(got.isnan() & want.isnan()) if got.is_floating_point() else differs


def _differences(  # noqa: PLR0917  # the question, its answers, and the choice
    op: str,
    name: str,
    x: Tensor,
    fmt: Format,
    fixed: Options,
    choices: Mapping[str, Sequence[object]],
    chosen: Options,
    got: tuple[Tensor, ...],
    undecided: Mapping[str, tuple[str, ...]],
) -> Iterator[Difference]:
    for option, values in choices.items():
        for other in values:
            if other == chosen[option] or argument_text(other) in undecided.get(option, ()):
                continue
            would_be = _ask(op, name, x, fmt, fixed, {**chosen, option: other})
            for one, right in zip(got, would_be, strict=False):
                differs = _differs(one, right)
                if one.shape != right.shape or not bool(differs.any()):
                    continue
                place = tuple(differs.nonzero()[0].tolist())
                yield Difference(
                    option=option,
                    other=argument_text(other),
                    place=place,
                    given=_given(x, one, place),
                    got=str(one[place].item()),
                    would_be=str(right[place].item()),
                )
                break


def _first_unexplained(x: Tensor, got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> str:
    for number, (one, right) in enumerate(zip(got, want, strict=False)):
        if one.shape != right.shape or one.dtype is not right.dtype:
            return f"result {number} is {one.dtype} {tuple(one.shape)}, not {right.dtype} {tuple(right.shape)}"
        wrong = _differs(one, right).nonzero()
        if len(wrong):
            place = tuple(wrong[0].tolist())
            given = f"{_given(x, one, place)} at {place}"
            return f"result {number} of {given}: {one[place].item()}, not {right[place].item()}"
    return ""


def _given(x: Tensor, result: Tensor, place: tuple[int, ...]) -> str:
    """The input of a result: the element itself, or the largest magnitude of what shares a scale."""
    given = x[place] if result.shape == x.shape else x[place[0]].abs().max() if place else x.abs().max()
    return float(given).hex()


def _presets(fmt: Format, chosen: Options) -> tuple[str, ...]:
    """Vendors' presets for the format that have these choices."""
    return tuple(
        name
        for name, preset in MX_PRESETS.items()
        if fmt.name in preset.formats
        and all(chosen.get(option, value) == value for option, value in preset.options().items())
    )


def _encode(fmt: Format) -> Question:
    assert not isinstance(fmt, BlockFormat)
    x = boundaries(fmt, torch.float32)
    roundings = [one for one in Rounding if one is not Rounding.STOCHASTIC]
    choices: dict[str, Sequence[object]] = {
        "rounding": roundings,
        "overflow": list(Overflow),
        "subnormals": list(_Subnormals),
    }
    if isinstance(fmt, FloatFormat):
        choices["nan_code"] = list(_NanCode)
    if not (isinstance(fmt, FloatFormat) and fmt.nan_code is not None):
        choices["nan"] = [NanRule.MAX, NanRule.ZERO]
    return x, {"nan": NanRule.MAX} if "nan" not in choices else {}, choices


def _rows(fmt: Format, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return hard_rows(element, torch.float32, width, generator)


def _quantize_mx(fmt: Format) -> Question:
    assert isinstance(fmt, BlockFormat)
    x = _rows(fmt, fmt.block_size)
    rules = [BlockRule.NAN_BLOCK, BlockRule.ELEMENT, BlockRule.SATURATE]
    choices: dict[str, Sequence[object]] = {
        "rule": [rule for rule in ScaleRule if rule.is_power_of_two],
        "rounding": [Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO],
        "nan_block": rules,
        "inf_block": rules,
        "subnormals": list(_Subnormals),
    }
    if fmt.has_tensor_scale:
        choices["rule"] = [ScaleRule.DIVIDE]
        choices["arithmetic"] = list(ScaleArithmetic)
    if isinstance(fmt.element, IntFormat):
        choices["int_range"] = list(IntRange)
    return x, {"nan": NanRule.MAX}, choices


def _quantize_affine(fmt: Format) -> Question:
    assert isinstance(fmt, IntFormat)
    rows = hard_rows(fmt, torch.float32, 16, torch.Generator().manual_seed(0), has_specials=False)
    # Rows whose values lie near ties of the scale that their largest one gives.
    ties, _ = tie_rows(fmt, (0.1, 1 / 3, 0.0371), torch.float32, reach=0)
    near = ties[:, : ties.shape[1] // 16 * 16].reshape(-1, 16)
    x = torch.cat([rows, near])
    choices: dict[str, Sequence[object]] = {
        "rule": [ScaleRule.DIVIDE, ScaleRule.RECIPROCAL],
        "arithmetic": list(ScaleArithmetic),
        "rounding": [Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO],
        "symmetric": [True, False] if fmt.is_signed else [False],
    }
    if fmt.is_signed:
        choices["symmetric_scale"] = [SymmetricScale.QMAX, SymmetricScale.SPAN]
        choices["int_range"] = list(IntRange)
    return x, {"granularity": PER_TOKEN, "nan": NanRule.ZERO}, choices


def _quantize_float(fmt: Format) -> Question:
    choices: dict[str, Sequence[object]] = {
        "rule": list(ScaleRule),
        "arithmetic": list(ScaleArithmetic),
        "rounding": [Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO],
    }
    return _rows(fmt, 16), {"granularity": PER_TOKEN, "nan": NanRule.MAX}, choices


def _compute_scale(fmt: Format) -> Question:
    choices: dict[str, Sequence[object]] = {"rule": list(ScaleRule)}
    if isinstance(fmt, IntFormat) and fmt.is_signed:
        choices["symmetric_scale"] = list(SymmetricScale)
    return _rows(fmt, 16), {"granularity": PER_TOKEN}, choices


def _pack(fmt: Format) -> Question:
    assert not isinstance(fmt, BlockFormat)
    codes = all_codes(fmt)
    length = 96
    x = codes[torch.randint(0, codes.numel(), (4, length), generator=torch.Generator().manual_seed(0))]
    is_unsigned = isinstance(fmt, IntFormat) and not fmt.is_signed
    layouts = [
        layout
        for layout in PackLayout
        if fmt.bits in LAYOUTS[layout].code_bits and (not LAYOUTS[layout].offset or is_unsigned)
    ]
    assert x.dtype is code_dtype(fmt)
    return x, {}, {"layout": layouts}


_QUESTIONS: Mapping[str, Callable[[Format], Question]] = {
    "encode": _encode,
    "quantize_mx": _quantize_mx,
    "quantize_affine": _quantize_affine,
    "quantize_float": _quantize_float,
    "compute_scale": _compute_scale,
    "pack": _pack,
}
