import pytest

from incref.errors import UnsupportedError

llvm = pytest.importorskip("llvmlite.binding", reason="llvmlite is not installed (extra `cpu`)")

from incref_kernels.llvm import engine  # noqa: E402

_SQUARE = """
define i32 @run(ptr %x, ptr %y) {
  %v = load i32, ptr %x
  %w = mul i32 %v, %v
  store i32 %w, ptr %y
  ret i32 7
}
"""


def test_an_older_llvm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "llvm_version_info", (15, 0, 7))
    with pytest.raises(UnsupportedError, match=r"needs LLVM 20 or newer.* has 15\.0\.7: pip install 'llvmlite>=0\.45'"):
        engine._machine.__wrapped__()


def test_text_that_llvm_does_not_accept_is_an_error_of_its_own() -> None:
    with pytest.raises(RuntimeError, match="does not accept the kernel"):
        engine.build(_SQUARE.replace("mul", "multiply"))


def test_a_function_that_is_nowhere_is_an_error() -> None:
    text = "declare void @nowhere_to_be_found()\n" + _SQUARE.replace(
        "ret i32 7", "call void @nowhere_to_be_found()\n  ret i32 7"
    )
    with pytest.raises(UnsupportedError, match="calls a function that is not there"):
        engine.load(engine.build(text))


def test_another_machine_gets_code_of_its_own() -> None:
    elf_machine = slice(18, 20)
    image = engine.build(_SQUARE, engine.machine_of("aarch64-linux-gnu"))
    assert int.from_bytes(image[elf_machine], "little") == 183
    assert "mul" in engine.assembly(_SQUARE)
