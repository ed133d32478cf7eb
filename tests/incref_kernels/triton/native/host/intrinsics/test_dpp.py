import pytest

from incref.errors import UnsupportedError
from incref_kernels.triton.native.host.intrinsics.dpp import Nowhere, dpp_source


def sources(control: int, *, rows: int = 15, banks: int = 15, bound: bool = True) -> list[int | Nowhere]:
    return [dpp_source(lane, control, rows, banks, bound_control=bound) for lane in range(64)]


@pytest.mark.parametrize(
    ("control", "lane", "source"),
    [
        # quad_perm [2, 3, 0, 1] and [1, 0, 3, 2].
        (0x4E, 5, 7),
        (0x4E, 6, 4),
        (0xB1, 5, 4),
        # row_shl, row_shr, row_ror.
        (0x108, 3, 11),
        (0x111, 3, 2),
        (0x121, 16, 31),
        # The wave by one.
        (0x130, 15, 16),
        (0x134, 63, 0),
        (0x138, 16, 15),
        (0x13C, 0, 63),
        # row_mirror, row_half_mirror.
        (0x140, 18, 29),
        (0x141, 18, 21),
        # row_bcast15, row_bcast31, row_newbcast.
        (0x142, 17, 15),
        (0x142, 40, 31),
        (0x143, 33, 31),
        (0x153, 37, 35),
    ],
)
def test_source_lane(control: int, lane: int, source: int) -> None:
    assert sources(control)[lane] == source


def test_shifting_out_of_the_row_reads_zero_or_keeps_the_old_value() -> None:
    assert sources(0x108)[9] is Nowhere.ZERO
    assert sources(0x108, bound=False)[9] is Nowhere.OLD


def test_masked_rows_and_banks_keep_the_old_value() -> None:
    found = sources(0x142, rows=0b1010, banks=0b1110)
    assert [lane for lane in range(64) if found[lane] is not Nowhere.OLD] == [*range(20, 32), *range(52, 64)]


def test_permutations_lose_no_lane() -> None:
    for control in (0x1B, 0x4E, 0xB1, 0x123, 0x134, 0x13C, 0x140, 0x141):
        assert sorted(source for source in sources(control) if isinstance(source, int)) == list(range(64))


def test_unknown_control_is_named() -> None:
    with pytest.raises(UnsupportedError, match="DPP control 0x160 is not known"):
        sources(0x160)
