"""Memory that is free goes back, even beneath what is still used."""

import platform
from pathlib import Path

import pytest
import torch

from incref.workflow.heap import trim_heap

MIB = 1 << 20


def anonymous() -> int:
    """Bytes of memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it")
def test_holes_are_handed_back() -> None:
    # What is freed in one piece of this size teaches the library to keep pieces below it.
    torch.ones(20 * MIB // 4)
    held = [torch.ones(MIB // 4) for _ in range(100)]
    del held[:-1]
    before = anonymous()
    trim_heap()
    assert anonymous() <= before - 50 * MIB


def test_more_than_once() -> None:
    trim_heap()
    trim_heap()
