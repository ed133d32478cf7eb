"""Processes that all load one checkpoint again and again, while its file is damaged: `python loaders.py DIRECTORY`."""

import os
import sys
import traceback
from pathlib import Path

import torch

from incref.checkpoints.files import write_atomically
from incref.checkpoints.stamped import HPU_FILE, stamped_tensors

PROCESSES, TIMES = 4, 25
WANTED = {"w": torch.arange(5000, dtype=torch.float32).view(50, 100), "z": torch.zeros(0, dtype=torch.int32)}


def load(directory: Path, number: int) -> None:
    for i in range(TIMES):
        found = stamped_tensors(directory, HPU_FILE, "hpu/1", lambda: dict(WANTED))
        assert found.keys() == WANTED.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in WANTED.items())
        if i % PROCESSES == number:
            write_atomically(directory / HPU_FILE, (directory / HPU_FILE).read_bytes()[:-7])


def main(directory: Path) -> int:
    children = []
    for number in range(PROCESSES):
        if not (child := os.fork()):
            try:
                load(directory, number)
            except BaseException:  # noqa: BLE001  # what went wrong is told, and the child ends here
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return max(os.waitpid(child, 0)[1] for child in children)


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]))))
