import pytest

from incref.workflow.arguments import as_arguments


@pytest.mark.parametrize(("given", "want"), [(None, ()), ((), ()), ([1, 2], (1, 2)), ("text", ("text",)), (0, (0,))])
def test_arguments(given: object, want: tuple[object, ...]) -> None:
    assert as_arguments(given) == want
