"""AMD's printf, by its own calls."""

from collections.abc import Callable

import pytest
from torch import Tensor

Run = Callable[..., Tensor]

FORMAT = """
@format = internal constant [13 x i8] c"lane %i: %u\\0A\\00"
"""


@pytest.mark.parametrize("begin", ["__ockl_printf_begin", "__ockl_fprintf_stderr_begin"])
def test_arguments_of_two_calls_are_printed_in_order(
    run_lanes: Run, capsys: pytest.CaptureFixture[str], begin: str
) -> None:
    none = ", ".join(["i64 0"] * 6)
    body = f"""
  %few = icmp ult i32 %tid, 2
  br i1 %few, label %print, label %end
print:
  %wide = zext i32 %tid to i64
  %handle = call i64 @{begin}({"i64 0" if begin == "__ockl_printf_begin" else ""})
  %taken = call i64 @__ockl_printf_append_string_n(i64 %handle, ptr @format, i64 13, i32 0)
  %more = call i64 @__ockl_printf_append_args(i64 %taken, i32 1, i64 %wide, {none}, i32 0)
  %last = call i64 @__ockl_printf_append_args(i64 %more, i32 1, i64 7, {none}, i32 1)
  br label %end
end:
  %y = add i32 %x, 0"""
    run_lanes(body, range(64), declare=FORMAT)
    assert capsys.readouterr().out.splitlines() == ["lane 0: 7", "lane 1: 7"]
