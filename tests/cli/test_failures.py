import pytest
import typer

from incref.cli.failures import reporting_failures
from incref.errors import LayerError


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (LayerError("fc1: too odd"), 1, "error: fc1: too odd\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: [Errno 2] No such file: 'x'\n"),
        (MemoryError(), 1, "error: the memory is not enough for this model; the float32 weights have to fit twice\n"),
        (KeyboardInterrupt(), 130, "interrupted. Go on later.\n"),
    ],
)
def test_message_and_code(capsys: pytest.CaptureFixture[str], failure: BaseException, code: int, message: str) -> None:
    with pytest.raises(typer.Exit) as exit_, reporting_failures(on_interrupt="Go on later."):
        raise failure
    assert exit_.value.exit_code == code
    assert capsys.readouterr() == ("", message)


def test_faults_of_the_program_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), reporting_failures():
        raise ZeroDivisionError
