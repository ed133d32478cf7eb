import pytest

from incref.formats import FORMATS, IntFormat
from incref.qtensor.scale_spec import ScaleRun, ScaleSpec


def integers(name: str) -> IntFormat:
    fmt = FORMATS[name]
    assert isinstance(fmt, IntFormat)
    return fmt


def test_shapes() -> None:
    rows = ScaleSpec(fmt=integers("int8"), group_size=10)
    assert rows.matrix_shape((4, 6)) == (1, 24)
    assert rows.step_shape((4, 6)) == (1, 3)
    columns = ScaleSpec(fmt=integers("int8"), group_size=3, run=ScaleRun.COLUMNS)
    assert columns.matrix_shape((4, 6)) == (6, 4)
    assert columns.step_shape((4, 6)) == (6, 2)
    with pytest.raises(ValueError, match=r"a matrix, got shape \(2, 3, 4\)"):
        columns.step_shape((2, 3, 4))


def test_json() -> None:
    spec = ScaleSpec(fmt=integers("uint6"), symmetric=False, group_size=8, run=ScaleRun.COLUMNS)
    assert ScaleSpec.from_json(spec.to_json()) == spec
    for wrong in (None, {}, {**spec.to_json(), "group_size": "8"}, {**spec.to_json(), "run": "diagonal"}):
        with pytest.raises(ValueError, match=r"diagonal|can't be quantized"):
            ScaleSpec.from_json(wrong)


@pytest.mark.parametrize(
    ("fmt", "symmetric", "size", "message"),
    [
        ("uint8", True, 1, "needs signed integers"),
        ("int8", False, 1, "needs unsigned integers"),
        ("int8", True, 0, "group_size of 0"),
    ],
)
def test_contradictions(fmt: str, symmetric: bool, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleSpec(fmt=integers(fmt), symmetric=symmetric, group_size=size)
