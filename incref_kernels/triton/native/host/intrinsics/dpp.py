"""Which lane a DPP (data parallel primitive) operand comes from.

Source: AMD Instinct MI300 ISA, section "Data Parallel Processing (DPP)", for waves of 64 lanes: rows of 16, banks of 4.
"""

from enum import Enum, auto

from incref.errors import UnsupportedError

__all__ = ["Nowhere", "dpp_source"]


class Nowhere(Enum):
    """What a lane gets that has no source lane."""

    OLD = auto()
    ZERO = auto()


def dpp_source(lane: int, control: int, row_mask: int, bank_mask: int, *, bound_control: bool) -> int | Nowhere:
    """The lane whose value `lane` gets.

    Args:
        lane: 0 to 63.
        control: the instruction's DPP_CTRL.
        row_mask: bit r is set if row r of 16 lanes takes part.
        bank_mask: bit b is set if bank b of 4 lanes in each row takes part.
        bound_control: whether a source outside of the row reads as 0; otherwise the lane keeps its old value.

    Raises:
        UnsupportedError: for a control that the manual doesn't define.
    """
    row, place = divmod(lane, 16)
    if not (row_mask >> row & 1 and bank_mask >> (place // 4) & 1):
        return Nowhere.OLD
    source = _source(lane, control)
    if source is None:
        return Nowhere.ZERO if bound_control else Nowhere.OLD
    return source


def _source(lane: int, control: int) -> int | None:
    if control <= 0xFF:
        return lane & ~3 | control >> 2 * (lane & 3) & 3
    if 0x101 <= control <= 0x12F and control & 0xF:
        return _shifted(lane, control >> 4, control & 0xF)
    if 0x150 <= control <= 0x15F:
        return lane & ~15 | control & 0xF
    if control in _NAMED:
        return _named(lane, control)
    raise UnsupportedError(f"DPP control 0x{control:x} is not known")


def _shifted(lane: int, kind: int, count: int) -> int | None:
    start, place = lane & ~15, lane & 15
    if kind == 0x12:
        return start | (place - count) & 15
    moved = place + count if kind == 0x10 else place - count
    return start | moved if 0 <= moved < 16 else None


_NAMED = {0x130, 0x134, 0x138, 0x13C, 0x140, 0x141, 0x142, 0x143}


def _named(lane: int, control: int) -> int | None:
    row = lane // 16
    sources = {
        0x130: lane + 1 if lane < 63 else None,
        0x134: (lane + 1) & 63,
        0x138: lane - 1 if lane else None,
        0x13C: (lane - 1) & 63,
        0x140: lane ^ 15,
        0x141: lane ^ 7,
        0x142: row * 16 - 1 if row else None,
        0x143: 31 if row >= 2 else None,
    }
    return sources[control]
