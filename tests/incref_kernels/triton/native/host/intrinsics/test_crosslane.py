"""Each cross-lane instruction alone, against its definition in Python."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from incref_kernels.triton.native.host.intrinsics.crosslane import swizzle_source

Run = Callable[..., Tensor]
LANES = torch.arange(64, dtype=torch.int32)
VALUES = (LANES * 2654435 + 12345).int()


def test_update_dpp_reads_the_row_shifted_lane_and_zero_beyond(run_lanes: Run) -> None:
    got = run_lanes(
        "%y = call i32 @llvm.amdgcn.update.dpp.i32(i32 7, i32 %x, i32 257, i32 15, i32 15, i1 true)", VALUES
    )
    want = [VALUES[lane + 1].item() if lane % 16 < 15 else 0 for lane in range(64)]
    assert got.tolist() == want


def test_update_dpp_keeps_old_where_the_row_is_masked(run_lanes: Run) -> None:
    got = run_lanes(
        "%y = call i32 @llvm.amdgcn.update.dpp.i32(i32 7, i32 %x, i32 322, i32 10, i32 15, i1 false)", VALUES
    )
    want = [VALUES[lane // 16 * 16 - 1].item() if lane // 16 in {1, 3} else 7 for lane in range(64)]
    assert got.tolist() == want


def test_bpermute_takes_the_address_modulo_the_wave(run_lanes: Run) -> None:
    body = """
  %shifted = mul i32 %tid, 20
  %address = add i32 %shifted, 258
  %y = call i32 @llvm.amdgcn.ds.bpermute(i32 %address, i32 %x)"""
    assert run_lanes(body, VALUES).tolist() == [VALUES[(5 * lane + 64) % 64].item() for lane in range(64)]


def test_lanes_of_other_waves_are_not_read(run_lanes: Run) -> None:
    values = torch.arange(128, dtype=torch.int32)
    got = run_lanes("%y = call i32 @llvm.amdgcn.readlane.i32(i32 %x, i32 3)", values, waves=2)
    assert got.tolist() == [3] * 64 + [67] * 64


def test_readfirstlane_of_a_loaded_value(run_lanes: Run) -> None:
    values = torch.arange(128, dtype=torch.int32) + 5
    got = run_lanes("%y = call i32 @llvm.amdgcn.readfirstlane.i32(i32 %x)", values, waves=2)
    assert got.tolist() == [5] * 64 + [69] * 64


def test_readfirstlane_of_the_lane_number_needs_no_meeting(run_lanes: Run) -> None:
    body = """
  %warp = lshr i32 %tid, 6
  %y = call i32 @llvm.amdgcn.readfirstlane.i32(i32 %warp)"""
    assert run_lanes(body, torch.zeros(128, dtype=torch.int32), waves=2).tolist() == [0] * 64 + [1] * 64


def test_readfirstlane_of_the_lane_number_where_only_some_lanes_are(run_lanes: Run) -> None:
    body = """
  %high = icmp ugt i32 %tid, 40
  br i1 %high, label %some, label %end
some:
  %first = call i32 @llvm.amdgcn.readfirstlane.i32(i32 %tid)
  br label %end
end:
  %y = phi i32 [ %first, %some ], [ -1, %0 ]"""
    assert run_lanes(body, VALUES).tolist() == [-1] * 41 + [41] * 23


def test_ballot_has_a_bit_for_each_lane(run_lanes: Run) -> None:
    body = """
  %bit = trunc i32 %x to i1
  %mask = call i64 @llvm.amdgcn.ballot.i64(i1 %bit)
  %high = lshr i64 %mask, 32
  %upper = icmp ugt i32 %tid, 31
  %half = select i1 %upper, i64 %high, i64 %mask
  %y = trunc i64 %half to i32"""
    odd = VALUES & 1
    want = [sum(int(odd[32 * half + bit]) << bit for bit in range(32)) for half in range(2)]
    got = run_lanes(body, VALUES).tolist()
    assert {word & 0xFFFFFFFF for word in got[:32]} == {want[0]}
    assert {word & 0xFFFFFFFF for word in got[32:]} == {want[1]}


@pytest.mark.parametrize("mode", [0x8000 | 0b00_01_10_11, 0x1F | 1 << 10, 0x10, 0x1F | 3 << 5])
def test_swizzle(run_lanes: Run, mode: int) -> None:
    got = run_lanes(f"%y = call i32 @llvm.amdgcn.ds.swizzle(i32 %x, i32 {mode})", VALUES)
    assert got.tolist() == [VALUES[swizzle_source(lane, mode)].item() for lane in range(64)]


def test_swizzle_modes_by_hand() -> None:
    assert [swizzle_source(lane, 0x8000 | 0b00_01_10_11) for lane in range(4)] == [3, 2, 1, 0]
    assert [swizzle_source(lane, 0x1F | 1 << 10) for lane in (0, 1, 40)] == [1, 0, 41]
    assert [swizzle_source(lane, 0x10) for lane in (5, 21, 37)] == [0, 16, 32]


@pytest.mark.parametrize(("name", "width"), [("llvm.amdgcn.permlane16.swap", 16), ("llvm.amdgcn.permlane32.swap", 32)])
def test_permlane_swap_exchanges_odd_and_even_rows(run_lanes: Run, name: str, width: int) -> None:
    body = f"""
  %second = add i32 %x, 1000
  %pair = call {{ i32, i32 }} @{name}(i32 %x, i32 %second, i1 false, i1 false)
  %a = extractvalue {{ i32, i32 }} %pair, 0
  %b = extractvalue {{ i32, i32 }} %pair, 1
  %scaled = mul i32 %b, 10000
  %y = add i32 %a, %scaled"""
    first, second = LANES.tolist(), [1000 + lane for lane in range(64)]
    for lane in range(64):
        if lane & width:
            first[lane], second[lane ^ width] = second[lane ^ width], first[lane]
    assert run_lanes(body, LANES).tolist() == [a + 10000 * b for a, b in zip(first, second, strict=True)]


def test_mbcnt_counts_lanes_below(run_lanes: Run) -> None:
    body = """
  %low = call i32 @llvm.amdgcn.mbcnt.lo(i32 -1, i32 0)
  %y = call i32 @llvm.amdgcn.mbcnt.hi(i32 -1, i32 %low)"""
    assert run_lanes(body, VALUES).tolist() == list(range(64))


def test_an_exchange_in_a_loop_shows_each_lane_the_values_of_its_own_round(run_lanes: Run) -> None:
    body = """
  br label %loop
loop:
  %i = phi i32 [ 0, %0 ], [ %next, %loop ]
  %v = phi i32 [ %x, %0 ], [ %sum, %loop ]
  %right = call i32 @llvm.amdgcn.update.dpp.i32(i32 0, i32 %v, i32 308, i32 15, i32 15, i1 true)
  %sum = add i32 %v, %right
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, 5
  br i1 %more, label %loop, label %end
end:
  %y = add i32 %sum, 0"""
    want = VALUES.clone()
    for _ in range(5):
        want = want + want.roll(-1)
    assert torch.equal(run_lanes(body, VALUES), want)


def test_shared_memory_is_seen_after_the_barrier(run_lanes: Run) -> None:
    body = """
  %mine = getelementptr i32, ptr addrspace(3) @shared, i32 %tid
  store i32 %x, ptr addrspace(3) %mine
  call void @llvm.amdgcn.s.barrier()
  %mirrored = sub i32 127, %tid
  %other = getelementptr i32, ptr addrspace(3) @shared, i32 %mirrored
  %y = load i32, ptr addrspace(3) %other"""
    values = torch.arange(128, dtype=torch.int32)
    assert torch.equal(run_lanes(body, values, waves=2), values.flip(0))


def test_a_barrier_of_the_wave_makes_its_lanes_wait(run_lanes: Run) -> None:
    body = """
  %mine = getelementptr i32, ptr addrspace(3) @shared, i32 %tid
  store i32 %x, ptr addrspace(3) %mine
  call void @llvm.amdgcn.wave.barrier()
  %mirrored = sub i32 63, %tid
  %other = getelementptr i32, ptr addrspace(3) @shared, i32 %mirrored
  %y = load i32, ptr addrspace(3) %other"""
    assert torch.equal(run_lanes(body, VALUES), VALUES.flip(0))


def test_shared_memory_has_addresses_from_zero(run_lanes: Run) -> None:
    body = """
  %at = getelementptr i8, ptr addrspace(3) @shared, i32 %x
  %y = ptrtoint ptr addrspace(3) %at to i32"""
    assert torch.equal(run_lanes(body, LANES), LANES)


def test_permute_pushes_and_leaves_zero_where_nothing_arrives(run_lanes: Run) -> None:
    body = """
  %even = and i32 %tid, 62
  %address = shl i32 %even, 2
  %y = call i32 @llvm.amdgcn.ds.permute(i32 %address, i32 %x)"""
    assert run_lanes(body, VALUES).tolist() == [VALUES[lane + 1].item() if lane % 2 == 0 else 0 for lane in range(64)]


def test_a_fence_of_the_wave_makes_its_lanes_wait(run_lanes: Run) -> None:
    body = """
  %mine = getelementptr i32, ptr addrspace(3) @shared, i32 %tid
  store i32 %x, ptr addrspace(3) %mine
  fence syncscope("wavefront") acq_rel
  %mirrored = sub i32 63, %tid
  %other = getelementptr i32, ptr addrspace(3) @shared, i32 %mirrored
  %y = load i32, ptr addrspace(3) %other"""
    assert torch.equal(run_lanes(body, VALUES), VALUES.flip(0))
