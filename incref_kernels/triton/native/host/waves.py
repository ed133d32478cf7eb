"""The function that runs a wave: which stretch of code its lanes run next, and what happens while they wait."""

from collections.abc import Mapping, Sequence

from incref_kernels.triton.native.host.segments import Mask, Meet, stride

__all__ = ["APART", "DONE", "declared", "masked_wave", "state_of", "together"]

# What a wave returns when it is done, and when its lanes don't meet.
DONE = (1 << 30) - 1
APART = -1


def state_of(meet: Meet) -> int:
    """The number of the state that follows a meeting: odd where all waves wait."""
    return 2 * (meet.site + 1) + meet.all_waves


def declared(parameters: Sequence[str]) -> str:
    """The parameters of the functions of a wave."""
    return ", ".join(
        [
            *parameters,
            "ptr %ctx",
            "ptr %lds",
            "i32 %pid_x",
            "i32 %pid_y",
            "i32 %pid_z",
            "i32 %first",
            "ptr noalias %frame",
        ]
    )


def together(meet: Meet, homes: Mapping[str, int], label: str, mask: Mask | None = None) -> list[str]:
    """Write what happens while all lanes wait."""
    lines = []
    count = 0

    def address(place: str | int) -> str:
        nonlocal count
        count += 1
        name = f"%{label}.place{count}"
        start = homes[place] if isinstance(place, str) else place
        lines.append(f"  {name} = getelementptr i8, ptr %frame, i64 {start}")
        return name

    for copy in meet.copies:
        target, source = address(copy.target), address(copy.shown)
        size = stride(copy.kind)
        if mask is None or copy.of_all:
            lines.append(f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {64 * size}, i1 false)")
        else:
            lines.append(f"  call void @copy(ptr {target}, ptr {source}, ptr {address(mask.active)}, i64 {size})")
    for call in meet.calls:
        places = ", ".join(f"ptr {address(operand)}" for operand in call.operands)
        lines.append(f"  call void {call.function}({places})")
    return lines


def masked_wave(
    parameters: Sequence[str], mask: Mask, starts: Sequence[str], meets: Mapping[str, Meet], homes: Mapping[str, int]
) -> str:
    """Write `@wave` for lanes that may wait at different places.

    Of the places where lanes wait for their wave, the one that comes first in the code goes on, with the lanes that are
    there, until all are at one place again.
    """
    passed = declared(parameters).replace(" noalias", "")
    states = {start: state_of(meets[start]) if start in meets else 0 for start in starts}
    waits = " ".join(f"i32 {states[start]}, label %at.{start}" for start in meets if meets[start].all_waves)
    goes = " ".join(f"i32 {state}, label %at.{start}" for start, state in states.items() if state % 2 == 0)
    lines = [
        _MASKED_HELPERS.format(apart=APART, states=mask.states, active=mask.active, first=mask.first),
        f"define internal i32 @wave({declared(parameters)}, i32 %state) {{",
        "entry:",
        f"  switch i32 %state, label %begin [ {waits} ]",
        "begin:",
        f"  %states = getelementptr i8, ptr %frame, i64 {mask.states}",
        "  call void @llvm.memset.p0.i64(ptr %states, i8 0, i64 256, i1 false)",
        "  br label %dispatch",
        "dispatch:",
        "  %chosen = call i32 @choose(ptr %frame)",
        f"  switch i32 %chosen, label %wait [ {goes} ]",
        "wait:",
        "  ret i32 %chosen",
    ]
    for start in starts:
        lines.append(f"at.{start}:")
        if start in meets:
            lines += together(meets[start], homes, start, mask)
        lines += [f"  %ran.{start} = call i32 @region.{start}({passed})", "  br label %dispatch"]
    return "\n".join([*lines, "}"])


_MASKED_HELPERS = """
define internal void @copy(ptr %target, ptr %source, ptr %active, i64 %size) noinline {{
entry:
  br label %lanes
lanes:
  %lane = phi i64 [0, %entry], [%next, %lane.end]
  %distance = mul i64 %lane, %size
  %to = getelementptr i8, ptr %target, i64 %distance
  %from = getelementptr i8, ptr %source, i64 %distance
  %active.at = getelementptr i8, ptr %active, i64 %lane
  %bit = load i8, ptr %active.at
  %is.here = icmp ne i8 %bit, 0
  br i1 %is.here, label %here, label %elsewhere
here:
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  br label %lane.end
elsewhere:
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 %size, i1 false)
  br label %lane.end
lane.end:
  %next = add i64 %lane, 1
  %more = icmp ult i64 %next, 64
  br i1 %more, label %lanes, label %exit
exit:
  ret void
}}
define internal i32 @choose(ptr %frame) noinline {{
entry:
  %states = getelementptr i8, ptr %frame, i64 {states}
  %active = getelementptr i8, ptr %frame, i64 {active}
  %first.at = getelementptr i8, ptr %frame, i64 {first}
  %one = load i32, ptr %states
  br label %lanes
lanes:
  %lane = phi i32 [0, %entry], [%next, %lanes]
  %least = phi i32 [-1, %entry], [%least.now, %lanes]
  %differs = phi i32 [0, %entry], [%differs.now, %lanes]
  %at = getelementptr i32, ptr %states, i32 %lane
  %state = load i32, ptr %at
  %odd = and i32 %state, 1
  %is.even = icmp eq i32 %odd, 0
  %is.less = icmp ult i32 %state, %least
  %takes = and i1 %is.even, %is.less
  %least.now = select i1 %takes, i32 %state, i32 %least
  %change = xor i32 %state, %one
  %differs.now = or i32 %differs, %change
  %next = add i32 %lane, 1
  %more = icmp ult i32 %next, 64
  br i1 %more, label %lanes, label %decide
decide:
  %any.even = icmp ne i32 %least.now, -1
  %all.same = icmp eq i32 %differs.now, 0
  %wait = select i1 %all.same, i32 %one, i32 {apart}
  %chosen = select i1 %any.even, i32 %least.now, i32 %wait
  br label %marks
marks:
  %m = phi i32 [63, %decide], [%m.next, %marks]
  %lowest = phi i32 [0, %decide], [%lowest.now, %marks]
  %m.at = getelementptr i32, ptr %states, i32 %m
  %m.state = load i32, ptr %m.at
  %is.chosen = icmp eq i32 %m.state, %chosen
  %bit = zext i1 %is.chosen to i8
  %bit.at = getelementptr i8, ptr %active, i32 %m
  store i8 %bit, ptr %bit.at
  %lowest.now = select i1 %is.chosen, i32 %m, i32 %lowest
  %m.next = add i32 %m, -1
  %more.marks = icmp sge i32 %m.next, 0
  br i1 %more.marks, label %marks, label %exit
exit:
  store i32 %lowest.now, ptr %first.at
  ret i32 %chosen
}}
"""
