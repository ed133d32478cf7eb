"""Cases of products of batches of 8-bit floats: those of products side by side, and small integers in every batch."""

from collections.abc import Iterator
from functools import partial
from itertools import starmap

import torch
from torch import Tensor

from incref.backends.declared import Declared
from incref.conformance.allowed import Interval
from incref.conformance.case import Arguments, Bounded, Case, Placement
from incref.conformance.generators.factors import draw_fp8
from incref.conformance.generators.matmul_bounds import ALLOWED
from incref.conformance.generators.product_case import HALVES, plain_scales, product_case
from incref.conformance.plan import Plan
from incref.ops import encode

__all__ = ["fp8_bmm_cases"]

_OP = "fp8_bmm"
_KINDS = (
    "float8_e4m3fn/tensor",
    "float8_e5m2/tensor",
    "float8_e4m3fn/none",
    "float8_e4m3fnuz/tensor",
    "float8_e4m3/tensor",
)
_PROBES = ("ladder", "identity1", "pairs", "signs_all", "nan")
_LENGTHS = (1, 33, 64, 65, 129)
_BATCHES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((2, 3), (2, 3)),
    ((2, 1), (1, 3)),
    ((), (2,)),
    ((4,), ()),
    ((3, 1, 2), (2,)),
    # Of these, the one dimension of y would fit either one of x.
    ((2, 2), (2,)),
)
_EMPTY = (((0,), (0,)), ((2,), (0, 2)))


def fp8_bmm_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products, of which the second of three has its rows turned around; integers in all batches."""
    is_first = plan.level == 0
    for kind in _KINDS[:2] if is_first else _KINDS:
        for length in (33,) if is_first else _LENGTHS:
            for probe in ("identity1", "signs_all", "ladder") if is_first else _PROBES:
                yield product_case(plan, _OP, probe, f"{kind}/{length}", partial(_batch, plan, kind, probe, length))
            bounded = partial(_batch, plan, kind, "random", length)
            expected = Bounded(allowed=_allowed)
            yield product_case(plan, _OP, "bounded", f"{kind}/{length}", bounded, expected=expected)
        yield product_case(plan, _OP, "square", kind, partial(_square, plan, kind))
        for index, batches in enumerate(_BATCHES):
            yield product_case(plan, _OP, "broadcast", f"{kind}/{index}", partial(_integers, plan, kind, batches))
    if plan.level < 2:
        for placement in (Placement.REUSED,) if is_first else Placement:
            memory = partial(_integers, plan, _KINDS[0], _BATCHES[0])
            yield product_case(plan, _OP, "memory", _KINDS[0], memory, placement=placement)
    if plan.level == 1:
        for index, batches in enumerate(_EMPTY):
            yield product_case(plan, _OP, "empty", f"{index}", partial(_integers, plan, _KINDS[0], batches))


def _batch(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
    """Put a product [M, K] by [K, N] beside those with the rows of x, and the columns of y, in the opposite order."""
    found = dict(draw_fp8(plan, kind, probe, length))
    x, w = found.pop("x"), found.pop("w")
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    rest = {name.replace("w_", "y_"): value for name, value in found.items() if not name.endswith("granularity")}
    return {"x": torch.stack([x, x.flip(0), x]), "y": torch.stack([w, w, w.flip(0)]).mT.contiguous(), **rest}


def _square(plan: Plan, kind: str) -> Arguments:
    """Matrices of 9 by 9, whose shape does not tell rows from columns; a row of x is all zeros, as under a mask."""
    found = dict(_integers(plan, kind, _BATCHES[0], rows=9, columns=9))
    x = found["x"]
    assert isinstance(x, Tensor)
    x[0, 1, 2] = 0
    return found


def _integers(
    plan: Plan, kind: str, batches: tuple[tuple[int, ...], tuple[int, ...]], *, rows: int = 5, columns: int = 4
) -> Arguments:
    """Matrices of -1, 0 and 1, of so few terms that every accumulator holds each sum."""
    name, grouping = kind.split("/")
    generator = plan.generator(1400 + len(batches[0]) + 5 * len(batches[1]) + 13 * len(kind))
    x = torch.randint(-1, 2, (*batches[0], rows, 9), generator=generator).float()
    y = torch.randint(-1, 2, (*batches[1], 9, columns), generator=generator).float()
    scales = [None if grouping == "none" else plain_scales((), generator) for _ in range(2)]
    found: dict[str, object] = {"x": encode(x, name), "y": encode(y, name), "x_fmt": name, "y_fmt": name}
    return {**found, "x_scale": scales[0], "y_scale": scales[1], "dtype": HALVES[sum(batches[0], len(kind)) % 3]}


def _allowed(arguments: Arguments, declared: Declared) -> Interval:
    """What the products allow, one by one."""
    x, y = arguments["x"], arguments["y"]
    assert isinstance(x, Tensor)
    assert isinstance(y, Tensor)
    shared = {**arguments, "w_scale": arguments["y_scale"], "w_fmt": arguments["y_fmt"]}

    def of_one(left: Tensor, right: Tensor) -> Interval:
        return ALLOWED["fp8_matmul"]({**shared, "x": left, "w": right.T}, declared)

    found = list(starmap(of_one, zip(x, y, strict=True)))
    return Interval(low=torch.stack([one.low for one in found]), high=torch.stack([one.high for one in found]))
