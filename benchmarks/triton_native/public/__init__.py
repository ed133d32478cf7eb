"""Kernels that others wrote, from packages of the index, run on the CPU and compared with what PyTorch computes."""
