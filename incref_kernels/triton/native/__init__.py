"""Run any Triton kernel on the CPU, compiled, without a GPU."""
