"""Kernels in Triton, and the means to run them without a GPU."""
