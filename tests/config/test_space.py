import pytest

from incref.config.space import check_value, combinations


def test_the_last_field_changes_fastest() -> None:
    assert [tuple(one.values()) for one in combinations({"a": [1, 2], "b": [3, 4], "c": [5]})] == [
        (1, 3, 5),
        (1, 4, 5),
        (2, 3, 5),
        (2, 4, 5),
    ]


def test_nothing_to_choose_is_one_combination() -> None:
    assert list(combinations({})) == [{}]


def test_a_list_is_copied_and_integers_become_floats() -> None:
    given: list[object] = [1, 0.5]
    checked = check_value("percdamp", float, given)
    assert checked == [1.0, 0.5]
    assert checked is not given
    assert [type(value) for value in checked] == [float, float]
    assert check_value("bits", int, 4) == 4


@pytest.mark.parametrize(("kind", "value"), [(int, True), (int, [4, "8"]), (bool, [1]), (str, 3), (int, (4, 8))])
def test_other_types_are_refused(kind: type, value: object) -> None:
    with pytest.raises(TypeError, match=f"field must be {kind.__name__}, got "):
        check_value("field", kind, value)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="bits must have a value to choose, got an empty list"):
        check_value("bits", int, [])
