"""Cases of convolutions of 8-bit floats: those of products as images, and images that are looked at from all sides."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from incref.backends.declared import Declared
from incref.conformance.allowed import Interval, map_interval
from incref.conformance.case import Arguments, Bounded, Case, Placement
from incref.conformance.generators.factors import draw_fp8
from incref.conformance.generators.matmul_bounds import ALLOWED
from incref.conformance.generators.product_case import HALVES, plain_scales, product_case
from incref.conformance.plan import Plan
from incref.numerics.granularity import PER_TENSOR, PER_TOKEN
from incref.numerics.patches import Pair
from incref.ops import encode
from incref.ops.fp8_conv2d import PER_FILTER

__all__ = ["fp8_conv2d_cases"]

_OP = "fp8_conv2d"
_KINDS = ("float8_e4m3fn/tensor", "float8_e5m2/row", "float8_e4m3fn/none", "float8_e4m3fnuz/row")
_PROBES = ("ladder", "identity1", "pairs", "signs_all", "nan")
_LENGTHS = (3, 33, 64, 65, 129)
_GEOMETRIES: tuple[dict[str, Pair | int], ...] = (
    {},
    {"stride": (2, 1), "padding": (1, 0)},
    {"padding": (2, 1), "dilation": (1, 2)},
    {"groups": 2, "padding": (1, 1)},
    {"stride": (3, 2), "padding": (0, 2), "dilation": (2, 1), "groups": 4},
)


def fp8_conv2d_cases(plan: Plan) -> Iterator[Case]:
    """Probes and bounded products as images whose patches don't overlap; small integers on every geometry."""
    is_first = plan.level == 0
    for kind in _KINDS[:2] if is_first else _KINDS:
        for length in (33,) if is_first else _LENGTHS:
            for probe in ("identity1", "signs_all", "ladder") if is_first else _PROBES:
                yield product_case(plan, _OP, probe, f"{kind}/{length}", partial(_image, plan, kind, probe, length))
            bounded = partial(_image, plan, kind, "random", length)
            expected = Bounded(allowed=_allowed)
            yield product_case(plan, _OP, "bounded", f"{kind}/{length}", bounded, expected=expected)
        for index in range(len(_GEOMETRIES)):
            yield product_case(plan, _OP, "geometry", f"{kind}/{index}", partial(_integers, plan, kind, index))
    if plan.level < 2:
        for placement in (Placement.REUSED,) if is_first else Placement:
            memory = partial(_integers, plan, _KINDS[0], 1)
            yield product_case(plan, _OP, "memory", _KINDS[0], memory, placement=placement)


def _image(plan: Plan, kind: str, probe: str, length: int) -> Arguments:
    """Lay the rows of a product [M, K] out as patches, one below the other."""
    found = dict(draw_fp8(plan, kind, probe, length))
    x, w = found["x"], found["w"]
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    height, width = (3, 1) if length % 3 == 0 else (1, 5) if length % 5 == 0 else (2, 2) if length % 4 == 0 else (1, 1)
    folded = F.fold(x.float().T[None], (height * x.shape[0], width), (height, width), stride=(height, width))
    found |= {"x": folded.to(torch.uint8), "w": w.view(w.shape[0], -1, height, width), "stride": (height, width)}
    x_scale, w_scale = found["x_scale"], found["w_scale"]
    if isinstance(x_scale, Tensor):
        found["x_scale"] = x_scale.flatten()[0].clone()
    if found.pop("w_granularity", PER_TENSOR) == PER_TOKEN:
        assert isinstance(w_scale, Tensor)
        found |= {"w_scale": w_scale.view(-1, 1, 1, 1), "w_granularity": PER_FILTER}
    found.pop("x_granularity", None)
    return found


def _integers(plan: Plan, kind: str, index: int) -> Arguments:
    """Images and filters of -1, 0 and 1, of so few terms that every accumulator holds each sum."""
    name, grouping = kind.split("/")
    geometry = _GEOMETRIES[index]
    groups = geometry.get("groups", 1)
    assert isinstance(groups, int)
    generator = plan.generator(1300 + index + 13 * len(kind))
    x = torch.randint(-1, 2, (2, 4, 9, 7), generator=generator).float()
    w = torch.randint(-1, 2, (8, 4 // groups, 3, 2), generator=generator).float()
    bias = torch.randint(-4, 5, (8,), generator=generator).float()
    found: dict[str, object] = {"x": encode(x, name), "w": encode(w, name), "x_fmt": name, "w_fmt": name, **geometry}
    found |= {"x_scale": None, "w_scale": None, "bias": bias, "dtype": HALVES[index % 3]}
    if grouping != "none":
        rows = (8, 1, 1, 1) if grouping == "row" else ()
        found |= {"x_scale": plain_scales((), generator), "w_scale": plain_scales(rows, generator)}
        found["w_granularity"] = PER_FILTER if grouping == "row" else PER_TENSOR
    return found


def _allowed(arguments: Arguments, declared: Declared) -> Interval:
    """What the product of the patches allows, in the shape of an image."""
    x, w, stride, w_scale = (arguments[name] for name in ("x", "w", "stride", "w_scale"))
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    rows = F.unfold(x.float(), w.shape[2:], stride=stride)[0].T.to(torch.uint8)  # type: ignore[arg-type]  # its pair
    if isinstance(w_scale, Tensor) and w_scale.ndim:
        w_scale = w_scale.flatten(1)
    product = {**arguments, "x": rows, "w": w.flatten(1), "w_scale": w_scale}
    return map_interval(ALLOWED["fp8_matmul"](product, declared), lambda y: y.T[None, :, :, None])
