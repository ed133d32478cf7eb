from incref.numerics.granularity import PER_TENSOR, PER_TOKEN, per_block, per_channel, per_group
from incref_kernels.blocks import Blocks, blocks_of


def found(*numbers: int) -> Blocks:
    outer, rows, columns, row_extent, column_extent = numbers
    return Blocks(outer=outer, rows=rows, columns=columns, row_extent=row_extent, column_extent=column_extent)


def test_a_tensor_with_one_scale_is_one_row() -> None:
    assert blocks_of(PER_TENSOR, (3, 4, 5)) == found(1, 1, 60, 1, 60)


def test_vectors_with_a_scale_each_follow_one_another() -> None:
    assert blocks_of(PER_TOKEN, (3, 4, 5)) == found(1, 1, 60, 1, 5)


def test_channels_along_the_last_axis_are_columns() -> None:
    assert blocks_of(per_channel(-1), (4, 5)) == found(1, 4, 5, 4, 1)


def test_a_channel_in_the_middle_is_a_row_of_each_matrix() -> None:
    assert blocks_of(per_group(2, -2), (3, 4, 5)) == found(3, 4, 5, 2, 1)


def test_ragged_groups_keep_their_rows() -> None:
    assert blocks_of(per_group(4), (3, 6)) == found(1, 3, 6, 1, 4)


def test_squares_keep_both_extents() -> None:
    assert blocks_of(per_block((2, 3)), (7, 4, 5)) == found(7, 4, 5, 2, 3)


def test_three_cut_dimensions_have_no_such_form() -> None:
    assert blocks_of(per_block((2, 2, 2)), (4, 4, 4)) is None
