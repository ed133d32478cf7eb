"""`python -m incref_kernels.triton.native script.py ...`: run a script with all its Triton kernels on the CPU."""

import runpy
import sys

from incref_kernels.triton.native.install import installed

__all__ = ["main"]


def main() -> None:
    """Run the script that the command line names, as `python script.py ...` would."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m incref_kernels.triton.native script.py [arguments]")
    sys.argv = sys.argv[1:]
    with installed():
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
