import pytest

from incref.config.maxabs import MaxAbsScale, ScaleValue


@pytest.mark.parametrize("backoff", [0.0, -1.0, 1.5])
def test_backoff_is_a_fraction(backoff: float) -> None:
    with pytest.raises(ValueError, match=r"backoff must be in \(0, 1\]"):
        MaxAbsScale(value=ScaleValue.ANY, backoff=backoff)


@pytest.mark.parametrize(
    ("value", "choices", "message"),
    [
        (ScaleValue.LISTED, (), "needs ascending choices"),
        (ScaleValue.BEST_LISTED, (2.0, 1.0), "needs ascending choices"),
        (ScaleValue.ANY, (1.0,), "has no choices"),
        (ScaleValue.FIXED, (1.0, 2.0), "a fixed scale is one"),
    ],
)
def test_choices_go_with_the_value(value: ScaleValue, choices: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaxAbsScale(value=value, choices=choices)
