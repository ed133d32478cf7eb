"""NaN, Inf, zeros, subnormals and overflow through a machine and a model."""

import math

import torch
from torch import Tensor

from conformance.accumulators.machine import Machine
from incref.formats import FloatFormat
from incref.numerics.accumulate.evaluate import accumulate_rows
from incref.numerics.accumulate.models import Accumulator

__all__ = ["ask_specials"]

_LENGTH = 128
_FLOAT32_MAX = torch.finfo(torch.float32).max
_CARRIED = {
    "carried NaN": math.nan,
    "carried Inf": math.inf,
    "carried -0": -0.0,
    "carried 2**-149": 2.0**-149,
    "carried 2**-140": 2.0**-140,
    "carried 2**-139": 2.0**-139,
    "carried 2**-126": 2.0**-126,
    "carried 1 + 2**-23": 1 + 2.0**-23,
    "carried -1 - 2**-13": -1 - 2.0**-13,
    "carried -1 - 2**-14": -1 - 2.0**-14,
    "carried greatest": _FLOAT32_MAX,
}
"""What sums start from beside products that are all 0."""


def _rows(a: FloatFormat, b: FloatFormat) -> dict[str, list[tuple[float, float]]]:
    least_a, least_b = a.smallest_positive, b.smallest_positive
    rows = {
        "NaN * 1": [(math.nan, 1.0)],
        "NaN * 0": [(math.nan, 0.0)],
        "-0 * 1": [(-0.0, 1.0)],
        "1 - 1": [(1.0, 1.0), (-1.0, 1.0)],
        "least * greatest": [(least_a, b.qmax)],
        "greatest * least": [(a.qmax, least_b)],
        "least * least": [(least_a, least_b)],
        "-least * least": [(-least_a, least_b)],
        "greatest * greatest twice": [(a.qmax, b.qmax), (a.qmax, b.qmax)],
        "greatest * greatest - the same": [(a.qmax, b.qmax), (-a.qmax, b.qmax)],
    }
    if a.inf_code is not None and b.inf_code is not None:
        rows |= {
            "Inf * 1": [(math.inf, 1.0)],
            "Inf * 0": [(math.inf, 0.0)],
            "Inf - Inf": [(math.inf, 1.0), (-math.inf, 1.0)],
            "-Inf * Inf": [(-math.inf, math.inf)],
        }
    return rows


def ask_specials(machine: Machine, model: Accumulator | None) -> dict[str, dict[str, str | None]]:
    """Give special terms to a machine, and to the model that is thought to be it.

    Returns:
        For every case, the bits of the machine and those of the model.
    """
    rows = _rows(machine.a_fmt, machine.b_fmt)
    names = list(rows) + (list(_CARRIED) if machine.takes_carried else [])
    a, b = torch.zeros(len(names), _LENGTH), torch.zeros(len(names), _LENGTH)
    for row, terms in enumerate(rows.values()):
        for place, (left, right) in enumerate(terms):
            a[row, place], b[row, place] = left, right
    carried = torch.tensor([_CARRIED.get(name, 0.0) for name in names]) if machine.takes_carried else None
    got = machine.rows(a, b, carried)
    want = None if model is None else accumulate_rows(a, b, machine.a_fmt, machine.b_fmt, model, carried=carried)
    return {
        name: {"machine": _hex(got[i]), "model": None if want is None else _hex(want[i])}
        for i, name in enumerate(names)
    }


def _hex(x: Tensor) -> str:
    return f"{int(x.view(torch.int32)) & 0xFFFFFFFF:08x}"
