"""Triton kernels on the CPU: how fast, and how right."""
