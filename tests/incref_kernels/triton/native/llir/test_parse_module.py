import pytest

from incref.errors import UnsupportedError
from incref_kernels.triton.native.llir.locations import source_line
from incref_kernels.triton.native.llir.parse_module import parse_module
from incref_kernels.triton.native.llir.types import ArrayType, IntType, PtrType, StructType, VectorType

HEAD = "define amdgpu_kernel void @k(ptr addrspace(1) inreg nofree captures(none) %0, i32 inreg %1) #0 !dbg !4 {\n"


def instructions(body: str) -> list[object]:
    return parse_module(HEAD + body + "\n  ret void\n}\n").functions["@k"].blocks[0].instructions


def test_promises_and_metadata_are_dropped() -> None:
    (add, *_) = instructions("  %3 = add nuw nsw i32 %1, 4, !dbg !12, !range !{i32 0, i32 4}")
    assert (add.opcode, add.result, str(add.type), add.location) == ("add", "%v.3", "i32", 12)
    assert [str(operand) for operand in add.operands] == ["i32 %v.1", "i32 4"]


def test_types_of_results_are_known() -> None:
    body = """
  %3 = icmp samesign ult <2 x i32> <i32 1, i32 2>, splat (i32 3)
  %4 = extractvalue { i32, [2 x i64] } zeroinitializer, 1
  %5 = cmpxchg ptr addrspace(1) %0, i32 1, i32 2 syncscope("agent") acq_rel monotonic, align 4
  %6 = shufflevector <2 x i8> poison, <2 x i8> poison, <4 x i32> zeroinitializer
  %7 = getelementptr inbounds nuw i8, ptr addrspace(1) %0, i64 4"""
    kinds = [inst.type for inst in instructions(body)[:5]]
    assert kinds == [
        VectorType(2, IntType(1)),
        ArrayType(2, IntType(64)),
        StructType((IntType(32), IntType(1))),
        VectorType(4, IntType(8)),
        PtrType(1),
    ]


def test_an_unknown_instruction_is_named() -> None:
    with pytest.raises(UnsupportedError, match="the instruction 'landingpad'"):
        instructions("  %3 = landingpad { ptr, i32 } cleanup")


def test_what_is_not_understood_is_shown_with_its_line() -> None:
    with pytest.raises(UnsupportedError, match=r"line 2 .* expected ',', got 'to' in '%3 = add i32 %1 to 4'"):
        instructions("  %3 = add i32 %1 to 4")


def test_a_character_that_starts_no_word_is_shown() -> None:
    with pytest.raises(UnsupportedError, match=r"line 2 .* is not understood: ' \+ 4"):
        instructions("  %3 = add i32 %1 + 4")


def test_an_argument_passed_in_memory_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="attribute 'byval'"):
        parse_module("declare void @f(ptr byval(i32) %0)")


def test_code_from_elsewhere_has_the_line_of_the_call() -> None:
    module = parse_module(
        """
!1 = !DIFile(filename: "k.py", directory: "/home")
!2 = distinct !DISubprogram(name: "k", scope: !1, file: !1, line: 8, unit: !0)
!3 = !DIFile(filename: "standard.py", directory: "/lib")
!4 = distinct !DILexicalBlockFile(scope: !2, file: !3, discriminator: 0)
!5 = !DILocation(line: 11, column: 7, scope: !2)
!6 = !DILocation(line: 196, column: 12, scope: !4, inlinedAt: !5)
"""
    )
    assert str(source_line(module, 6)) == "/home/k.py:11"
    assert str(source_line(module, None)) == "an unknown line"
