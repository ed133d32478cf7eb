import re

from incref_kernels.triton.native.host.render import render
from incref_kernels.triton.native.llir.parse_module import parse_module
from incref_kernels.triton.native.llir.scalars import scalarized

HEAD = "define amdgpu_kernel void @k(ptr addrspace(1) %0, <2 x i32> %1, i32 %2) {\n"


def taken_apart(body: str) -> list[str]:
    """The instructions of a kernel after that, its return left out."""
    kernel = parse_module(f"{HEAD}{body}\n  ret void\n}}\n").functions["@k"]
    return [render(inst).strip() for block in scalarized(kernel).blocks for inst in block.instructions[:-1]]


def test_an_operation_is_one_for_each_element() -> None:
    written = taken_apart("  %4 = add <2 x i32> %1, <i32 5, i32 6>\n  %5 = extractelement <2 x i32> %4, i64 1")
    assert written == [
        "%s.0 = extractelement <2 x i32> %v.1, i32 0",
        "%s.1 = extractelement <2 x i32> %v.1, i32 1",
        "%s.2 = add i32 %s.0, 5",
        "%s.3 = add i32 %s.1, 6",
        "%v.5 = select i1 true, i32 %s.3, i32 poison",
    ]


def test_a_vector_that_is_stored_is_put_together() -> None:
    *_, first, second, store = taken_apart(
        "  %4 = lshr <2 x i32> %1, splat (i32 3)\n  store <2 x i32> %4, ptr addrspace(1) %0, align 8"
    )
    assert re.fullmatch(r"(%s\.\d+) = insertelement <2 x i32> poison, i32 %s\.\d+, i32 0", first)
    assert re.fullmatch(r"%v\.4 = insertelement <2 x i32> %s\.\d+, i32 %s\.\d+, i32 1", second)
    assert store.startswith("store <2 x i32> %v.4, ptr %v.0")


def test_elements_are_moved_by_their_places() -> None:
    written = taken_apart(
        """  %4 = insertelement <2 x i32> <i32 7, i32 8>, i32 %2, i64 0
  %5 = shufflevector <2 x i32> %4, <2 x i32> zeroinitializer, <4 x i32> <i32 1, i32 poison, i32 2, i32 0>
  %6 = extractelement <4 x i32> %5, i64 0
  %7 = extractelement <4 x i32> %5, i64 1
  %8 = extractelement <4 x i32> %5, i64 2
  %9 = extractelement <4 x i32> %5, i64 3"""
    )
    values = [line.split("i32 ")[1].rstrip(", ") for line in written]
    assert values == ["8", "poison", "zeroinitializer", "%v.2"]


def test_one_bit_chooses_between_vectors() -> None:
    written = taken_apart(
        """  %4 = icmp eq i32 %2, 0
  %5 = select i1 %4, <2 x i32> <i32 1, i32 2>, <2 x i32> zeroinitializer
  %6 = extractelement <2 x i32> %5, i64 1"""
    )
    assert "%s.1 = select i1 %v.4, i32 2, i32 zeroinitializer" in written


def test_an_intrinsic_has_the_name_of_one_element() -> None:
    written = taken_apart(
        """  %4 = call <2 x i32> @llvm.umin.v2i32(<2 x i32> <i32 1, i32 2>, <2 x i32> splat (i32 3))
  %5 = extractelement <2 x i32> %4, i64 0"""
    )
    assert written[0] == "%s.0 = call i32 @llvm.umin.i32(i32 1, i32 3)"


def test_what_a_loop_carries_stays_a_vector() -> None:
    kernel = parse_module(
        HEAD
        + """  br label %l
l:
  %4 = phi <2 x i32> [ %1, %3 ], [ %5, %l ]
  %5 = add <2 x i32> %4, splat (i32 1)
  br i1 true, label %l, label %e
e:
  ret void
}
"""
    ).functions["@k"]
    instructions = scalarized(kernel).blocks[1].instructions
    assert [(inst.opcode, inst.result) for inst in instructions if inst.result and inst.result.startswith("%v.")] == [
        ("phi", "%v.4"),
        ("insertelement", "%v.5"),
    ]
    assert sum(inst.opcode == "add" for inst in instructions) == 2


def test_what_is_not_computed_element_by_element_stays() -> None:
    body = """  %4 = bitcast <2 x i32> %1 to <4 x i16>
  %5 = extractelement <2 x i32> %1, i32 %2
  %6 = add <32 x i8> zeroinitializer, zeroinitializer"""
    assert [line.split(" = ")[1].split()[0] for line in taken_apart(body)] == ["bitcast", "extractelement", "add"]
    assert len(taken_apart(body)) == 3


def test_elements_are_loaded_where_they_lie() -> None:
    body = """  %4 = load <2 x i32>, ptr addrspace(1) %0, align 16
  %5 = extractelement <2 x i32> %4, i64 1"""
    assert taken_apart(body) == [
        "%s.0 = getelementptr i8, ptr %v.0, i32 0",
        "%s.1 = load i32, ptr %s.0 , align 16",
        "%s.2 = getelementptr i8, ptr %v.0, i32 4",
        "%s.3 = load i32, ptr %s.2 , align 4",
        "%v.5 = select i1 true, i32 %s.3, i32 poison",
    ]


def test_a_vector_that_is_needed_whole_is_loaded_whole() -> None:
    body = """  %4 = load <2 x i32>, ptr addrspace(1) %0, align 8
  store <2 x i32> %4, ptr addrspace(1) %0, align 8
  %5 = load <8 x i1>, ptr addrspace(1) %0, align 1
  %6 = extractelement <8 x i1> %5, i64 1"""
    assert [line.split("ptr")[0] for line in taken_apart(body)] == [
        "%v.4 = load <2 x i32>, ",
        "store <2 x i32> %v.4, ",
        "%v.5 = load <8 x i1>, ",
        "%v.6 = extractelement <8 x i1> %v.5, i64 1",
    ]
