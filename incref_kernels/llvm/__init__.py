"""LLVM on this machine, for kernels that are compiled for its processor."""
